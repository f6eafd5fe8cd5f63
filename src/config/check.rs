//! From the document to the checked types: secrets are resolved, overrides merged, and the rules between fields checked.
//! Bounds of single values are not here: the types in `raw.rs` have them.

use std::collections::BTreeMap;

use super::fields::{span_text, Several, Text};
use super::mirrors::check_keys;
use super::node::{quoted, Later};
use super::raw::{
    Action, BackoffInitial, BackoffMax, DailyBudget, Jitter, Lead, OnBadApp, RawApp, RawConfig,
    RawOnUnavailable, RawRefresh, RawUpstream, RejectedInterval, Status, API_HOST, DEFAULT_CLUSTER,
};
use super::redis::redis;
use super::rules::{Appid, Host};
use super::secrets::{secrets, Env, SECRET_FORM};
use super::{
    App, CallerToken, Config, ConfigError, Hosts, OnUnavailable, Refresh, Role, TokenApi, Upstream,
    Wait,
};
use crate::time::millis;

/// Checks a whole document.
pub(super) fn config(raw: RawConfig, env: Env<'_>, role: Role) -> Result<Config, ConfigError> {
    let defaults = AppDefaults {
        caller_token: raw.caller_token.unwrap_or(CallerToken::Keep),
        on_unavailable: on_unavailable(
            &raw.on_unavailable,
            OnUnavailable::Fail(status_code(Status::default())),
        )
        .map_err(|error| error.in_field("on_unavailable"))?,
        refresh: refresh(&raw.refresh, &built_in_refresh())
            .map_err(|error| error.in_field("refresh"))?,
    };
    let hosts =
        hosts(raw.weixin.hosts).map_err(|error| error.in_field("hosts").in_field("weixin"))?;
    let listed = raw.apps.into_vec();
    let redis = raw
        .redis
        .map(|raw| redis(raw, env, role).map_err(|error| error.in_field("redis")))
        .transpose()?;
    let apps = Apps::read(&listed, raw.on_bad_app, |app| {
        check_app(app, &defaults, redis.is_some(), env, role)
    })?;
    if let Some(redis) = &redis {
        check_keys(&redis.access, listed.len(), &apps.kept)
            .map_err(|error| error.in_field("redis"))?;
    }
    let default_app = default_app(raw.default_app, listed.len(), &apps)?;
    Ok(Config {
        default_app,
        upstreams: upstreams(raw.weixin.upstreams),
        call_timeout: raw.weixin.timeout.duration(),
        hosts,
        excluded_paths: texts(raw.paths.exclude),
        allow_rid_info: raw.paths.allow_rid_info,
        wait: Wait {
            timeout: raw.wait.timeout.duration(),
            max_requests: usize::try_from(raw.wait.max_requests.number()).unwrap_or(usize::MAX),
        },
        watch: raw.watch,
        redis,
        apps: apps.kept,
        skipped: apps.skipped,
        skips_bad_apps: raw.on_bad_app == OnBadApp::Skip,
    })
}

/// What an app has where its own entry says nothing.
struct AppDefaults {
    caller_token: CallerToken,
    on_unavailable: OnUnavailable,
    refresh: Refresh,
}

/// The apps of a document, those that are used and those that are left out.
#[derive(Default)]
struct Apps {
    kept: Vec<App>,
    skipped: Vec<ConfigError>,
    /// For each of `kept` its place in the document.
    places: Vec<usize>,
    /// Appid to its place in `kept`.
    by_appid: BTreeMap<String, usize>,
    /// Name to its place in the document.
    by_name: BTreeMap<String, usize>,
    /// Appid to its place in `skipped`, as far as the entry tells it.
    left_out: BTreeMap<String, usize>,
}

