//! The configuration that all roles take: one document, JSON or a serialized `google.protobuf.Struct`, parsed strictly
//! into types that have no invalid value.
//!
//! `Config::parse` reads the document (unknown fields are errors), resolves secrets through the environment that is
//! passed in, and checks every bound. What is wrong is a [`ConfigError`] that names the field, the value and what is
//! allowed; a secret's value is never part of it.

mod check;
mod fields;
mod mirrors;
mod node;
mod protobuf;
mod raw;
mod redis;
mod rules;
#[cfg(feature = "schema")]
pub mod schema;
mod secrets;

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

pub(crate) use self::node::quoted;
use self::raw::RawConfig;
use crate::json::Node;
use crate::secret::Secret;
use crate::store::wire::Access;

/// Longest document in bytes; 1,000 apps with everything set need half of it.
pub const MAX_DOCUMENT: usize = 1 << 20;

/// Which of the two root contexts a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Calls the token endpoint: every app needs a secret.
    Refresher,
    /// Injects tokens: an app may be without a secret, and then another must refresh it.
    Injector,
    /// Shows the status: whatever secrets there are, it has none of them.
    Status,
}

/// Everything the plugin needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// At least one, appids are unique.
    pub apps: Vec<App>,
    /// Index into `apps`; `None` when there are several and none was named.
    pub default_app: Option<usize>,
    /// Where token calls go, in order of preference; at least one.
    pub upstreams: Vec<Upstream>,
    /// Time allowed for one token call.
    pub call_timeout: Duration,
    /// The `Host` values that are ours.
    pub hosts: Hosts,
    /// Paths (exact, without query) that are left alone besides the built-in token-free ones.
    pub excluded_paths: Vec<String>,
    /// Whether the call that may show tokens of earlier calls gets one.
    pub allow_rid_info: bool,
    /// How long and how many requests may wait for a token, per worker.
    pub wait: Wait,
    /// Look for rejected tokens in answers.
    pub watch: bool,
    /// The store that all Envoys share, if there is one.
    pub redis: Option<Redis>,
    /// Apps left out under `on_bad_app: skip`, with what was wrong; the caller logs them.
    pub skipped: Vec<ConfigError>,
    /// `on_bad_app: skip`: what is wrong with an app shall hinder no other one.
    pub skips_bad_apps: bool,
}

impl Role {
    /// The role of a root with this root id.
    pub fn of(root_id: &str) -> Option<Role> {
        Some(match root_id {
            "refresher" => Role::Refresher,
            "injector" => Role::Injector,
            "status" => Role::Status,
            _ => return None,
        })
    }

    /// The root id.
    pub fn name(self) -> &'static str {
        match self {
            Role::Refresher => "refresher",
            Role::Injector => "injector",
            Role::Status => "status",
        }
    }
}

impl Config {
    /// Reads and checks `document`, the bytes that Envoy hands over for `configuration`: JSON from a `StringValue`, protobuf
    /// from a `Struct`. `env` looks an environment variable up.
    ///
    /// # Errors
    /// The first thing that is wrong, by its path in the document. Under `on_bad_app: skip` what is wrong within the
    /// entry of an app is in [`Config::skipped`] instead, as long as an app is left.
    pub fn parse(
        document: &[u8],
        env: &dyn Fn(&str) -> Option<String>,
        role: Role,
    ) -> Result<Config, ConfigError> {
        let whole = |problem: String| ConfigError::new("", format!("the configuration {problem}"));
        if document.len() > MAX_DOCUMENT {
            return Err(whole(format!(
                "has {} bytes; allowed: up to {MAX_DOCUMENT}",
                document.len()
            )));
        }
        // An empty `Struct` has no bytes either.
        if document.is_empty() {
            let problem = "is missing, the configuration is empty".to_owned();
            return Err(ConfigError::new("apps", problem));
        }
        let document: Node = if protobuf::is_struct(document) {
            protobuf::read(document)
                .map_err(|fault| whole(format!("is not a google.protobuf.Struct: {fault}")))?
        } else {
            serde_json::from_slice(document)
                .map_err(|error| whole(format!("is not JSON: {error}")))?
        };
        let raw =
            RawConfig::deserialize(&document).map_err(|error| match error.field.as_str() {
                "" => whole(error.problem),
                _ => error,
            })?;
        check::config(raw, env, role)
    }
}

