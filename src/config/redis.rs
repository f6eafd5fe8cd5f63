//! The `redis` block of the document: as the user writes it, and its rules.

use serde::Deserialize;

#[cfg(feature = "schema")]
use schemars::JsonSchema;

use super::fields::{Count, Span, Text};
use super::node::Later;
use super::raw::{RawSecret, Reserved};
use super::rules::{Cluster, KeyPrefix, RedisWord};
use super::secrets::{one_secret, Env};
use super::{ConfigError, Redis, WhenDown};
use crate::store::wire::Login;

/// Redis, where all Envoys agree on one token per app.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawRedis {
    /// Name of the cluster of Envoy whose listener hands the bytes on to Redis.
    #[cfg_attr(feature = "schema", schemars(extend("default" = DEFAULT_CLUSTER)))]
    cluster: Option<Text<Cluster>>,
    /// The ACL user; Redis's default user without it.
    #[cfg_attr(feature = "schema", schemars(with = "Option<RawSecret<RedisWord>>"))]
    username: Option<Later<RawSecret<RedisWord>>>,
    /// Its password.
    #[cfg_attr(feature = "schema", schemars(with = "Option<RawSecret<RedisWord>>"))]
    password: Option<Later<RawSecret<RedisWord>>>,
    /// Number of the database.
    #[serde(default)]
    database: Database,
    /// Time allowed for one request to Redis.
    #[serde(default)]
    timeout: StepTimeout,
    /// What the plugin's own keys begin with. All Envoys that shall agree have the same.
    #[cfg_attr(feature = "schema", schemars(extend("default" = DEFAULT_PREFIX)))]
    key_prefix: Option<Text<KeyPrefix>>,
    /// Reserved and not built yet: keys that are also written, for services that read the token from Redis.
    #[allow(dead_code)] // refused whenever it is there
    mirror: Option<Reserved>,
    /// Reserved and not built yet: taking over what others write to such keys.
    #[allow(dead_code)] // refused whenever it is there
    adopt: Option<Reserved>,
    /// What happens to a refresh that is due while Redis is silent: `stable` gets a token from `stable_token`, which ends
    /// nobody else's; `hold` makes no call, and the old token serves while it lives.
    #[serde(default)]
    when_down: WhenDown,
}

/// Checks the block.
pub(super) fn redis(raw: RawRedis, env: Env<'_>) -> Result<Redis, ConfigError> {
    let word = |raw: Option<Later<RawSecret<RedisWord>>>, field| {
        raw.map(|raw| one_secret(&raw, env).map_err(|error| error.in_field(field)))
            .transpose()
    };
    let username = word(raw.username, "username")?;
    let password = word(raw.password, "password")?;
    if username.is_some() && password.is_none() {
        let problem = "is given without password; allowed: both, or password alone".to_owned();
        return Err(ConfigError::new("username", problem));
    }
    Ok(Redis {
        cluster: text_or(raw.cluster, DEFAULT_CLUSTER),
        login: Login {
            username,
            password,
            database: raw.database.number(),
        },
        timeout: raw.timeout.duration(),
        key_prefix: text_or(raw.key_prefix, DEFAULT_PREFIX),
        when_down: raw.when_down,
    })
}

fn text_or<R>(text: Option<Text<R>>, default: &str) -> String {
    text.map_or_else(|| default.to_owned(), Text::into_string)
}

/// The cluster in the configurations that this project ships.
const DEFAULT_CLUSTER: &str = "wechat_redis";
const DEFAULT_PREFIX: &str = "wechat-token:";

/// Redis answers within a millisecond, and a lock holds for some of these: long ones make a fail-over slow.
type StepTimeout = Span<50, 10_000, 1_000>;
/// Redis's own bound is a matter of its configuration; 16 by default.
type Database = Count<0, 1_023, 0>;
