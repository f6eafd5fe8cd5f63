//! What logs and metrics say of the tokens.

use std::time::Duration;

use log::{info, log, warn, Level};

use super::{of_app, Refresher};
use crate::config::App;
use crate::host::metrics::Metrics;
use crate::time::Millis;
use crate::token::Report;

impl Refresher {
    pub(super) fn report(
        &mut self,
        metrics: &mut Metrics,
        app: usize,
        entry: &App,
        report: Report,
        why: &str,
        now: Millis,
    ) {
        let Some(kept) = of_app(&mut self.kept, app) else {
            return;
        };
        let machine = kept.keeper.machine();
        kept.generation = machine.generation();
        let generation = kept.generation;
        let left = machine
            .serve(now)
            .map_or(0, |token| token.deadline.since(now).as_secs());
        let name = &entry.name;
        let wait = machine.next_wakeup().since(now).as_secs();
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
                return;
            }
            Report::StoreBack => {
                let level = once_a_second(&mut self.redis_back_at, now, Level::Info);
                log!(level, "event=redis_back app={name}");
                return;
            }
            Report::NeighbourFollowed | Report::NeighbourIgnored => {
                let result = match report {
                    Report::NeighbourFollowed => "adopted",
                    _ => "ignored",
                };
                warn!("event=neighbour_seen app={name} result={result} generation={generation} lives_s={left}");
                metrics.add(
                    &format!("wechat_token_neighbours_seen_total.app={name}.result={result}"),
                    1,
                );
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
            &format!("wechat_token_refreshes_total.app={name}.result={result}"),
            1,
        );
    }

    pub(super) fn gauge(&self, metrics: &mut Metrics, now: Millis) {
        for (kept, entry) in self.kept.iter().zip(&self.config.apps) {
            let Some(kept) = kept else {
                continue;
            };
            let machine = kept.keeper.machine();
            let left = machine
                .serve(now)
                .map_or(0, |token| token.deadline.since(now).as_secs());
            metrics.set(
                &["wechat_token_remaining_seconds.app=", &entry.name].concat(),
                left,
            );
            metrics.set(
                &["wechat_token_generation.app=", &entry.name].concat(),
                machine.generation().0,
            );
        }
    }
}

/// `level` for an event's first line in a second, debug for the others.
fn once_a_second(told_at: &mut Option<Millis>, now: Millis, level: Level) -> Level {
    if told_at.is_some_and(|told_at| now.since(told_at) < Duration::from_secs(1)) {
        return Level::Debug;
    }
    *told_at = Some(now);
    level
}
