//! The side-by-side benchmark: what the plugin costs beside plain Envoy, a no-op Wasm filter, the Lua filter that a
//! user would write and Envoy's native filters, all in one run.
//!
//! It measures in seven sections, each a module: [`ratios`] (CPU a request, by the low-noise method), [`user`] (what a
//! user sees in front of an upstream), [`watch`] (of looking at answers), [`herd`] (parked requests at the moment the token comes), [`memory`] (of a
//! worker's VM), [`apps`] (from one app to a thousand) and [`redis`] (with it and without, and beside a GET at each call). The results go to `benches/results/` as JSON, as a Markdown
//! table and as a picture. It judges nothing but the targets; whether a run was quiet is for the reader of the spread.

mod apps;
mod bed;
mod cpu;
mod herd;
mod load;
mod machine;
mod memory;
mod picture;
mod ratios;
mod redis;
mod results;
mod row;
mod stats;
mod table;
mod targets;
mod user;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use crate::bed::Bed;
use crate::results::Results;
use crate::row::Row;

/// Measures the plugin side by side with plain Envoy, a no-op Wasm filter, a Lua filter and native filters.
///
/// It needs two cores that nothing else uses, h2load and taskset, the Envoy of `make bench` and the .wasm of
/// `make build`. It writes latest.json, README.md and bench.svg.
#[derive(Clone, Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Options {
    /// Interleaved rounds; the least CPU of all rounds counts
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Requests in a round
    #[arg(long, default_value_t = 40_000)]
    requests: u64,
    /// A smoke test: 3 rounds of 3,000 requests and one repetition of the rest; its numbers mean nothing
    #[arg(long)]
    quick: bool,
    /// Sections to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Section::ALL)]
    sections: Vec<Section>,
    /// Rows to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Row::ALL)]
    rows: Vec<Row>,
    /// Requests that wait for the token in the herd section
    #[arg(long, default_value_t = 1_000)]
    herd: usize,
    /// Repetitions of the herd and memory sections
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Envoy's version
    #[arg(long, default_value = "1.40.0")]
    envoy: String,
    /// The plugin
    #[arg(long, default_value = "dist/wechat-token.wasm")]
    wasm: PathBuf,
    /// The core of the measured Envoy
    #[arg(long, default_value_t = 0)]
    envoy_core: usize,
    /// The core of the load and of the upstream
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Where the results go [default: benches/results; with --quick target/bench-quick]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// CPU a request beside the other filters.
    Ratios,
    /// CPU, throughput and latency in front of an upstream.
    User,
    /// What looking at answers costs.
    Watch,
    /// Release of parked requests.
    Herd,
    /// Memory of a worker's VM.
    Memory,
    /// From one app to a thousand.
    Apps,
    /// With Redis and without.
    Redis,
}

impl Section {
    const ALL: [Self; 7] = [
        Self::Ratios,
        Self::User,
        Self::Watch,
        Self::Herd,
        Self::Memory,
        Self::Apps,
        Self::Redis,
    ];
}

impl Options {
    /// The options with `--quick` worked in and paths made absolute from the workspace's root.
    fn settled(mut self) -> Self {
        if self.quick {
            self.rounds = 3;
            self.requests = 3_000;
            self.repetitions = 1;
        }
        let root = support::envoy::workspace();
        self.wasm = root.join(&self.wasm);
        let folder = if self.quick {
            "target/bench-quick"
        } else {
            "benches/results"
        };
        self.out = Some(root.join(self.out.unwrap_or_else(|| folder.into())));
        self
    }

    /// Whether a section is to be measured.
    fn wants(&self, section: Section) -> bool {
        self.sections.contains(&section)
    }

    /// Those of `rows` that are to be measured, in their order.
    fn rows_of(&self, rows: &[Row]) -> Vec<Row> {
        rows.iter()
            .copied()
            .filter(|row| self.rows.contains(row))
            .collect()
    }
}

fn main() -> ExitCode {
    let options = Options::parse().settled();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = runtime
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(run(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let bed = Bed::try_new(options).await?;
    let mut results = Results::new(options, machine::facts(options)?, bed.wasm_bytes());
    if options.wants(Section::Ratios) {
        results.ratios = Some(ratios::measure(&bed, options).await.context("ratios")?);
    }
    if options.wants(Section::User) {
        results.user = Some(user::measure(&bed, options).await.context("user")?);
    }
    if options.wants(Section::Watch) {
        results.watch = Some(watch::measure(&bed, options).await.context("watch")?);
    }
    if options.wants(Section::Herd) {
        results.herd = Some(herd::measure(&bed, options).await.context("herd")?);
    }
    if options.wants(Section::Memory) {
        results.memory = Some(memory::measure(&bed, options).await.context("memory")?);
    }
    if options.wants(Section::Apps) {
        results.apps = Some(apps::measure(&bed, options).await.context("apps")?);
    }
    if options.wants(Section::Redis) {
        results.redis = Some(redis::measure(&bed, options).await.context("redis")?);
    }
    results.targets = targets::judge(&results);
    println!("\n{}", table::summary(&results));
    let out = options
        .out
        .as_deref()
        .context("no folder for the results")?;
    write(out, &results)?;
    println!("written: {}", out.display());
    Ok(())
}

fn write(out: &Path, results: &Results) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut json = serde_json::to_string_pretty(results)?;
    json.push('\n');
    let files = [
        ("latest.json", json),
        ("README.md", table::markdown(results)),
        ("bench.svg", picture::draw(results)?),
    ];
    for (name, text) in files {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One line of progress.
fn progress(text: &str) {
    println!("bench: {text}");
}
