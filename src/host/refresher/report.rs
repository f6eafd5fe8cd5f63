//! What logs and metrics say of the tokens.

use log::{info, warn};

use super::{of_app, Refresher};
use crate::config::App;
use crate::host::metrics::Metrics;
use crate::time::Millis;
use crate::token::Report;
use crate::wechat::Failure;

impl Refresher {
    pub(super) fn report(
        &mut self,
        metrics: &mut Metrics,
        app: usize,
        entry: &App,
        report: Report,
        failure: Option<&Failure>,
        now: Millis,
    ) {
        let Some(kept) = of_app(&mut self.kept, app) else {
            return;
        };
        kept.generation = kept.machine.generation();
        let generation = kept.generation;
        let left = kept
            .machine
            .serve(now)
            .map_or(0, |token| token.deadline.since(now).as_secs());
        let name = &entry.name;
        let wait = kept.machine.next_wakeup().since(now).as_secs();
        let result = match report {
            Report::Renewed => {
                info!("event=token_renewed app={name} generation={generation} lives_s={left} next_refresh_s={wait}");
                "renewed"
            }
            Report::Same => {
                info!("event=token_same app={name} generation={generation} lives_s={left} next_refresh_s={wait}");
                "same"
            }
            Report::Failed => {
                let why = failure.map(ToString::to_string).unwrap_or_default();
                warn!(
                    "event=refresh_failed app={name} {why} old_token_lives_s={left} retry_s={wait}"
                );
                "failed"
            }
            Report::NotSent => {
                warn!("event=calls_not_sent app={name} old_token_lives_s={left} problem=\"Envoy takes no call for a cluster of weixin.upstreams: it is missing, not warm or without a healthy host\"");
                return;
            }
            Report::RejectedRefresh => {
                warn!("event=token_rejected app={name} generation={generation} action=refresh");
                return;
            }
            Report::RejectedLimited => {
                warn!("event=token_rejected app={name} generation={generation} action=none reason=limit");
                return;
            }
            Report::BudgetSpent => {
                warn!("event=budget_spent app={name} old_token_lives_s={left} retry_s={wait}");
                "budget_spent"
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
            let left = kept
                .machine
                .serve(now)
                .map_or(0, |token| token.deadline.since(now).as_secs());
            metrics.set(
                &["wechat_token_remaining_seconds.app=", &entry.name].concat(),
                left,
            );
            metrics.set(
                &["wechat_token_generation.app=", &entry.name].concat(),
                kept.machine.generation().0,
            );
        }
    }
}
