//! A soak: load with random faults on a real Envoy, round after round, and after each a look at what must never be.
//!
//! A round has four parts. *Trouble*: one to three faults drawn from the seed, under load; callers may see only what these faults can bring. *Recovery*: until
//! a second of load has good answers only. *Calm*: two more seconds, and nothing but good answers. *Quiet*: no load; nothing may be under way any more, the books
//! must balance, WeChat must have seen nothing that must never be, and memory is sampled. At the end the logs are searched for tokens and secrets.
//!
//! The seed decides on faults and calls, not on how they interleave: a run repeats the plan, not each packet.

mod balance;
mod bed;
mod caller;
mod leaks;
mod memory;
mod outcome;
mod round;
mod trouble;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::bed::Bed;
use crate::memory::{Rise, Sample};
use crate::outcome::Tally;
use crate::round::{warm_up, Round};
use crate::trouble::Deck;

/// Load with random faults on a real Envoy.
#[derive(Debug, Parser)]
struct Args {
    /// How long: 1 to 240 minutes (the classic app's daily budget ends soon after).
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=240))]
    minutes: u64,
    /// Repeats the plan of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// The version of Envoy.
    #[arg(long, default_value = "1.40.0")]
    envoy: String,
    /// Envoy's worker threads.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
}

// Envoy ends with the thread that started it, so that thread must be the main one.
#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args
        .seed
        .unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    println!(
        "soak: {} min, seed {seed}, Envoy {}, {} workers",
        args.minutes, args.envoy, args.workers
    );
    match run(&args, seed).await {
        Ok(faults) if faults.is_empty() => {
            println!("soak: nothing that must never happen happened");
            ExitCode::SUCCESS
        }
        Ok(faults) => {
            for fault in faults {
                eprintln!("soak: {fault}");
            }
            eprintln!("soak: FAILED; the same plan again: --seed {seed}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("soak: {error:#} (seed {seed})");
            ExitCode::FAILURE
        }
    }
}

/// Soaks, and says what was wrong.
async fn run(args: &Args, seed: u64) -> Result<Vec<String>> {
    let bed = Arc::new(Bed::start(&args.envoy, args.workers).await?);
    let mut rng = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    let length = Duration::from_secs(args.minutes * 60);
    // The only singleton dies once, so that both kinds of holders are seen: in the first half, because memory is judged over the last one.
    let dies_at = length.mul_f64(rng.random_range(0.2..0.4));
    let (mut faults, mut all, mut samples) = (Vec::new(), Tally::default(), Vec::new());
    let (mut deck, mut dead) = (Deck::default(), false);
    let mut books = warm_up(&bed, rng.random())
        .await
        .map_err(anyhow::Error::msg)?;
    for number in 1.. {
        let dies = !dead && started.elapsed() >= dies_at;
        dead |= dies;
        let round = Round::draw(number, &mut deck, &mut rng, dies);
        let ended = round.run(&bed, books).await?;
        let sample = Sample::take(&bed.envoy, started.elapsed().as_secs_f64()).await;
        println!("{:>5.0} s  {round}: {}; {sample}", sample.at, ended.tally);
        samples.push(sample);
        all.merge(ended.tally);
        faults.extend(
            ended
                .faults
                .iter()
                .map(|fault| format!("round {number} ({round}): {fault}")),
        );
        books = ended.books;
        if !faults.is_empty() || started.elapsed() >= length {
            break;
        }
    }
    println!("soak: {all}");
    let report = bed.fake.report();
    println!(
        "soak: {} token calls, at most {} of one app at once; applied: {:?}",
        report.token_calls, report.token_calls_in_flight_max, report.faults
    );
    faults.extend(leak(&samples));
    faults.extend(leaks::search(&bed)?);
    if !faults.is_empty() {
        println!("soak: Envoy's log: {}", leaks::keep(&bed, seed)?.display());
    }
    Ok(faults)
}

/// Prints how memory went, and says so where it rose.
fn leak(samples: &[Sample]) -> Option<String> {
    let Some(rise) = Rise::of(samples) else {
        println!("soak: too few rounds to say how memory went");
        return None;
    };
    println!("soak: memory over the last half: {rise}");
    rise.is_leak()
        .then(|| format!("memory rose over the last half: {rise}"))
}
