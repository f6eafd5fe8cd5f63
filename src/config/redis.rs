//! The `redis` block of the document: as the user writes it, and its rules.

use serde::Deserialize;

#[cfg(feature = "schema")]
use schemars::JsonSchema;

use super::fields::{Count, Several, Span, Text};
use super::mirrors::mirrors;
use super::node::Later;
use super::raw::RawSecret;
use super::rules::{Cluster, KeyPrefix, MirrorKey, RedisWord};
use super::secrets::{one_secret, Env};
use super::{ConfigError, Redis, Role, WhenDown};
use crate::store::mirror::Format;
use crate::store::wire::{Access, Login};

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
    /// Keys that the token is also written to, for services beside the mesh that read it from Redis: a key, or an object.
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<Several<super::schema::TextOr<MirrorKey, RawMirror>, 0, MAX_MIRRORS>>"
        )
    )]
    #[cfg_attr(feature = "schema", schemars(extend("default" = [])))]
    mirror: Option<Several<Later<RawMirror>, 0, MAX_MIRRORS>>,
    /// Take over a token that somebody else wrote to such a key: a service that still refreshes by itself. Whoever may write the
    /// key decides then which token the mesh uses.
    #[serde(default)]
    adopt: bool,
    /// What happens to a refresh that is due while Redis is silent: `stable` gets a token from `stable_token`, which ends
    /// nobody else's; `hold` makes no call, and the old token serves while it lives.
    #[serde(default)]
    when_down: WhenDown,
}

/// A key for services beside the mesh.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawMirror {
    /// The key; `{appid}` stands for the app's own and is needed where there is more than one app.
    pub(super) key: Text<MirrorKey>,
    /// How the token is written: `plain`, `json` (in quotes: wechatpy), `kryo5` (WxJava on Redisson with its default codec).
    #[serde(default)]
    pub(super) format: Format,
    /// The key's longest time to live. Without it the key lives as long as the token.
    pub(super) ttl: Option<MirrorTtl>,
    /// A second key that holds the token's end in Unix seconds (wechatpy 2).
    pub(super) expires_at_key: Option<Text<MirrorKey>>,
}

/// Checks the block; the keys for neighbours wait for [`mirrors`].
pub(super) fn redis(mut raw: RawRedis, env: Env<'_>, role: Role) -> Result<Redis, ConfigError> {
    if role == Role::Status {
        (raw.username, raw.password) = (None, None);
    }
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
    let mirrors = mirrors(raw.mirror).map_err(|error| error.in_field("mirror"))?;
    if raw.adopt && mirrors.is_empty() {
        let problem = "is true without mirror, so there is nothing to take over; allowed: false, or mirror with a key".to_owned();
        return Err(ConfigError::new("adopt", problem));
    }
    Ok(Redis {
        cluster: text_or(raw.cluster, DEFAULT_CLUSTER),
        access: Access {
            login: Login {
                username,
                password,
                database: raw.database.number(),
            },
            key_prefix: text_or(raw.key_prefix, DEFAULT_PREFIX),
            mirrors,
        },
        timeout: raw.timeout.duration(),
        adopt: raw.adopt,
        when_down: raw.when_down,
    })
}

fn text_or<R>(text: Option<Text<R>>, default: &str) -> String {
    text.map_or_else(|| default.to_owned(), Text::into_string)
}

/// The cluster in the configurations that this project ships.
const DEFAULT_CLUSTER: &str = "wechat_redis";
const DEFAULT_PREFIX: &str = "wechat-token:";

/// Each is read with every step: enough for the libraries of a company, and little for Redis.
pub(super) const MAX_MIRRORS: usize = 16;
/// See [`RawMirror::ttl`]; tokens live for two hours.
pub(super) type MirrorTtl = Span<1_000, 7_200_000, 7_200_000>;
/// Redis answers within a millisecond, and a lock holds for some of these: long ones make a fail-over slow.
type StepTimeout = Span<50, 10_000, 1_000>;
/// Redis's own bound is a matter of its configuration; 16 by default.
type Database = Count<0, 1_023, 0>;
