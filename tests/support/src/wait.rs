//! Waiting for conditions with a deadline, in place of sleeping for a guess.

use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; panics after the deadline, naming `what`.
pub async fn until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    until_some(deadline, what, || {
        std::future::ready(condition().then_some(()))
    })
    .await;
}

/// Waits until `attempt` gives a value and returns it; panics after the deadline, naming `what`.
pub async fn until_some<T, F>(deadline: Duration, what: &str, attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    within(deadline, attempt)
        .await
        .unwrap_or_else(|| panic!("{what}: not within {deadline:?}"))
}

/// As [`until_some`], but `None` after the deadline. An attempt under way at the deadline is dropped.
pub async fn within<T, F>(deadline: Duration, attempt: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    within_at(STEP, deadline, attempt).await
}

/// As [`within`], with so much time from one attempt to the next: for attempts that are work.
pub async fn within_at<T, F>(
    step: Duration,
    deadline: Duration,
    mut attempt: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let mut ticks = tokio::time::interval(step);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let attempts = async {
        loop {
            ticks.tick().await;
            if let Some(value) = attempt().await {
                return value;
            }
        }
    };
    tokio::time::timeout(deadline, attempts).await.ok()
}

/// As [`until`] for callers without a runtime; returns whether the condition held in time.
pub fn blocking(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    while !condition() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::park_timeout(STEP);
    }
    true
}
