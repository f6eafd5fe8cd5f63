//! What a user sees: the filter on the cluster that leads to WeChat, a second process as upstream, all CPU counted.
//!
//! Twice in each round: over many connections as fast as answers come (requests a second, CPU a request, latency with
//! a queue before it) and one call at a time (latency without one). A fixed rate is left out: h2load sends it in
//! bursts, and the queue in a burst hides the filter. All of it is far noisier than [`crate::ratios`]: the kernel's
//! share of a request is larger than any filter's. Envoy has a core of its own; the load and the upstream share the
//! other.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use support::envoy::Envoy;

use crate::bed::{ready, Bed, Plugin, LISTENER};
use crate::cpu::Cpu;
use crate::load::Load;
use crate::row::Row;
use crate::stats::Spread;
use crate::{progress, Options};

/// Connections when Envoy is to be busy all the time.
const CONNECTIONS: u64 = 16;
/// The rows that can be had in upstream placement and that are worth comparing.
const ROWS: [Row; 4] = [Row::Plain, Row::Noop, Row::Plugin, Row::Lua];

/// The section's results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// Connections when Envoy is busy all the time.
    pub connections: u64,
    /// By row.
    pub rows: Vec<UserRow>,
}

/// What one row shows to a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserRow {
    /// Which row.
    pub row: Row,
    /// User and kernel CPU a request in microseconds, as fast as answers come.
    pub all_us: Spread,
    /// Requests a second, as fast as answers come.
    pub requests_per_second: Spread,
    /// Latency as fast as answers come.
    pub busy: Latency,
    /// Latency of one call at a time.
    pub single: Latency,
}

/// Latencies in microseconds, over the rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50_us: Spread,
    /// The 99th percentile.
    pub p99_us: Spread,
}

struct Subject {
    row: Row,
    envoy: Envoy,
    cpu: Vec<f64>,
    rates: Vec<f64>,
    busy: Vec<Histogram<u64>>,
    single: Vec<Histogram<u64>>,
}

/// Measures the rows.
pub async fn measure(bed: &Bed, options: &Options) -> Result<User> {
    let fake = bed.fake(1).await;
    let answers = bed.start_answers(Some(options.load_core)).await?;
    let mut subjects = Vec::new();
    for row in options.rows_of(&ROWS) {
        let api = answers.address(LISTENER);
        let config = bed.upstream(row, api, fake.address(), Plugin::SHIPPED)?;
        let envoy = bed.start(config, 1, Some(options.envoy_core)).await?;
        ready(&envoy, row, "/cgi-bin/seen?a=1").await?;
        let subject = Subject::new(row, envoy);
        subject
            .load(options, options.requests / 3, CONNECTIONS)
            .run()
            .await?;
        subjects.push(subject);
    }
    let rounds = options.rounds.div_ceil(2);
    for round in 0..rounds {
        progress(&format!("user: round {} of {rounds}", round + 1));
        for subject in &mut subjects {
            subject.round(options).await?;
        }
    }
    let rows = subjects.iter().map(Subject::row).collect();
    Ok(User {
        connections: CONNECTIONS,
        rows,
    })
}

impl Subject {
    fn new(row: Row, envoy: Envoy) -> Self {
        Self {
            row,
            envoy,
            cpu: Vec::new(),
            rates: Vec::new(),
            busy: Vec::new(),
            single: Vec::new(),
        }
    }

    fn load(&self, options: &Options, requests: u64, connections: u64) -> Load {
        Load {
            to: self.envoy.address(LISTENER),
            paths: vec!["/cgi-bin/user/get?next_openid=oFakeOpenId0001&lang=zh_CN".to_owned()],
            body: None,
            requests: requests.max(1),
            connections,
            core: Some(options.load_core),
        }
    }

    async fn round(&mut self, options: &Options) -> Result<()> {
        let before = Cpu::of(self.envoy.pid())?;
        let load = self.load(options, options.requests, CONNECTIONS);
        let told = load.run().await?;
        let (_, all) = Cpu::of(self.envoy.pid())?.per_request(before, load.requests);
        self.cpu.push(all);
        self.rates.push(told.rate);
        self.busy.push(told.latencies);
        let single = self.load(options, options.requests / 5, 1);
        self.single.push(single.run().await?.latencies);
        Ok(())
    }

    fn row(&self) -> UserRow {
        UserRow {
            row: self.row,
            all_us: Spread::of(&self.cpu),
            requests_per_second: Spread::of(&self.rates),
            busy: Latency::of(&self.busy),
            single: Latency::of(&self.single),
        }
    }
}

impl Latency {
    fn of(rounds: &[Histogram<u64>]) -> Self {
        let over = |share| {
            let values: Vec<f64> = rounds
                .iter()
                .map(|round| round.value_at_quantile(share) as f64)
                .collect();
            Spread::of(&values)
        };
        Self {
            p50_us: over(0.5),
            p99_us: over(0.99),
        }
    }
}
