//! Steady load on Envoy while tokens rotate: a few callers, each with a call every few milliseconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use support::client::Client;
use support::wait;
use support::wechat::Outcome;
use tokio::task::JoinSet;

use super::stage::{Stage, WECHAT};
use super::steps::succeeded;

/// Callers at once.
const CALLERS: usize = 8;
/// Between two calls of one caller; the next one waits for the answer in any case.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest that a rotation may take to be seen, whatever the lifetime that was told.
const ROTATION: Duration = Duration::from_secs(60);

/// Callers that are at it.
#[derive(Debug)]
pub(crate) struct Load {
    stopped: Arc<AtomicBool>,
    callers: JoinSet<Seen>,
}

/// What the callers saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Answers with status 200 and no errcode but 0.
    pub(crate) good: u64,
    /// Everything else.
    pub(crate) failed: u64,
    /// What the first of those was.
    pub(crate) first_failure: Option<String>,
}

impl Load {
    /// Lets the callers begin.
    pub(crate) fn start(client: &Client, url: &str) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn(call(client.clone(), url.to_owned(), Arc::clone(&stopped)));
        }
        Self { stopped, callers }
    }

    /// Ends the load, the calls in flight included, and says what was seen.
    pub(crate) async fn stop(self) -> Seen {
        self.stopped.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for seen in self.callers.join_all().await {
            all.good += seen.good;
            all.failed += seen.failed;
            all.first_failure = all.first_failure.or(seen.first_failure);
        }
        all
    }
}

/// Waits until WeChat made so many tokens for the app (since its report was reset); false where it takes too long.
pub(crate) async fn wait_for_rotations(stage: &Stage, appid: &str, rotations: u64) -> bool {
    let deadline = ROTATION.saturating_mul(rotations.try_into().unwrap_or(u32::MAX));
    let made = wait::within(deadline, || async {
        let report = stage.report().await.ok()?;
        let made = report
            .token_log
            .iter()
            .filter(|call| call.appid == appid && call.outcome == Outcome::Made)
            .count();
        (made as u64 >= rotations).then_some(())
    });
    made.await.is_some()
}

async fn call(client: Client, url: String, stopped: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stopped.load(Ordering::Relaxed) {
        ticks.tick().await;
        let failure = match client.get_with(&url, &[("host", WECHAT)]).await {
            Ok(answer) if succeeded(&answer) => None,
            Ok(answer) => Some(format!("{} {}", answer.status, answer.text())),
            Err(error) => Some(error.to_string()),
        };
        match failure {
            None => seen.good += 1,
            Some(why) => {
                seen.failed += 1;
                seen.first_failure.get_or_insert(why);
            }
        }
    }
    seen
}
