//! What became of the requests, as plain numbers: while a request is served a count costs one addition. The tick hands
//! them to [`Metrics`].

use std::mem::take;

use crate::config::App;
use crate::host::metrics::Metrics;
use crate::reply::Rejection;
use crate::route::Passed;

/// Counts since the last tick.
pub(super) struct Counts {
    apps: Vec<[u64; PER_APP.len()]>,
    passed: [u64; PASSED.len()],
    replies: [u64; Rejection::REASONS.len()],
}

/// What is counted for each app; the number is the place in `PER_APP`.
#[derive(Clone, Copy)]
pub(super) enum Count {
    Injected,
    Parked,
    Rejected,
    Resent,
    /// WeChat saw no token although one was put in.
    Missing,
}

impl Counts {
    pub(super) fn new(apps: usize) -> Counts {
        Counts {
            apps: vec![[0; PER_APP.len()]; apps],
            passed: [0; PASSED.len()],
            replies: [0; Rejection::REASONS.len()],
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

    /// Hands over what has come together, and begins anew.
    pub(super) fn flush(&mut self, apps: &[App], metrics: &mut Metrics) {
        for (counts, app) in self.apps.iter_mut().zip(apps) {
            for (count, name) in counts.iter_mut().zip(PER_APP) {
                hand_over(count, metrics, &[name, ".app=", &app.name]);
            }
        }
        for (count, reason) in self.passed.iter_mut().zip(PASSED) {
            hand_over(
                count,
                metrics,
                &["wechat_token_passed_total.reason=", reason],
            );
        }
        for (count, reason) in self.replies.iter_mut().zip(Rejection::REASONS) {
            hand_over(
                count,
                metrics,
                &["wechat_token_local_replies_total.reason=", reason],
            );
        }
    }
}

fn bump(counts: &mut [u64], place: usize) {
    if let Some(count) = counts.get_mut(place) {
        *count += 1;
    }
}

fn hand_over(count: &mut u64, metrics: &mut Metrics, name: &[&str]) {
    if *count > 0 {
        metrics.add(&name.concat(), take(count));
    }
}

const PER_APP: [&str; 5] = [
    "wechat_token_injected_total",
    "wechat_token_parked_total",
    "wechat_token_rejected_total",
    "wechat_token_resent_total",
    "wechat_token_missing_total",
];

/// In the order of [`Passed`], and one more.
const PASSED: [&str; 6] = [
    "other_host",
    "token_free",
    "foreign_token",
    "caller_token",
    "excluded",
    "unavailable",
];
