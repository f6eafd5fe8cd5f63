//! The document as the user writes it, field by field. Bounds of single values are in the types; rules between fields
//! are in the sibling `check.rs`. The JSON Schema and the README's table are generated from here, so a doc comment on
//! a field is what a user reads about it.

use serde::de::{Deserializer, Error};
use serde::Deserialize;

#[cfg(feature = "schema")]
use schemars::JsonSchema;

use super::fields::{Count, Rule, Several, Span, Text, TextVisitor};
use super::node::Later;
use super::redis::RawRedis;
use super::rules::{AppSecret, Appid, Authority, Cluster, EnvName, ExactPath, Host, Name};
use super::{CallerToken, TokenApi};

/// The configuration of envoy-wechat-token, the same for all roles.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(title = "envoy-wechat-token"))]
pub(crate) struct RawConfig {
    /// The WeChat apps; at least one. Each appid and each name once.
    #[cfg_attr(feature = "schema", schemars(with = "Several<RawApp, 1, MAX_APPS>"))]
    pub(crate) apps: Several<Later<RawApp>, 1, MAX_APPS>,
    /// Appid of the app whose token a request gets that names none. With one app in the list it is that app; with
    /// several and none named here, such a request is refused.
    pub(crate) default_app: Option<Text<Appid>>,
    /// Where WeChat is.
    #[serde(default)]
    pub(crate) weixin: RawWeixin,
    /// Which paths are left alone.
    #[serde(default)]
    pub(crate) paths: RawPaths,
    /// What happens to an `access_token` that the caller sent.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "keep")))]
    pub(crate) caller_token: Option<CallerToken>,
    /// Requests that wait for a token, per worker.
    #[serde(default)]
    pub(crate) wait: RawWait,
    /// What a caller gets while no token is to be had.
    #[serde(default)]
    pub(crate) on_unavailable: RawOnUnavailable,
    /// When and how often tokens are refreshed.
    #[serde(default)]
    pub(crate) refresh: RawRefresh,
    /// Look for rejected tokens in WeChat's answers, renew them and have Envoy send the request again. Needs
    /// `allow_on_headers_stop_iteration: true` beside `vm_config`.
    #[serde(default = "yes")]
    pub(crate) watch: bool,
    /// What happens when the entry of an app is wrong: the whole configuration is refused, or that app is left out
    /// and the log says so.
    #[serde(default)]
    pub(crate) on_bad_app: OnBadApp,
    /// Redis, where all Envoys agree on one token per app. Without it each Envoy keeps its own.
    pub(crate) redis: Option<RawRedis>,
}

/// One WeChat app.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawApp {
    /// The appid as WeChat knows it.
    pub(crate) appid: Text<Appid>,
    /// What metrics and logs call it, in place of the appid.
    pub(crate) name: Option<Text<Name>>,
    /// Which WeChat it belongs to; `wecom` is reserved and not built yet.
    #[serde(default)]
    #[allow(dead_code)] // there is one value, and every other is refused
    pub(crate) kind: Kind,
    /// The AppSecret, or a list of up to 4: the next is tried when WeChat says that one is wrong. The refresher needs it; an
    /// injector without it cannot take a refresher's place.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<super::schema::OneOrList<RawSecret<AppSecret>, MAX_SECRETS>>")
    )]
    pub(crate) secret: Option<Later<RawSecret<AppSecret>>>,
    /// Which endpoint hands out its tokens: `stable_token`, where any number of callers share one token, or the older
    /// `token`, where each call ends the token before.
    #[serde(default)]
    pub(crate) token_api: TokenApi,
    /// Says that nothing else calls the classic endpoint for this app; without `redis`, `classic` is refused without it.
    #[serde(default)]
    pub(crate) sole_refresher: bool,
    /// Who may use the app; everything but `any` is reserved and not built yet.
    #[serde(default)]
    #[allow(dead_code)] // there is one value, and every other is refused
    pub(crate) callers: Callers,
    /// Overrides `caller_token` for this app.
    pub(crate) caller_token: Option<CallerToken>,
    /// Overrides `on_unavailable` for this app, field by field.
    #[serde(default)]
    pub(crate) on_unavailable: RawOnUnavailable,
    /// Overrides `refresh` for this app, field by field.
    #[serde(default)]
    pub(crate) refresh: RawRefresh,
}

