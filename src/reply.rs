//! The replies that the plugin makes itself, as one table: what went wrong, and the answer in WeChat's own shape
//! (`{"errcode":-1,"errmsg":"…"}`), so that a caller's WeChat library can read it. Texts are fixed: nothing that a
//! caller sent, no token and no secret is ever part of one.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::wechat::errcode;

/// Why a request gets no token and is answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The app that the caller named is not configured.
    UnknownApp,
    /// Header and query, or several query parameters, name different apps.
    AppConflict,
    /// No app was named, there are several, and none is the default.
    AppMissing,
    /// WeChat's answer would show the caller a token.
    ShowsToken,
    /// No token came within the waiting time.
    WaitTimeout,
    /// Too many requests are waiting already.
    WaitOverflow,
    /// WeChat refuses to hand out a token, and waiting does not help until somebody mends it.
    Refused {
        /// What WeChat said.
        errcode: Option<i64>,
    },
    /// There is no token, and fetching one fails for the time being.
    Unavailable,
    /// The host did not take the rewritten request.
    Internal,
}

/// A local reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Header names, in lower case, with their values.
    pub headers: Vec<(&'static str, String)>,
    /// A JSON object in WeChat's shape.
    pub body: String,
}

/// Who has to act, and so what the reply looks like.
enum Kind {
    /// The caller: 400, and trying again is useless.
    Caller,
    /// Nobody: 403, it is not meant to be had.
    Forbidden,
    /// Nobody: trying again later helps.
    Later,
    /// The operator; `retry-after` only if the caller of [`Rejection::reply`] knows when the next try is.
    Operator,
}

impl Rejection {
    /// Every reason that [`Rejection::reason`] can give, for metrics.
    pub const REASONS: [&'static str; 9] = [
        "unknown_app",
        "app_conflict",
        "app_missing",
        "shows_token",
        "wait_timeout",
        "wait_overflow",
        "refused",
        "unavailable",
        "internal",
    ];

    /// The reason in one word, for `x-wechat-token-error` and metric names.
    pub fn reason(&self) -> &'static str {
        self.row().0
    }

    /// Builds the reply. `unavailable` is the status that the app is configured with for want of a token; `retry_after`
    /// is the time until the next token call, if that is known, and is rounded up to whole seconds.
    pub fn reply(&self, unavailable: u16, retry_after: Option<Duration>) -> Reply {
        let (reason, kind, text) = self.row();
        let (status, retry_after) = match kind {
            Kind::Caller => (400, None),
            Kind::Forbidden => (403, None),
            Kind::Later => (unavailable, Some(retry_after.unwrap_or(SOON))),
            Kind::Operator => (unavailable, retry_after),
        };
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            ("x-wechat-token-error", reason.to_owned()),
        ];
        if let Some(span) = retry_after {
            headers.push(("retry-after", whole_seconds(span).to_string()));
        }
        let detail = self.detail();
        Reply {
            status,
            headers,
            body: format!(r#"{{"errcode":-1,"errmsg":"envoy-wechat-token: {text}{detail}"}}"#),
        }
    }

    /// The table. Texts need no escaping in JSON.
    fn row(&self) -> (&'static str, Kind, &'static str) {
        match self {
            Rejection::UnknownApp => (
                "unknown_app",
                Kind::Caller,
                "the app named by x-wechat-appid or from_appid is not configured",
            ),
            Rejection::AppConflict => (
                "app_conflict",
                Kind::Caller,
                "x-wechat-appid and from_appid name different apps; send one of them",
            ),
            Rejection::AppMissing => (
                "app_missing",
                Kind::Caller,
                "several apps are configured; name one with the header x-wechat-appid or the query parameter from_appid",
            ),
            Rejection::ShowsToken => (
                "shows_token",
                Kind::Forbidden,
                "WeChat's answer to this call may show an access_token; paths.allow_rid_info lets it through",
            ),
            Rejection::WaitTimeout => (
                "wait_timeout",
                Kind::Later,
                "no access_token came within the waiting time",
            ),
            Rejection::WaitOverflow => (
                "wait_overflow",
                Kind::Later,
                "too many requests are waiting for an access_token",
            ),
            Rejection::Refused { .. } => (
                "refused",
                Kind::Operator,
                "WeChat refuses to hand out an access_token",
            ),
            Rejection::Unavailable => (
                "unavailable",
                Kind::Later,
                "there is no access_token, and fetching one fails",
            ),
            Rejection::Internal => (
                "internal",
                Kind::Operator,
                "the request could not be rewritten; see Envoy's log",
            ),
        }
    }

    /// WeChat's errcode in words.
    fn detail(&self) -> String {
        let Rejection::Refused {
            errcode: Some(code),
        } = *self
        else {
            return String::new();
        };
        match errcode::lookup(code) {
            Some(entry) if entry.advice.is_empty() => {
                format!(" (errcode {code}: {})", entry.meaning)
            }
            Some(entry) => format!(" (errcode {code}: {}); {}", entry.meaning, entry.advice),
            None => format!(" (errcode {code})"),
        }
    }
}

/// `span` in seconds, rounded up, at least 1: `retry-after: 0` would mean at once.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs()
        .saturating_add(u64::from(span.subsec_nanos() > 0))
        .max(1)
}

/// When to come back if nobody knows better.
const SOON: Duration = Duration::from_secs(1);