/// One WeChat app and how its token is kept.
#[derive(Clone, Debug)]
pub struct App {
    /// The appid as WeChat knows it.
    pub appid: String,
    /// What metrics and logs call it: `name`, or else the appid.
    pub name: String,
    /// AppSecrets in the order in which they are tried. Empty on an injector that has none.
    pub secrets: Vec<Secret>,
    /// Which endpoint hands out its tokens.
    pub token_api: TokenApi,
    /// What happens to an `access_token` that the caller sent.
    pub caller_token: CallerToken,
    /// What a caller gets while no token is to be had.
    pub on_unavailable: OnUnavailable,
    /// When and how often its token is refreshed.
    pub refresh: Refresh,
}

/// WeChat's two token endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
pub enum TokenApi {
    /// `POST /cgi-bin/stable_token`: the same token until its last 5 minutes; safe with many callers.
    #[default]
    Stable,
    /// `GET /cgi-bin/token`: every call makes a new token and ends the previous one.
    Classic,
}

/// What happens to an `access_token` that the caller sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CallerToken {
    /// The request is passed as it is.
    Keep,
    /// Ours takes its place.
    Replace,
}

/// What a caller gets while no token is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnavailable {
    /// A local reply with this status (500 to 599).
    Fail(u16),
    /// The request goes on without a token.
    Pass,
}

/// When and how often a token is refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// How long before its end a token is refreshed.
    pub lead: Duration,
    /// A random part of this is taken off the lead, so that many Envoys do not call at once.
    pub jitter: Duration,
    /// First and longest pause after a failed call.
    pub backoff_initial: Duration,
    /// See `backoff_initial`.
    pub backoff_max: Duration,
    /// At most one refresh caused by a rejected token in this time.
    pub rejected_interval: Duration,
    /// Token calls a day on the classic endpoint.
    pub daily_budget: u32,
}

/// A cluster for token calls and the `:authority` to use there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Envoy's cluster name.
    pub cluster: String,
    /// Host name sent to it.
    pub authority: String,
}

/// The `Host` values that are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// `["*"]`: the placement already fixes the destination.
    Any,
    /// Lower-case names, some with `:port`. A name without a port matches every port.
    Names(Vec<String>),
}

/// Redis as the store that all Envoys share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// The cluster of the listener that hands bytes on to Redis.
    pub cluster: String,
    /// Who we are to Redis, and which keys there are.
    pub access: Access,
    /// Time allowed for one step.
    pub timeout: Duration,
    /// A newer token that somebody else wrote to a mirror is taken over.
    pub adopt: bool,
    /// What happens while Redis is silent.
    pub when_down: WhenDown,
}

/// What happens to a refresh that is due while Redis is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
pub enum WhenDown {
    /// A token of `stable_token`, which ends nobody else's.
    #[default]
    Stable,
    /// None is made: the old one serves while it lives.
    Hold,
}

/// Bounds for requests that wait for a token, per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Longest wait of one request.
    pub timeout: Duration,
    /// How many may wait at once.
    pub max_requests: usize,
}

/// What is wrong with a configuration: the field by its path, and the value with what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Path of the field, for example `apps[1].secret.env`; empty for the document itself.
    pub field: String,
    /// What was found and what is allowed, in lower case without a full stop.
    pub problem: String,
}

impl ConfigError {
    fn new(field: &str, problem: String) -> ConfigError {
        ConfigError {
            field: field.to_owned(),
            problem,
        }
    }

    /// The same, seen from the object that holds `field`.
    fn in_field(self, field: &str) -> ConfigError {
        let joint = match self.field.as_str() {
            "" => "",
            inner if inner.starts_with('[') => "",
            _ => ".",
        };
        ConfigError {
            field: format!("{field}{joint}{}", self.field),
            problem: self.problem,
        }
    }

    /// The same, seen from the list whose item `index` it is about.
    fn in_item(self, index: usize) -> ConfigError {
        self.in_field(&format!("[{index}]"))
    }
}

/// A problem that says that `form` is allowed, in place of the `object` that the parser knows alone.
fn allowing(problem: String, object: &str, form: &str) -> String {
    match problem.strip_suffix(object) {
        Some(found) => [found, form].concat(),
        None => problem,
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "{}: {}", self.field, self.problem)
        }
    }
}

impl std::error::Error for ConfigError {}