/// A secret: from the environment or in place, exactly one of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "R: Rule")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(bound = "R: Rule"))]
#[cfg_attr(feature = "schema", schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
pub(crate) struct RawSecret<R> {
    /// Name of an environment variable of Envoy that holds it; must also be in `vm_config.environment_variables.host_env_keys`.
    pub(crate) env: Option<Text<EnvName>>,
    /// The secret itself. Envoy's `/config_dump` shows it: prefer `env`.
    pub(crate) value: Option<Text<R>>,
}

/// Where WeChat is.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawWeixin {
    /// Clusters for token calls, in order of preference.
    #[cfg_attr(feature = "schema", schemars(extend("default" = [{"cluster": DEFAULT_CLUSTER, "authority": API_HOST}])))]
    pub(crate) upstreams: Option<Several<RawUpstream, 1, 8>>,
    /// Time allowed for one token call.
    #[serde(default)]
    pub(crate) timeout: CallTimeout,
    /// The `Host` values that are ours, compared without regard to case; one without a port matches every port. `["*"]` where the
    /// placement already fixes the destination.
    #[cfg_attr(feature = "schema", schemars(extend("default" = [API_HOST])))]
    pub(crate) hosts: Option<Several<Text<Host>, 1, 32>>,
}

/// A cluster for token calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawUpstream {
    /// Name of a cluster of Envoy.
    pub(crate) cluster: Text<Cluster>,
    /// The host name sent to it.
    #[cfg_attr(feature = "schema", schemars(extend("default" = API_HOST)))]
    pub(crate) authority: Option<Text<Authority>>,
}

/// Which paths are left alone.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawPaths {
    /// Exact paths without query that get no token, besides those of WeChat that need none.
    #[cfg_attr(feature = "schema", schemars(extend("default" = [])))]
    pub(crate) exclude: Option<Several<Text<ExactPath>, 0, 256>>,
    /// Lets `/cgi-bin/openapi/rid/get` have a token. WeChat's answer may show the request of an earlier error with its
    /// `access_token`; without this its caller gets 403. So does any other path with a segment `rid`.
    #[serde(default)]
    pub(crate) allow_rid_info: bool,
}

/// Requests that wait for a token, per worker.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawWait {
    /// Longest wait of one request.
    #[serde(default)]
    pub(crate) timeout: WaitTimeout,
    /// How many may wait at once.
    #[serde(default)]
    pub(crate) max_requests: MaxRequests,
}

/// What a caller gets while no token is to be had.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawOnUnavailable {
    /// `fail`: an error in WeChat's shape; `pass`: the request goes on without a token.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "fail")))]
    pub(crate) action: Option<Action>,
    /// HTTP status of the error; only with `fail`.
    pub(crate) status: Option<Status>,
}

/// When and how often tokens are refreshed.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawRefresh {
    /// How long before its end a token is refreshed; half of the token's lifetime at most.
    pub(crate) lead: Option<Lead>,
    /// A random part of this is taken off `lead`, so that many Envoys do not call at once.
    pub(crate) jitter: Option<Jitter>,
    /// Pauses after failed calls.
    #[serde(default)]
    pub(crate) backoff: RawBackoff,
    /// At most one refresh caused by a rejected token in this time.
    pub(crate) rejected_interval: Option<RejectedInterval>,
    /// Token calls a day on the classic endpoint.
    pub(crate) daily_budget: Option<DailyBudget>,
}

