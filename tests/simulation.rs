//! The whole plugin on a virtual clock: the real contexts of one singleton and four workers, a simulated Envoy, and a
//! WeChat that keeps its rules, under seeded faults. After every step nothing may have happened that must never happen,
//! and in the end everything must have healed. `SIM_SEEDS` says how many seeds (2,000), `SIM_SEED` names a single one.
//!
//! Left out: what Envoy itself does with headers and bodies (the end-to-end tests show that), and a thread that stops
//! between two host calls of one callback for seconds.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]
#![allow(unreachable_pub)]

#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/host.rs"]
mod host;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/process.rs"]
mod process;
#[path = "simulation/rng.rs"]
mod rng;
#[path = "simulation/traffic.rs"]
mod traffic;
#[path = "simulation/wechat.rs"]
mod wechat;
#[path = "simulation/world.rs"]
mod world;

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::thread;

use checks::Seen;
use plan::{Mutation, THRIFTY};
use world::World;

/// Seeds by default.
const SEEDS: u64 = 2_000;
/// A planted bug must show within so many seeds.
const SEEDS_FOR_A_BUG: u64 = 500;

#[test]
fn nothing_that_must_never_happen_happens_under_any_seed() {
    let (seeds, failures, seen) = match number("SIM_SEED") {
        Some(seed) => (
            1,
            Vec::from_iter(run(seed, None).err().map(|why| (seed, why))),
            Vec::new(),
        ),
        None => {
            let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
            let (failures, seen) = run_all(seeds);
            (seeds, failures, seen)
        }
    };
    for (seed, why) in failures.iter().take(10) {
        println!("seed {seed}: {why}");
    }
    assert_eq!(
        failures.len(),
        0,
        "of {seeds} seeds failed; again with SIM_SEED={:?}",
        failures.first()
    );
    for (seed, seen) in &seen {
        assert!(
            seen.generations[..THRIFTY].iter().all(|g| *g > 3),
            "seed {seed} has too few rotations: {seen:?}"
        );
        assert!(
            seen.accepted > 100,
            "seed {seed} has too few requests: {seen:?}"
        );
    }
    let total = |of: fn(&Seen) -> u64| seen.iter().map(|(_, seen)| of(seen)).sum::<u64>();
    println!(
        "{seeds} seeds: {} calls of WeChat's token endpoint, {} refreshes by rejection, {} budgets spent, {} leases taken over, \
         {} writes lost, {} requests injected, {} parked, {} resent, {} answered by the plugin, {} accepted",
        total(|s| s.calls),
        total(|s| s.early),
        total(|s| s.budgets),
        total(|s| s.takeovers),
        total(|s| s.lost_writes),
        total(|s| s.injected),
        total(|s| s.parked),
        total(|s| s.resent),
        total(|s| s.replies),
        total(|s| s.accepted),
    );
}

#[test]
fn each_planted_bug_is_caught() {
    for (mutation, evidence) in [
        (Mutation::CasLeftOut, ""),
        (Mutation::UpdatedLost, "was announced"),
        (Mutation::NoLeaseTerm, ""),
        (Mutation::NoInFlightMark, "in flight"),
        (Mutation::NoGenerationCheck, "never rejected is refreshed"),
        (Mutation::NoRejectionLimit, "more refreshes than one"),
        (Mutation::LimitForgotten, "more refreshes than one"),
        (Mutation::OtherAppsToken, "of another app"),
        (Mutation::ExpiryIgnored, "expire"),
        (Mutation::NoDeadlines, "still waits"),
        (Mutation::OlderTokenSaved, "replaces a newer token"),
        (Mutation::BudgetForgotten, "exceed its budget"),
        (Mutation::WallDeadlines, ""),
    ] {
        let caught = (0..SEEDS_FOR_A_BUG).find_map(|seed| {
            Some((seed, run(seed, Some(mutation)).err()?)).filter(|(_, why)| why.contains(evidence))
        });
        match caught {
            Some((seed, why)) => println!("{mutation:?}: seed {seed}: {why}"),
            None => panic!("{mutation:?} is not caught by {SEEDS_FOR_A_BUG} seeds"),
        }
    }
}

#[test]
fn a_seed_means_the_same_every_time() {
    let both = [run(7, None), run(7, None)].map(|seen| format!("{seen:?}"));
    assert_eq!(both[0], both[1]);
}

fn run(seed: u64, mutation: Option<Mutation>) -> Result<Seen, String> {
    catch_unwind(|| World::run(seed, mutation)).unwrap_or_else(|_| Err("a panic".to_owned()))
}

type Failures = Vec<(u64, String)>;

/// Runs the seeds on all cores.
fn run_all(seeds: u64) -> (Failures, Vec<(u64, Seen)>) {
    let next = AtomicU64::new(0);
    let results = Mutex::new((Vec::new(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return;
                }
                let result = run(seed, None);
                let mut results = results.lock().expect("no thread panics");
                match result {
                    Ok(seen) => results.1.push((seed, seen)),
                    Err(why) => results.0.push((seed, why)),
                }
            });
        }
    });
    let (mut failures, seen) = results.into_inner().expect("no thread panics");
    failures.sort();
    (failures, seen)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}
