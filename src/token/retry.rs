//! When to try again: exponential back-off with full jitter, the day's budget of token calls, and the limit on
//! refreshes that rejected tokens may cause.

use std::fmt;
use std::time::Duration;

use super::{Moment, Sample};
use crate::time::{Millis, UnixMillis, DAY_MS};

/// Exponential back-off with full jitter: the n-th pause is uniform in `initial/2 ..= min(max, initial * 2^n)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
}

/// A back-off whose bounds make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackoffError {
    /// `initial` is zero: that would be a busy loop.
    ZeroInitial,
    /// `max` is below `initial`.
    MaxBelowInitial,
}

impl Backoff {
    /// A back-off that starts at `initial` and never pauses longer than `max`.
    pub fn try_new(initial: Duration, max: Duration) -> Result<Backoff, BackoffError> {
        if initial.is_zero() {
            return Err(BackoffError::ZeroInitial);
        }
        if max < initial {
            return Err(BackoffError::MaxBelowInitial);
        }
        Ok(Backoff { initial, max })
    }

    /// The longest pause.
    pub fn longest(&self) -> Duration {
        self.max
    }

    /// The pause after `failures` failures in a row (1 is the first).
    ///
    /// Full jitter spreads a fleet best; the floor keeps a lucky draw from becoming a busy loop.
    pub fn pause(&self, failures: u32, sample: Sample) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let ceiling = self
            .initial
            .saturating_mul(1_u32 << doublings)
            .min(self.max);
        let floor = self.initial / 2;
        floor + sample.part_of(ceiling.saturating_sub(floor))
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
        }
    }
}

impl fmt::Display for BackoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackoffError::ZeroInitial => "initial pause is zero",
            BackoffError::MaxBelowInitial => "longest pause is below the initial one",
        })
    }
}

impl std::error::Error for BackoffError {}

/// The calls that were made on a day; part of an app's record, so that the count outlives whoever made them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Number of the day in Asia/Shanghai, where WeChat's days begin.
    pub day: u64,
    /// When that day's first one was made.
    pub since: Millis,
    /// How many calls.
    pub calls: u32,
}

/// Token calls left today.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    per_day: Option<u32>,
    spent: Spent,
}

impl Budget {
    /// A budget of `per_day` calls, of which `spent` are made already; without a number any call may be made, and none is
    /// counted.
    pub fn new(per_day: Option<u32>, spent: Spent) -> Budget {
        Budget { per_day, spent }
    }

    /// Takes one call from today's budget; false when nothing is left before [`Self::renewed_at`].
    pub fn spend(&mut self, moment: &Moment) -> bool {
        let Some(per_day) = self.per_day else {
            return true;
        };
        if self.is_another_day(moment.now, moment.wall) {
            self.spent = Spent {
                day: moment.wall.shanghai_day(),
                since: moment.now,
                calls: 0,
            };
        }
        if self.spent.calls >= per_day {
            return false;
        }
        self.spent.calls += 1;
        true
    }

    /// What is left today; `None` where nothing is counted.
    pub fn left(&self, now: Millis, wall: UnixMillis) -> Option<u32> {
        let per_day = self.per_day?;
        let calls = match self.is_another_day(now, wall) {
            true => 0,
            false => self.spent.calls,
        };
        Some(per_day.saturating_sub(calls))
    }

    /// When there is a new one: at midnight, or after 24 h if the wall clock does not let it be midnight before.
    pub fn renewed_at(&self, moment: &Moment) -> Millis {
        let midnight = moment.now.after(moment.wall.until_shanghai_midnight());
        midnight.min(self.day_over())
    }

    /// Only a later day resets the count: a wall clock that steps back must not hand out a second budget. Nor may it withhold
    /// the next one for as long as it was ahead.
    fn is_another_day(&self, now: Millis, wall: UnixMillis) -> bool {
        wall.shanghai_day() > self.spent.day || now >= self.day_over()
    }

    fn day_over(&self) -> Millis {
        self.spent.since.after(Duration::from_millis(DAY_MS))
    }

    /// Gives one call back that was never sent.
    pub fn refund(&mut self) {
        if self.per_day.is_some() {
            self.spent.calls = self.spent.calls.saturating_sub(1);
        }
    }

    /// What was spent so far.
    pub fn spent(&self) -> Spent {
        self.spent
    }
}

/// The limit on refreshes that a rejected token may cause: one per interval; the interval doubles while tokens are
/// rejected young, because then a new token is evidently not the cure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectionLimit {
    base: Duration,
    /// Current interval.
    pub interval: Duration,
    /// No refresh by rejection before this instant.
    pub not_before: Millis,
}

/// A token rejected within this time of its grant was not worn out.
const YOUNG: Duration = Duration::from_secs(60);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