/// Pauses after failed calls: they double from `initial` to `max`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) struct RawBackoff {
    /// The first pause; not above `max`.
    pub(crate) initial: Option<BackoffInitial>,
    /// The longest pause.
    pub(crate) max: Option<BackoffMax>,
}

/// Which WeChat an app belongs to.
#[derive(Clone, Copy, Default)]
#[cfg_attr(feature = "schema", derive(JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "lowercase"))]
pub(crate) enum Kind {
    /// Official accounts, mini programs and mini games.
    #[default]
    Weixin,
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
        let word = deserializer.deserialize_str(TextVisitor("weixin"))?;
        match word.as_str() {
            "weixin" => Ok(Kind::Weixin),
            "wecom" => Err(Error::custom(
                "\"wecom\" is reserved and not built yet; allowed: weixin",
            )),
            other => Err(Error::unknown_variant(other, &["weixin"])),
        }
    }
}

/// Who may use an app.
#[derive(Clone, Copy, Default)]
#[cfg_attr(feature = "schema", derive(JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "lowercase"))]
pub(crate) enum Callers {
    /// Whoever reaches this Envoy.
    #[default]
    Any,
}

impl<'de> Deserialize<'de> for Callers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Callers, D::Error> {
        match deserializer.deserialize_str(TextVisitor("any")) {
            Ok(word) if word == "any" => Ok(Callers::Any),
            _ => Err(Error::custom(
                "every value but \"any\" is reserved and not built yet; allowed: any",
            )),
        }
    }
}

/// What a caller gets while no token is to be had.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub(crate) enum Action {
    /// An error in WeChat's shape.
    Fail,
    /// The request goes on without a token.
    Pass,
}

/// What happens when the entry of an app is wrong.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(JsonSchema, serde::Serialize))]
pub(crate) enum OnBadApp {
    /// The whole configuration is refused.
    #[default]
    Refuse,
    /// That app is left out, and the log says so.
    Skip,
}

fn yes() -> bool {
    true
}

/// Bounds the work of one configuration; more do not fit into a document of 1 MiB either.
pub(crate) const MAX_APPS: usize = 10_000;
/// Secrets that are tried in turn: an old and a new one, and room for an accident.
pub(crate) const MAX_SECRETS: usize = 4;
/// Where WeChat's API is.
pub(crate) const API_HOST: &str = "api.weixin.qq.com";
/// The cluster for token calls in the configurations that this project ships.
pub(crate) const DEFAULT_CLUSTER: &str = "wechat_token";

/// Below 100 ms no call over the internet succeeds; above a minute a hanging endpoint goes unnoticed for too long.
pub(crate) type CallTimeout = Span<100, 60_000, 5_000>;
/// Up to a minute, past which callers have given up themselves.
pub(crate) type WaitTimeout = Span<10, 60_000, 5_000>;
/// Zero would answer every first call with an error.
pub(crate) type MaxRequests = Count<1, 1_000_000, 1024>;
/// A local error is a server error: callers take 4xx for their own fault and do not try again.
pub(crate) type Status = Count<500, 599, 503>;
/// Tokens live 2 hours, and the stable endpoint has a new one only in the last 5 minutes. Zero for tests in which time is scaled.
pub(crate) type Lead = Span<0, 3_600_000, 300_000>;
/// See [`Lead`].
pub(crate) type Jitter = Span<0, 3_600_000, 60_000>;
/// Never a tight loop.
pub(crate) type BackoffInitial = Span<100, 300_000, 1_000>;
/// An hour without a try is half of a token's life.
pub(crate) type BackoffMax = Span<100, 3_600_000, 60_000>;
/// Shorter, a caller's own wrong tokens could burn the quota; longer than an hour is as good as never.
pub(crate) type RejectedInterval = Span<10_000, 3_600_000, 60_000>;
/// WeChat allows 2,000 calls a day; half of it leaves room for a second environment.
pub(crate) type DailyBudget = Count<1, 2_000, 1_000>;
