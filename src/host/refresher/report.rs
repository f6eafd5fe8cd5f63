//! What logs and metrics say of the tokens.

use std::time::Duration;

use log::{info, log, warn, Level};

use super::{of_app, Refresher};
use crate::config::App;
use crate::host::metrics::Metrics;
use crate::host::slot::Slot;
use crate::host::{Cas, Host};
use crate::metrics::{errcode_label, Metric};
use crate::status::{note_key, Failed, Note, Refreshed};
use crate::time::{Millis, UnixMillis};
use crate::token::{Machine, Report};

const NO_REPLY: &str = "unreachable=\"the reply never came\"";

impl Refresher {
    pub(super) fn report<H: Host>(
        &mut self,
        host: &H,
        metrics: &mut Metrics,
        app: usize,
        entry: &App,
        report: Report,
        why: &str,
    ) {
        let now = host.now();
        let Some(kept) = of_app(&mut self.kept, app) else {
            return;
        };
        // Only a timer notices that an answer does not come at all, and it has no words for it.
        let why = match report {
            Report::Failed | Report::StoreLost if why.is_empty() => NO_REPLY,
            _ => why,
        };
        let machine = kept.keeper.machine();
        let generation = machine.generation();
        let left = seconds_left(machine, now);
        let name = &entry.name;
        let wait = machine.next_wakeup().since(now).as_secs();
        let mut errcode = None;
        let result = match report {
            Report::Renewed | Report::Same | Report::Adopted => {
                let result = match report {
                    Report::Renewed => "renewed",
                    Report::Adopted => "adopted",
                    _ => "same",
                };
                info!("event=token_{result} app={name} generation={generation} lives_s={left} next_refresh_s={wait}");
                result
            }
            Report::Failed => {
                warn!(
                    "event=refresh_failed app={name} {why} old_token_lives_s={left} retry_s={wait}"
                );
                errcode = machine.trouble().and_then(|trouble| trouble.errcode);
                "failed"
            }
            Report::RejectedRefresh | Report::RejectedLimited => {
                let action = match report {
                    Report::RejectedRefresh => "refresh",
                    _ => "none reason=limit",
                };
                warn!("event=token_rejected app={name} generation={generation} action={action}");
                return;
            }
            Report::StoreLost => {
                // Redis has failed for all apps at once: one of them says so, the others at a level for those who look.
                let level = once_a_second(&mut self.redis_failed_at, now, Level::Warn);
                log!(
                    level,
                    "event=redis_failed app={name} {why} old_token_lives_s={left}"
                );
                change_note(host, &entry.appid, |note| note.set_store(now, Some(why)));
                return;
            }
            Report::StoreBack => {
                let level = once_a_second(&mut self.redis_back_at, now, Level::Info);
                log!(level, "event=redis_back app={name}");
                change_note(host, &entry.appid, |note| note.set_store(now, None));
                return;
            }
            Report::NeighbourFollowed | Report::NeighbourIgnored => {
                let result = match report {
                    Report::NeighbourFollowed => "adopted",
                    _ => "ignored",
                };
                warn!("event=neighbour_seen app={name} result={result} generation={generation} lives_s={left}");
                metrics.add(Metric::NeighboursSeen, &[name, result], 1);
                return;
            }
            Report::MirrorRefused => {
                warn!("event=mirror_failed app={name} {why}");
                return;
            }
            Report::BudgetSpent | Report::NotSent | Report::Withheld => {
                let result = match report {
                    Report::BudgetSpent => "budget_spent",
                    Report::Withheld => "withheld",
                    _ => "calls_not_sent",
                };
                warn!("event={result} app={name} old_token_lives_s={left} retry_s={wait}");
                result
            }
        };
        metrics.add(
            Metric::Refreshes,
            &[name, result, &errcode_label(errcode)],
            1,
        );
        change_note(host, &entry.appid, |note| match report {
            Report::Renewed | Report::Same | Report::Adopted => {
                let result = result.to_owned();
                note.refreshed = Some(Refreshed { at: now, result });
            }
            _ => {
                // Without a failed call `why`, if there is one, is what Redis said: it stands where Redis is shown.
                let is_call = report == Report::Failed;
                let detail = if is_call { why } else { result };
                note.failed = Some(Failed {
                    at: now,
                    errcode,
                    detail: detail.to_owned(),
                });
            }
        });
    }

    /// Tells of each kept app what has changed since it was told last, and that this root lives.
    pub(super) fn gauge<H: Host>(&mut self, host: &H, slot: &Slot, metrics: &mut Metrics) {
        let (now, wall) = (host.now(), host.wall());
        let [holder, other] = match slot.me.primary {
            true => ["singleton", "worker"],
            false => ["worker", "singleton"],
        };
        let mut keeps_any = false;
        for (kept, entry) in self.kept.iter_mut().zip(&self.config.apps) {
            let Some(kept) = kept else {
                continue;
            };
            keeps_any = true;
            let name: &str = &entry.name;
            let gauges = gauges(kept.keeper.machine(), now, wall);
            let told = kept.told.replace(gauges);
            if told.is_none() {
                metrics.set(Metric::LeaseTerm, &[name], kept.term);
                metrics.set(Metric::LeaseHeld, &[name, holder], 1);
                metrics.set(Metric::LeaseHeld, &[name, other], 0);
            }
            for gauge in gauges {
                let (metric, value) = gauge;
                let is_news = told.is_none_or(|told| !told.contains(&gauge));
                if let (Some(value), true) = (value, is_news) {
                    metrics.set(metric, &[name], value);
                }
            }
        }
        if keeps_any {
            metrics.add(Metric::Heartbeats, &[holder], 1);
        }
    }
}

/// What the gauges say of an app; those without a value are not told.
pub(super) type Gauges = [(Metric, Option<u64>); 4];

fn gauges(machine: &Machine, now: Millis, wall: UnixMillis) -> Gauges {
    let is_open = machine.trouble().is_some_and(|trouble| trouble.open);
    let budget_left = machine.budget_left(now, wall);
    [
        (Metric::Remaining, Some(seconds_left(machine, now))),
        (Metric::Generation, Some(machine.generation().0)),
        (Metric::BreakerOpen, Some(u64::from(is_open))),
        (Metric::BudgetLeft, budget_left.map(u64::from)),
    ]
}

/// How long the token lives; 0 without one.
fn seconds_left(machine: &Machine, now: Millis) -> u64 {
    let token = machine.serve(now);
    token.map_or(0, |token| token.deadline.since(now).as_secs())
}

/// Changes what the status page is told of an app.
pub(super) fn change_note<H: Host>(host: &H, appid: &str, change: impl FnOnce(&mut Note)) {
    let key = note_key(appid);
    let present = host.shared(&key);
    let cas = present.as_ref().map_or(Cas::ABSENT, |(_, cas)| *cas);
    let note = present.and_then(|(bytes, _)| Note::decode(&bytes));
    let mut note = note.unwrap_or_default();
    change(&mut note);
    // Somebody who was faster holds the lease now, and knows better.
    let _ = host.set_shared(&key, &note.encode(), cas);
}

/// `level` for an event's first line in a second, debug for the others.
fn once_a_second(told_at: &mut Option<Millis>, now: Millis, level: Level) -> Level {
    if told_at.is_some_and(|told_at| now.since(told_at) < Duration::from_secs(1)) {
        return Level::Debug;
    }
    *told_at = Some(now);
    level
}
