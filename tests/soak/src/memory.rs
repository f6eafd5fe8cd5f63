//! Envoy's memory over time: samples in quiet moments, and how fast they rise.

use std::fmt;

use support::envoy::Envoy;

/// What of a rise over the last half is still none: 1 %.
const RISE_ALLOWED: f64 = 0.01;

/// Memory in one quiet moment, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Seconds since the start.
    pub(crate) at: f64,
    /// What Envoy and its virtual machines use: this is judged.
    used: f64,
    /// All that is resident: it also holds what the allocator keeps after large bodies, up to the most there ever were at once.
    resident: f64,
}

impl Sample {
    pub(crate) async fn take(envoy: &Envoy, at: f64) -> Self {
        Self {
            at,
            used: envoy.used_memory().await as f64,
            resident: envoy.resident_memory() as f64,
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
        let (used, resident) = (mib(self.used), mib(self.resident));
        write!(formatter, "{used:.1} MiB used, {resident:.1} MiB resident")
    }
}

/// How much memory rises from the beginning to the end of the last half, as a part of its mean there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rise {
    share: f64,
    /// The standard error of it: in a short run a few odd samples look like a rise.
    error: f64,
}

impl Rise {
    /// By least squares; `None` where there are fewer than 4 samples.
    pub(crate) fn of(samples: &[Sample]) -> Option<Self> {
        let end = samples.last()?.at;
        let half: Vec<(f64, f64)> = samples
            .iter()
            .filter(|sample| sample.at >= end / 2.0)
            .map(|sample| (sample.at, sample.used))
            .collect();
        if half.len() < 4 {
            return None;
        }
        let count = half.len() as f64;
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| half.iter().map(of).sum::<f64>() / count;
        let (at, level) = (mean(&|point| point.0), mean(&|point| point.1));
        let spread = half.iter().map(|point| (point.0 - at).powi(2)).sum::<f64>();
        let both = half.iter().map(|point| (point.0 - at) * (point.1 - level));
        let slope = both.sum::<f64>() / spread;
        let off = |point: &(f64, f64)| point.1 - level - slope * (point.0 - at);
        let rest = half.iter().map(|point| off(point).powi(2)).sum::<f64>();
        let error = (rest / (count - 2.0) / spread).sqrt();
        let part = (end - half.first()?.0) / level;
        Some(Self {
            share: slope * part,
            error: error * part,
        })
    }

    /// Whether it is more than is allowed, and no accident.
    pub(crate) fn is_leak(self) -> bool {
        self.share - 2.0 * self.error >= RISE_ALLOWED
    }
}

impl fmt::Display for Rise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, error) = (100.0 * self.share, 100.0 * self.error);
        write!(formatter, "{share:+.2} % (standard error {error:.2} %)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(seconds: u32, used: impl Fn(f64) -> f64) -> Vec<Sample> {
        let seconds = (1..=seconds).map(f64::from);
        let sample = |at| Sample {
            at,
            used: used(at),
            resident: 0.0,
        };
        seconds.map(sample).collect()
    }

    fn rise(used: impl Fn(f64) -> f64) -> Rise {
        Rise::of(&samples(100, used)).unwrap()
    }

    #[test]
    fn a_leak_is_seen_and_what_came_before_or_once_is_not() {
        let noise = |at: f64| (at * 7.0) % 11.0;
        assert!(rise(|at| 1000.0 + at + noise(at)).is_leak());
        assert!(!rise(|at| 1000.0 + noise(at)).is_leak());
        assert!(!rise(|at| 1000.0 - at).is_leak());
        assert!(!rise(|at| if at < 40.0 { at } else { 1000.0 }).is_leak());
        assert!(!rise(|at| if at == 90.0 { 9000.0 } else { 1000.0 }).is_leak());
        // 0.5 % over the last half is allowed.
        assert!(!rise(|at| 1000.0 + at / 10.0).is_leak());
    }

    #[test]
    fn of_three_samples_nothing_can_be_said() {
        assert!(Rise::of(&samples(3, |at| at)).is_none());
    }
}
