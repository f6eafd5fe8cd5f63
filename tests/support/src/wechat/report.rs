//! What the fake WeChat saw: counters, the log of token calls, the last calls, and the violations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tokens::TokenApi;

/// What the fake WeChat saw since it was started or reset. It holds no token and no secret.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Calls of any kind.
    pub requests: u64,
    /// Calls of endpoints that want the app's token.
    pub business_calls: u64,
    /// Those that were answered with success.
    pub business_ok: u64,
    /// Those that were answered with an errcode (also scripted ones), by errcode.
    pub business_errcodes: BTreeMap<i64, u64>,
    /// Calls of the token endpoints.
    pub token_calls: u64,
    /// The most token calls that one app had in flight at once.
    pub token_calls_in_flight_max: u32,
    /// The most token calls that were in flight at once, all apps together.
    #[serde(default)]
    pub token_calls_at_once_max: u32,
    /// Token calls that wait at the gate now.
    pub token_calls_held: u32,
    /// By app.
    pub apps: BTreeMap<String, AppReport>,
    /// By path and result: an errcode (`0` is success), `412`, or `fault:NAME`.
    pub endpoints: BTreeMap<String, BTreeMap<String, u64>>,
    /// By Host.
    pub hosts: BTreeMap<String, u64>,
    /// Faults that were applied, by name.
    pub faults: BTreeMap<String, u64>,
    /// Every token call, oldest first (at most 100,000).
    pub token_log: Vec<TokenCall>,
    /// What must never happen, oldest first (at most 1,000).
    pub violations: Vec<Violation>,
    /// How many violations there were.
    pub violations_total: u64,
}

/// One app's part of the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReport {
    /// Calls of the token endpoints.
    pub token_calls: u64,
    /// Those that made a new token.
    pub tokens_made: u64,
    /// The most token calls in flight at once.
    pub in_flight_max: u32,
    /// Business calls with one of its live tokens.
    pub business_live: u64,
    /// By the number of a live token, when it was used last, in milliseconds since the start.
    #[serde(default)]
    pub last_used_ms: BTreeMap<u64, u64>,
}

/// One call of a token endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCall {
    /// When it came, in milliseconds since the start.
    pub at_ms: u64,
    /// When its reply was ready or its caller was gone.
    pub ended_ms: Option<u64>,
    /// Which endpoint.
    pub api: TokenApi,
    /// The app as the caller named it.
    pub appid: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The token's number, where one was granted.
    pub token: Option<u64>,
    /// The `expires_in` that was told, in seconds.
    pub expires_in: Option<u64>,
}

/// What became of a token call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// In flight.
    Pending,
    /// A new token.
    Made,
    /// The current token once more.
    Same,
    /// An errcode.
    Refused(i64),
    /// A scripted fault.
    Fault(String),
    /// 412: no Content-Length.
    NoLength,
    /// The caller hung up before the reply.
    Abandoned,
}

/// Something that must never happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// When, in milliseconds since the start.
    pub at_ms: u64,
    /// Which rule.
    pub rule: Rule,
    /// The path.
    pub path: String,
    /// For people.
    pub detail: String,
    /// For [`Rule::ExpiredToken`]: milliseconds since the token's end.
    pub late_ms: Option<u64>,
}

/// The rules that a caller must never break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// More than one `access_token` in one request.
    TwoTokens,
    /// An app's token on an endpoint that takes none, or the user's own.
    TokenOnTokenFreePath,
    /// A token beside another kind of token (`component_access_token` and its like).
    TokenBesideForeignToken,
    /// Another app's token than the header `x-expect-appid` says.
    WrongApp,
    /// A token past its life.
    ExpiredToken,
    /// More token calls of one app in flight than allowed.
    ParallelTokenCalls,
    /// A token or a secret in a request header.
    LeakInHeader,
    /// An app's secret in a request's target, outside of the endpoints that take it.
    SecretInTarget,
    /// A Host that is not WeChat's.
    WrongHost,
}

/// One of the last calls; tokens and secrets are shortened unless it says otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// When, in milliseconds since the start.
    pub at_ms: u64,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers in the order of their arrival.
    pub headers: Vec<(String, String)>,
    /// Bytes in the body.
    pub body_bytes: u64,
    /// The body's CRC-32, as [`super::crc32`] writes it.
    #[serde(default)]
    pub body_crc32: String,
    /// Whose live token it carried.
    pub appid: Option<String>,
    /// That token's number.
    pub token: Option<u64>,
    /// What was answered, as in [`Report::endpoints`].
    pub result: String,
}

impl Call {
    /// A header's value; `None` where there is none of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|header| header.0 == name)
            .map(|header| header.1.as_str())
    }
}

impl Report {
    /// One app's part; all zero where nothing was seen.
    pub fn app(&self, appid: &str) -> AppReport {
        self.apps.get(appid).cloned().unwrap_or_default()
    }

    /// How often this errcode was answered to a business call.
    pub fn errcode(&self, errcode: i64) -> u64 {
        self.business_errcodes
            .get(&errcode)
            .copied()
            .unwrap_or_default()
    }

    /// How often this path was answered with this result (see [`Report::endpoints`]).
    pub fn count(&self, path: &str, result: &str) -> u64 {
        self.endpoints
            .get(path)
            .and_then(|results| results.get(result))
            .copied()
            .unwrap_or_default()
    }

    /// The violations, without expired tokens that were at most `tolerance_ms` late.
    pub fn violations_beyond(&self, tolerance_ms: u64) -> Vec<Violation> {
        let late =
            |violation: &&Violation| violation.late_ms.is_none_or(|late| late > tolerance_ms);
        self.violations.iter().filter(late).cloned().collect()
    }

    /// Panics, listing them, where there are violations.
    pub fn assert_clean(&self) {
        assert!(
            self.violations.is_empty(),
            "{} violations: {:#?}",
            self.violations_total,
            self.violations
        );
    }
}
