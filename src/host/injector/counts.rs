//! What became of the requests, as plain numbers: while a request is served a count costs one addition. The tick hands
//! them to [`Metrics`].

use std::mem::take;
use std::time::Duration;

use crate::config::App;
use crate::host::metrics::Metrics;
use crate::metrics::{Metric, PASSED};
use crate::reply::Rejection;
use crate::route::Passed;
use crate::time::millis;

/// Counts since the last tick.
pub(super) struct Counts {
    apps: Vec<[u64; PER_APP.len()]>,
    passed: [u64; PASSED.len()],
    replies: [u64; Rejection::REASONS.len()],
    /// How long those waited that do not wait any more, in milliseconds.
    waits: Vec<u64>,
}

/// What is counted for each app; the number is the place in `PER_APP`.
#[derive(Clone, Copy)]
pub(super) enum Count {
    Injected,
    Parked,
    Rejected,
    /// WeChat saw no token although one was put in.
    Missing,
    /// A request was sent again, and this became of it.
    ResentOk,
    ResentRejected,
    ResentNoAnswer,
}

impl Counts {
    pub(super) fn new(apps: usize) -> Counts {
        Counts {
            apps: vec![[0; PER_APP.len()]; apps],
            passed: [0; PASSED.len()],
            replies: [0; Rejection::REASONS.len()],
            waits: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, app: usize, count: Count) {
        if let Some(counts) = self.apps.get_mut(app) {
            bump(counts, count as usize);
        }
    }

    pub(super) fn add_passed(&mut self, reason: Passed) {
        bump(&mut self.passed, reason as usize);
    }

    /// A request went on without a token, because none was to be had.
    pub(super) fn add_unavailable(&mut self) {
        bump(&mut self.passed, PASSED.len() - 1);
    }

    pub(super) fn add_reply(&mut self, rejection: Rejection) {
        let reason = rejection.reason();
        for (count, known) in self.replies.iter_mut().zip(Rejection::REASONS) {
            *count += u64::from(known == reason);
        }
    }

    pub(super) fn add_wait(&mut self, waited: Duration) {
        self.waits.push(millis(waited));
    }

    /// Hands over what has come together, and begins anew.
    pub(super) fn flush(&mut self, apps: &[App], metrics: &mut Metrics) {
        for (counts, app) in self.apps.iter_mut().zip(apps) {
            for (count, (metric, result)) in counts.iter_mut().zip(PER_APP) {
                hand_over(count, metrics, metric, &[&app.name, result]);
            }
        }
        for (count, reason) in self.passed.iter_mut().zip(PASSED) {
            hand_over(count, metrics, Metric::Passed, &[reason]);
        }
        for (count, reason) in self.replies.iter_mut().zip(Rejection::REASONS) {
            hand_over(count, metrics, Metric::LocalReplies, &[reason]);
        }
        for wait in self.waits.drain(..) {
            metrics.observe(Metric::Wait, wait);
        }
    }
}

fn bump(counts: &mut [u64], place: usize) {
    if let Some(count) = counts.get_mut(place) {
        *count += 1;
    }
}

fn hand_over(count: &mut u64, metrics: &mut Metrics, metric: Metric, labels: &[&str]) {
    if *count > 0 {
        metrics.add(metric, labels, take(count));
    }
}

/// With the label `result`, where the metric has one.
const PER_APP: [(Metric, &str); 7] = [
    (Metric::Injected, ""),
    (Metric::Parked, ""),
    (Metric::Rejected, ""),
    (Metric::Missing, ""),
    (Metric::Resent, "ok"),
    (Metric::Resent, "rejected"),
    (Metric::Resent, "no_answer"),
];