impl RejectionLimit {
    /// A limit of one refresh per `base`.
    pub fn new(base: Duration) -> RejectionLimit {
        RejectionLimit {
            base,
            interval: base,
            not_before: Millis(0),
        }
    }

    /// Whether a rejection of a token granted at `granted_at` may cause a refresh now; if so, it is counted. `in_vain` says
    /// that this token was rejected before and could not be replaced, which counts like a young one.
    pub fn admit(&mut self, granted_at: Millis, in_vain: bool, now: Millis) -> bool {
        if now < self.not_before {
            return false;
        }
        self.interval = if in_vain || now.since(granted_at) < YOUNG {
            self.interval
                .saturating_mul(2)
                .min(LONGEST_INTERVAL.max(self.base))
        } else {
            self.base
        };
        self.not_before = now.after(self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_token_is_young_for_less_than_a_minute() {
        for (age, interval) in [(59_999, 120 * S), (60_000, 60 * S)] {
            let mut limit = RejectionLimit::new(60 * S);
            assert!(limit.admit(Millis(0), false, Millis(age)));
            assert_eq!(limit.interval, interval, "{age} ms");
        }
    }

    #[test]
    fn a_backoff_has_a_pause_and_a_longest_one() {
        let backoff = Backoff::try_new(S, 60 * S).unwrap();
        assert_eq!(backoff.longest(), 60 * S);
        let problem = |initial, max| Backoff::try_new(initial, max).unwrap_err().to_string();
        assert_eq!(problem(Duration::ZERO, S), "initial pause is zero");
        assert_eq!(problem(2 * S, S), "longest pause is below the initial one");
    }

    fn moment(wall: u64) -> Moment {
        Moment {
            now: Millis(0),
            wall: UnixMillis(wall),
            sample: Sample(0),
        }
    }

    #[test]
    fn bounds_that_make_no_sense_are_refused() {
        assert_eq!(
            Backoff::try_new(Duration::ZERO, S),
            Err(BackoffError::ZeroInitial)
        );
        assert_eq!(
            Backoff::try_new(2 * S, S),
            Err(BackoffError::MaxBelowInitial)
        );
    }

    proptest! {
        #[test]
        fn a_pause_stays_within_its_bounds(failures in 1_u32.., sample: u64) {
            let backoff = Backoff::try_new(S, 60 * S).unwrap();
            let pause = backoff.pause(failures, Sample(sample));
            prop_assert!(pause >= S / 2);
            prop_assert!(pause <= 60 * S);
        }

        #[test]
        fn a_later_pause_may_be_longer_never_shorter_for_the_same_luck(failures in 1_u32..40, sample: u64) {
            let backoff = Backoff::try_new(S, 60 * S).unwrap();
            prop_assert!(backoff.pause(failures + 1, Sample(sample)) >= backoff.pause(failures, Sample(sample)));
        }
    }

    #[test]
    fn a_budget_is_per_day_in_shanghai_and_survives_a_clock_that_steps_back() {
        let before_midnight = 16 * 3_600_000 - 1;
        let mut budget = Budget::new(Some(2), Spent::default());
        assert!(budget.spend(&moment(before_midnight)));
        assert!(budget.spend(&moment(before_midnight)));
        assert!(!budget.spend(&moment(before_midnight)));
        assert!(budget.spend(&moment(before_midnight + 1)));
        assert!(
            budget.spend(&moment(before_midnight)),
            "one left of the new day"
        );
        assert!(
            !budget.spend(&moment(before_midnight)),
            "stepping back is no new day"
        );
        budget.refund();
        assert!(budget.spend(&moment(before_midnight)));
    }

    #[test]
    fn without_a_number_nothing_is_counted_and_what_was_stays() {
        let spent = Spent {
            day: 7,
            since: Millis(1),
            calls: 3,
        };
        let mut budget = Budget::new(None, spent);
        assert!(budget.spend(&moment(16 * 3_600_000)));
        budget.refund();
        assert_eq!(budget.spent(), spent);
    }

    #[test]
    fn young_rejections_double_the_interval_and_an_old_one_resets_it() {
        let mut limit = RejectionLimit::new(60 * S);
        assert!(
            limit.admit(Millis(0), false, Millis(600_000)),
            "an old token"
        );
        assert!(!limit.admit(Millis(600_000), false, Millis(659_999)));
        assert!(
            limit.admit(Millis(659_000), false, Millis(660_000)),
            "a young one"
        );
        assert_eq!(limit.interval, 120 * S);
        assert!(!limit.admit(Millis(660_000), false, Millis(779_999)));
        for _ in 0..10 {
            let now = limit.not_before;
            assert!(limit.admit(now, false, now));
        }
        assert_eq!(limit.interval, 3600 * S);
        let now = limit.not_before;
        assert!(limit.admit(Millis(0), false, now));
        assert_eq!(limit.interval, 60 * S);
    }
}
