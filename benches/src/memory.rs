//! Memory of a worker's VM.
//!
//! Envoy tells no memory of a VM, so it is taken from the outside: what an Envoy with eight workers uses less what one
//! with one worker uses, divided by seven, is what a worker has; the same without a filter taken from it is what the
//! worker's VM has. What exists once in a process (the singleton, the main thread's VM, compiled code) is in both and
//! falls out. Each Envoy first serves enough requests for every worker to have some. The no-op row shows how much of it
//! V8 takes for any module.
//!
//! "Uses" is anonymous resident memory without what Envoy's allocator keeps for later: compiling the module leaves
//! tens of megabytes of that, in which further VMs would find room and look as if they took nothing.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::bed::{ready, Bed, Plugin, LISTENER};
use crate::load::Load;
use crate::row::Row;
use crate::stats::Spread;
use crate::{progress, Options};

/// Workers of the small and the large Envoy.
const WORKERS: (u32, u32) = (1, 8);
/// Requests that warm an Envoy up.
const REQUESTS: u64 = 20_000;
/// Connections of them: with 64, no one of 8 workers is left out.
const CONNECTIONS: u64 = 64;

/// The section's results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// By row.
    pub rows: Vec<MemoryRow>,
}

/// What one row's Envoys take, in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemoryRow {
    /// Which row.
    pub row: Row,
    /// The Envoy with one worker.
    pub one_worker: Spread,
    /// The Envoy with eight workers.
    pub eight_workers: Spread,
    /// One worker of it (of medians).
    pub worker: f64,
    /// The worker's VM: `worker` less plain Envoy's.
    pub vm: Option<f64>,
}

/// Measures plain Envoy, the no-op filter and the plugin.
pub async fn measure(bed: &Bed, options: &Options) -> Result<Memory> {
    let mut rows = Vec::new();
    for row in options.rows_of(&[Row::Plain, Row::Noop, Row::Plugin, Row::Lua]) {
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for repetition in 0..options.repetitions {
            progress(&format!(
                "memory, {}: {} of {}",
                row.title(),
                repetition + 1,
                options.repetitions
            ));
            small.push(envoy(bed, row, WORKERS.0).await? as f64);
            large.push(envoy(bed, row, WORKERS.1).await? as f64);
        }
        let (one_worker, eight_workers) = (Spread::of(&small), Spread::of(&large));
        rows.push(MemoryRow {
            row,
            one_worker,
            eight_workers,
            worker: (eight_workers.median - one_worker.median) / f64::from(WORKERS.1 - WORKERS.0),
            vm: None,
        });
    }
    let plain = rows
        .iter()
        .find(|row| row.row == Row::Plain)
        .map(|plain| plain.worker);
    for row in rows.iter_mut().filter(|row| row.row != Row::Plain) {
        row.vm = plain.map(|plain| row.worker - plain);
    }
    Ok(Memory { rows })
}

async fn envoy(bed: &Bed, row: Row, workers: u32) -> Result<u64> {
    let fake = bed.fake(1).await;
    let answers = bed.start_answers(None).await?;
    let config = bed.upstream(
        row,
        answers.address(LISTENER),
        fake.address(),
        Plugin::SHIPPED,
    )?;
    let envoy = bed.start(config, workers, None).await?;
    ready(&envoy, row, "/cgi-bin/seen?a=1").await?;
    let load = Load {
        to: envoy.address(LISTENER),
        paths: vec!["/cgi-bin/user/get?next_openid=oFakeOpenId0001&lang=zh_CN".to_owned()],
        body: None,
        requests: REQUESTS,
        connections: CONNECTIONS,
        core: None,
    };
    load.run().await?;
    Ok(envoy.used_memory().await)
}
