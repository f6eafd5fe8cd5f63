//! Envoy's memory over time: samples in quiet moments, and how fast they rise.

use std::fmt;

use anyhow::{Context as _, Result};
use support::envoy::Envoy;

/// What of a rise over the last half is still none: 1 %.
pub(crate) const RISE_ALLOWED: f64 = 0.01;

/// Memory in one quiet moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Seconds since the start.
    pub(crate) at: f64,
    /// Resident set in bytes, the virtual machines' included.
    pub(crate) resident: f64,
    /// What Envoy's allocator has handed out, in bytes.
    pub(crate) allocated: f64,
}

impl Sample {
    pub(crate) async fn take(envoy: &Envoy, at: f64) -> Result<Self> {
        let process = procfs::process::Process::new(i32::try_from(envoy.pid())?)?;
        let resident = process.statm()?.resident * procfs::page_size();
        let memory = envoy.admin_get("/memory").await.json();
        let allocated = memory["allocated"]
            .as_str()
            .context("Envoy's /memory has no `allocated`")?;
        Ok(Self {
            at,
            resident: resident as f64,
            allocated: allocated.parse()?,
        })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
        let (resident, allocated) = (mib(self.resident), mib(self.allocated));
        write!(
            formatter,
            "{resident:.1} MiB resident, {allocated:.1} MiB allocated"
        )
    }
}

/// How much a value rises from the beginning to the end of the last half, as a part of its median there. The slope is the median of the slopes between all pairs
/// (Theil and Sen), which a few odd samples do not move; `None` where there are fewer than 4 samples.
pub(crate) fn rise(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> Option<f64> {
    let end = samples.last()?.at;
    let half: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.at >= end / 2.0)
        .collect();
    let begin = half.first()?.at;
    if half.len() < 4 {
        return None;
    }
    let mut slopes = Vec::new();
    for (index, one) in half.iter().enumerate() {
        for other in half.iter().skip(index + 1) {
            slopes.push((value(other) - value(one)) / (other.at - one.at));
        }
    }
    let level = median(half.iter().map(|sample| value(sample)).collect())?;
    Some(median(slopes)? * (end - begin) / level)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(resident: impl Fn(f64) -> f64) -> Vec<Sample> {
        (1..=100)
            .map(|second| Sample {
                at: f64::from(second),
                resident: resident(f64::from(second)),
                allocated: 0.0,
            })
            .collect()
    }

    #[test]
    fn a_leak_is_seen_and_what_came_before_or_once_is_not() {
        let rise =
            |resident: &dyn Fn(f64) -> f64| rise(&samples(resident), |sample| sample.resident);
        assert_eq!(rise(&|at| if at < 40.0 { at } else { 1000.0 }), Some(0.0));
        assert_eq!(
            rise(&|at| if at == 70.0 { 9000.0 } else { 1000.0 }),
            Some(0.0)
        );
        let leak = rise(&|at| 1000.0 + at);
        assert!(
            leak.is_some_and(|leak| leak > 4.0 * RISE_ALLOWED),
            "{leak:?}"
        );
        assert!(rise(&|at| 1000.0 - at).is_some_and(|rise| rise < 0.0));
    }

    #[test]
    fn of_three_samples_nothing_can_be_said() {
        let few = &samples(|at| at)[..3];
        assert_eq!(rise(few, |sample| sample.resident), None);
    }
}
