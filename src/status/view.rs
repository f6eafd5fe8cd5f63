//! The status as it is told: `/status.json` is this, written by serde. Times are spans, so that nobody's clock matters.

use serde::Serialize;

use super::{Note, Seen};
use crate::config::{App, Config, TokenApi};
use crate::lease::{lives, SLOT_FREE_AFTER};
use crate::time::{Millis, UnixMillis};
use crate::token::{Budget, Policy};
use crate::wechat::errcode;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    version: &'static str,
    /// Every app has a live token; those that nobody keeps do not count where bad apps are skipped.
    pub(super) ready: bool,
    apps: Vec<AppStatus<'a>>,
    /// What `on_bad_app: skip` left out, and why.
    skipped: Vec<String>,
}

#[derive(Debug, Serialize)]
struct AppStatus<'a> {
    appid: &'a str,
    name: &'a str,
    token_api: &'static str,
    /// In one word: `ok`, `failing` (the token lives, refreshing fails or who did it is gone), `starting`, `down`, `unkept` (no root took it: none
    /// knows its secret).
    state: &'static str,
    remaining_seconds: u64,
    generation: u64,
    last_refresh: Option<LastRefresh>,
    last_error: Option<LastError>,
    /// When the next call is due after a failure.
    retry_in_seconds: Option<u64>,
    breaker: &'static str,
    /// Calls left today; the classic endpoint's only.
    budget_left: Option<u32>,
    lease: Lease,
    /// None without Redis.
    redis: Option<Redis>,
}

#[derive(Debug, Serialize)]
struct LastRefresh {
    result: String,
    seconds_ago: u64,
}

#[derive(Debug, Serialize)]
struct LastError {
    seconds_ago: u64,
    errcode: Option<i64>,
    /// What the errcode means, and what can be done.
    meaning: Option<&'static str>,
    advice: Option<&'static str>,
    /// The words of the log line.
    detail: String,
}

#[derive(Debug, Serialize)]
struct Lease {
    holder: &'static str,
    term: u64,
    slot: u32,
    /// The holder gave a sign of life within the last second.
    alive: bool,
}

#[derive(Debug, Serialize)]
struct Redis {
    state: &'static str,
    /// How long it has been in this state; none before its first answer.
    for_seconds: Option<u64>,
    problem: Option<String>,
}

impl<'a> Status<'a> {
    pub(super) fn new(
        config: &'a Config,
        now: Millis,
        wall: UnixMillis,
        see: impl Fn(&str) -> Seen,
    ) -> Status<'a> {
        let apps: Vec<AppStatus<'a>> = config
            .apps
            .iter()
            .map(|app| AppStatus::new(config, app, see(&app.appid), now, wall))
            .collect();
        // Without secrets it does not see that an app was left out for want of one; but nobody keeps it then.
        let is_skipped = |app: &AppStatus<'_>| config.skips_bad_apps && app.state == UNKEPT;
        Status {
            version: env!("CARGO_PKG_VERSION"),
            ready: apps.iter().all(|app| app.is_ready() || is_skipped(app))
                && apps.iter().any(AppStatus::is_ready),
            skipped: config.skipped.iter().map(ToString::to_string).collect(),
            apps,
        }
    }

    /// The names of the apps that have no live token.
    pub(super) fn without_token(&self) -> impl Iterator<Item = &'a str> + '_ {
        let apps = self.apps.iter().filter(|app| !app.is_ready());
        apps.map(|app| app.name)
    }
}

impl<'a> AppStatus<'a> {
    fn new(
        config: &Config,
        app: &'a App,
        seen: Seen,
        now: Millis,
        wall: UnixMillis,
    ) -> AppStatus<'a> {
        let Seen {
            record,
            note:
                Note {
                    refreshed,
                    failed,
                    store,
                },
            last_beat,
        } = seen;
        let ago = |at: Millis| now.since(at).as_secs();
        let token = record.token.as_ref().filter(|token| token.is_live(now));
        // Calls that cannot even be sent leave no trouble in the record; and a holder that is gone tells nothing at all.
        let failed_at = failed.as_ref().map(|failed| failed.at);
        let is_silent = last_beat.is_none_or(|beat| now.since(beat) > SLOT_FREE_AFTER);
        let is_failing = record.trouble.is_some()
            || failed_at > refreshed.as_ref().map(|refreshed| refreshed.at)
            || is_silent;
        let lease = Lease {
            holder: match (record.term, record.holder.primary) {
                (0, _) => "none",
                (_, true) => "singleton",
                (_, false) => "worker",
            },
            term: record.term,
            slot: record.holder.slot,
            alive: lives(last_beat, now),
        };
        AppStatus {
            appid: &app.appid,
            name: &app.name,
            token_api: match app.token_api {
                TokenApi::Stable => "stable",
                TokenApi::Classic => "classic",
            },
            state: match (record.term, token.is_some(), is_failing) {
                (_, true, false) => "ok",
                (_, true, true) => "failing",
                (0, false, _) => UNKEPT,
                (_, false, false) if record.generation.0 == 0 => "starting",
                (_, false, _) => "down",
            },
            remaining_seconds: token.map_or(0, |token| token.deadline.since(now).as_secs()),
            generation: record.generation.0,
            last_refresh: refreshed.map(|refreshed| LastRefresh {
                seconds_ago: ago(refreshed.at),
                result: refreshed.result,
            }),
            last_error: failed.map(|failed| {
                let known = failed.errcode.and_then(errcode::lookup);
                LastError {
                    seconds_ago: ago(failed.at),
                    errcode: failed.errcode,
                    meaning: known.map(|known| known.meaning),
                    advice: known
                        .map(|known| known.advice)
                        .filter(|text| !text.is_empty()),
                    detail: failed.detail,
                }
            }),
            retry_in_seconds: record
                .trouble
                .map(|trouble| trouble.retry_at.since(now).as_secs()),
            breaker: match record.trouble {
                Some(trouble) if trouble.open => "open",
                _ => "closed",
            },
            budget_left: Budget::new(Policy::new(config, app).daily_budget, record.spent)
                .left(now, wall),
            lease,
            redis: config.redis.as_ref().map(|_| Redis {
                state: match &store {
                    None => "unknown",
                    Some(store) if store.problem.is_some() => "failed",
                    Some(_) => "ok",
                },
                for_seconds: store.as_ref().map(|store| ago(store.since)),
                problem: store.and_then(|store| store.problem),
            }),
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, "ok" | "failing")
    }
}

const UNKEPT: &str = "unkept";
