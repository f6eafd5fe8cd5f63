//! The targets and whether they are reached. A target without a measurement is not listed.

use serde::{Deserialize, Serialize};

use crate::ratios::Answer;
use crate::results::Results;
use crate::row::Row;
use crate::watch::Exchange;

/// CPU that the plugin adds over what the Lua filter adds.
const TO_LUA: f64 = 1.0;
/// CPU that the watch adds to a JSON answer, in microseconds.
const WATCH_US: f64 = 2.0;
/// Size of the .wasm in KB.
const WASM_KB: f64 = 250.0;
/// Memory of a worker's VM in MiB.
const VM_MIB: f64 = 4.0;
/// 99th percentile of the release of the large herd in milliseconds.
const HERD_MS: f64 = 5.0;

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// What is to be reached.
    pub name: String,
    /// The most that it may be.
    pub limit: f64,
    /// What it is.
    pub value: f64,
    /// The unit of both.
    pub unit: String,
    /// Whether it is reached.
    pub reached: bool,
}

/// Judges what was measured.
pub fn judge(results: &Results) -> Vec<Target> {
    let row = |answer: Answer| results.ratios.as_ref()?.row(answer, Row::Plugin);
    let user = |answer: Answer| row(answer)?.user.to_lua;
    let all = |answer: Answer| row(answer)?.all.to_lua;
    let watch = results.watch.as_ref();
    let watch = watch.and_then(|watch| watch.row(Exchange::SmallJson));
    let vm = results.memory.as_ref().and_then(|memory| {
        let plugin = memory.rows.iter().find(|row| row.row == Row::Plugin)?;
        Some(plugin.vm? / f64::from(1 << 20))
    });
    // Of the repetitions the middle one: one quiet run proves nothing, one disturbed run neither.
    let herd = results.herd.as_ref().and_then(|herd| herd.sizes.last());
    [
        target(
            "user CPU added, plain answers",
            TO_LUA,
            user(Answer::Plain),
            "× Lua",
        ),
        target(
            "user CPU added, JSON answers",
            TO_LUA,
            user(Answer::Json),
            "× Lua",
        ),
        target(
            "all CPU added, plain answers",
            TO_LUA,
            all(Answer::Plain),
            "× Lua",
        ),
        target(
            "all CPU added, JSON answers",
            TO_LUA,
            all(Answer::Json),
            "× Lua",
        ),
        target(
            "all CPU added by the watch, small JSON answers",
            WATCH_US,
            watch.map(|row| row.added_us),
            "µs",
        ),
        target(
            "size of the .wasm",
            WASM_KB,
            results.wasm_bytes.map(|bytes| bytes as f64 / 1e3),
            "KB",
        ),
        target("memory of a worker's VM", VM_MIB, vm, "MiB"),
        target(
            &format!(
                "herd of {}, p99 of the release",
                herd.map_or(0, |herd| herd.requests)
            ),
            HERD_MS,
            herd.map(|herd| herd.p99_ms.median),
            "ms",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn target(name: &str, limit: f64, value: Option<f64>, unit: &str) -> Option<Target> {
    value.map(|value| Target {
        name: name.to_owned(),
        limit,
        value,
        unit: unit.to_owned(),
        reached: value <= limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_reached_at_its_limit_and_absent_without_a_value() {
        let reached = |value| target("x", 1.0, value, "ms").map(|target| target.reached);
        assert_eq!(reached(Some(1.0)), Some(true));
        assert_eq!(reached(Some(1.001)), Some(false));
        assert_eq!(reached(None), None);
    }
}
