//! Instants and wall time as the core knows them: numbers that are passed in, never read.
//!
//! [`Millis`] is monotonic and has a meaning within one Envoy process only, where all virtual machines share the
//! clock. Everything that decides (deadlines, back-off, leases) uses it. [`UnixMillis`] is wall time: it is for people
//! (logs, `expires_at`) and for the one rule that WeChat ties to a calendar, the daily quota that is reset at midnight
//! in Asia/Shanghai.

use std::time::Duration;

/// An instant on the monotonic clock of this process, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// Wall time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// China has one time zone and no daylight saving: UTC+8.
const SHANGHAI_OFFSET_MS: u64 = 8 * 3_600_000;
pub(crate) const DAY_MS: u64 = 86_400_000;

impl Millis {
    /// The instant `span` later; saturates instead of wrapping.
    pub fn after(self, span: Duration) -> Millis {
        Millis(self.0.saturating_add(millis(span)))
    }

    /// The instant `span` earlier, at the earliest 0.
    pub fn before(self, span: Duration) -> Millis {
        Millis(self.0.saturating_sub(millis(span)))
    }

    /// The span since `earlier`, zero when `earlier` lies ahead.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl UnixMillis {
    /// The span until the next midnight in Asia/Shanghai, where WeChat resets its daily quotas; never zero.
    pub fn until_shanghai_midnight(self) -> Duration {
        let into_day = self.0.saturating_add(SHANGHAI_OFFSET_MS) % DAY_MS;
        Duration::from_millis(DAY_MS - into_day)
    }

    /// The number of the calendar day in Asia/Shanghai.
    pub fn shanghai_day(self) -> u64 {
        self.0.saturating_add(SHANGHAI_OFFSET_MS) / DAY_MS
    }
}

/// A span in whole milliseconds; saturates.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midnight_in_shanghai_is_at_16_utc() {
        for (wall, until) in [
            (0, 16 * 3_600_000),
            (16 * 3_600_000, DAY_MS),
            (16 * 3_600_000 - 1, 1),
            (DAY_MS + 17 * 3_600_000, 23 * 3_600_000),
        ] {
            assert_eq!(
                UnixMillis(wall).until_shanghai_midnight(),
                Duration::from_millis(until),
                "wall {wall}"
            );
        }
        assert_eq!(UnixMillis(16 * 3_600_000 - 1).shanghai_day(), 0);
        assert_eq!(UnixMillis(16 * 3_600_000).shanghai_day(), 1);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Millis(5).before(Duration::from_secs(1)), Millis(0));
        assert_eq!(
            Millis(u64::MAX).after(Duration::from_secs(1)),
            Millis(u64::MAX)
        );
        assert_eq!(Millis(3).since(Millis(7)), Duration::ZERO);
    }
}