impl Apps {
    fn read(
        listed: &[Later<RawApp>],
        on_bad_app: OnBadApp,
        check: impl Fn(RawApp) -> Result<App, ConfigError>,
    ) -> Result<Apps, ConfigError> {
        let mut apps = Apps::default();
        for (index, entry) in listed.iter().enumerate() {
            let added = entry
                .read()
                .and_then(&check)
                .and_then(|app| apps.add(app, index));
            let Err(error) = added else {
                continue;
            };
            let error = error.in_item(index).in_field("apps");
            if on_bad_app == OnBadApp::Refuse {
                return Err(error);
            }
            if let Some(appid) = entry.node().text_of("appid") {
                apps.left_out.insert(appid.to_owned(), apps.skipped.len());
            }
            apps.skipped.push(error);
        }
        match (apps.kept.is_empty(), apps.skipped.first()) {
            (true, Some(first)) => {
                let problem = format!("none is left, the first was left out because of {first}");
                Err(ConfigError::new("apps", problem))
            }
            _ => Ok(apps),
        }
    }

    fn add(&mut self, app: App, index: usize) -> Result<(), ConfigError> {
        let kept = self.by_appid.get(&app.appid);
        if let Some(other) = kept.and_then(|kept| self.places.get(*kept)) {
            return Err(taken("appid", &app.appid, *other));
        }
        if let Some(other) = self.by_name.get(&app.name) {
            return Err(taken("name", &app.name, *other));
        }
        self.by_appid.insert(app.appid.clone(), self.kept.len());
        self.places.push(index);
        self.by_name.insert(app.name.clone(), index);
        self.kept.push(app);
        Ok(())
    }
}

fn taken(field: &str, value: &str, other: usize) -> ConfigError {
    let problem = format!(
        "{} is that of apps[{other}] already; allowed: each {field} once",
        quoted(value)
    );
    ConfigError::new(field, problem)
}

fn check_app(
    raw: RawApp,
    defaults: &AppDefaults,
    is_shared: bool,
    env: Env<'_>,
    role: Role,
) -> Result<App, ConfigError> {
    if raw.token_api == TokenApi::Classic && !raw.sole_refresher && !is_shared {
        let problem = "\"classic\" needs redis or sole_refresher: true, because each call of that endpoint ends the token \
                       that another refresher holds; allowed: stable, or classic with one of them";
        return Err(ConfigError::new("token_api", problem.to_owned()));
    }
    let secrets = match raw.secret {
        _ if role == Role::Status => Vec::new(),
        Some(secret) => secrets(&secret, env).map_err(|error| error.in_field("secret"))?,
        None if role == Role::Injector => Vec::new(),
        None => {
            let problem = format!("is missing; allowed: {SECRET_FORM}");
            return Err(ConfigError::new("secret", problem));
        }
    };
    let appid = raw.appid.into_string();
    Ok(App {
        name: raw.name.map_or_else(|| appid.clone(), Text::into_string),
        appid,
        secrets,
        token_api: raw.token_api,
        caller_token: raw.caller_token.unwrap_or(defaults.caller_token),
        on_unavailable: on_unavailable(&raw.on_unavailable, defaults.on_unavailable)
            .map_err(|error| error.in_field("on_unavailable"))?,
        refresh: refresh(&raw.refresh, &defaults.refresh)
            .map_err(|error| error.in_field("refresh"))?,
    })
}

/// The place in the kept apps of the one for requests that name none.
///
/// The list as written decides whether an app is alone: were one of two left out, the other would get its calls.
fn default_app(
    named: Option<Text<Appid>>,
    listed: usize,
    apps: &Apps,
) -> Result<Option<usize>, ConfigError> {
    let Some(named) = named else {
        return Ok((listed == 1).then_some(0));
    };
    if let Some(place) = apps.by_appid.get(named.as_str()) {
        return Ok(Some(*place));
    }
    let left_out = apps
        .left_out
        .get(named.as_str())
        .and_then(|place| apps.skipped.get(*place));
    let why = match left_out {
        Some(error) => format!("was left out because of {error}"),
        None => "is not in apps; allowed: the appid of an app".to_owned(),
    };
    let problem = format!("{} {why}", quoted(named.as_str()));
    Err(ConfigError::new("default_app", problem))
}

fn on_unavailable(
    raw: &RawOnUnavailable,
    base: OnUnavailable,
) -> Result<OnUnavailable, ConfigError> {
    let action = raw.action.unwrap_or(match base {
        OnUnavailable::Fail(_) => Action::Fail,
        OnUnavailable::Pass => Action::Pass,
    });
    match (action, raw.status, base) {
        (Action::Pass, None, _) => Ok(OnUnavailable::Pass),
        (Action::Pass, Some(status), _) => {
            let problem = format!(
                "{} is given, but action is pass; allowed: a status with action fail only",
                status.number()
            );
            Err(ConfigError::new("status", problem))
        }
        (Action::Fail, Some(status), _) => Ok(OnUnavailable::Fail(status_code(status))),
        (Action::Fail, None, OnUnavailable::Fail(status)) => Ok(OnUnavailable::Fail(status)),
        (Action::Fail, None, OnUnavailable::Pass) => {
            Ok(OnUnavailable::Fail(status_code(Status::default())))
        }
    }
}

/// The bounds of [`Status`] fit.
fn status_code(status: Status) -> u16 {
    u16::try_from(status.number()).unwrap_or(503)
}

fn refresh(raw: &RawRefresh, base: &Refresh) -> Result<Refresh, ConfigError> {
    let backoff = &raw.backoff;
    let merged = Refresh {
        lead: raw.lead.map_or(base.lead, Lead::duration),
        jitter: raw.jitter.map_or(base.jitter, Jitter::duration),
        backoff_initial: backoff
            .initial
            .map_or(base.backoff_initial, BackoffInitial::duration),
        backoff_max: backoff.max.map_or(base.backoff_max, BackoffMax::duration),
        rejected_interval: raw
            .rejected_interval
            .map_or(base.rejected_interval, RejectedInterval::duration),
        daily_budget: raw
            .daily_budget
            .map_or(base.daily_budget, DailyBudget::number),
    };
    if merged.backoff_initial <= merged.backoff_max {
        return Ok(merged);
    }
    let problem = format!(
        "{} is above max, which is {}; allowed: up to max",
        span_text(millis(merged.backoff_initial)),
        span_text(millis(merged.backoff_max))
    );
    Err(ConfigError::new("backoff.initial", problem))
}

fn built_in_refresh() -> Refresh {
    Refresh {
        lead: Lead::default().duration(),
        jitter: Jitter::default().duration(),
        backoff_initial: BackoffInitial::default().duration(),
        backoff_max: BackoffMax::default().duration(),
        rejected_interval: RejectedInterval::default().duration(),
        daily_budget: DailyBudget::default().number(),
    }
}

fn upstreams<const MIN: usize, const MAX: usize>(
    raw: Option<Several<RawUpstream, MIN, MAX>>,
) -> Vec<Upstream> {
    let upstream = |cluster: String, authority: Option<Text<_>>| Upstream {
        cluster,
        authority: authority.map_or_else(|| API_HOST.to_owned(), Text::into_string),
    };
    match raw {
        Some(raw) => raw
            .into_vec()
            .into_iter()
            .map(|raw| upstream(raw.cluster.into_string(), raw.authority))
            .collect(),
        None => vec![upstream(DEFAULT_CLUSTER.to_owned(), None)],
    }
}

fn hosts<const MIN: usize, const MAX: usize>(
    raw: Option<Several<Text<Host>, MIN, MAX>>,
) -> Result<Hosts, ConfigError> {
    let names = match raw {
        Some(_) => texts(raw),
        None => vec![API_HOST.to_owned()],
    };
    match names.iter().position(|name| name == "*") {
        None => Ok(Hosts::Names(
            names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        )),
        Some(_) if names.len() == 1 => Ok(Hosts::Any),
        Some(index) => {
            let problem = "\"*\" is not alone; allowed: \"*\" alone, or host names".to_owned();
            Err(ConfigError::new("", problem).in_item(index))
        }
    }
}

fn texts<R, const MIN: usize, const MAX: usize>(
    raw: Option<Several<Text<R>, MIN, MAX>>,
) -> Vec<String> {
    raw.map(Several::into_vec)
        .unwrap_or_default()
        .into_iter()
        .map(Text::into_string)
        .collect()
}
