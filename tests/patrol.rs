//! Leases of many apps: what a calm second costs, and that every change of holder is noticed all the same. The contexts
//! are the real ones, the Envoy is a small one without faults; `tests/simulation.rs` has those, with few apps.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(clippy::panic, clippy::expect_used, clippy::indexing_slicing)]
#![allow(unreachable_pub)]

#[path = "patrol/envoy.rs"]
mod envoy;

use envoy::{appid, Envoy, APPS, WORKERS};

/// Longest time in which a dead holder is replaced: its last heartbeat is 1 s old at two looks, each up to a second after the one before.
const REPLACED: u64 = 3_000;

/// An Envoy in which every app has its token, and what came of that is known everywhere.
fn setup() -> Envoy {
    let mut envoy = Envoy::new(APPS);
    envoy.run(10_000);
    assert_eq!(envoy.held_by_primary(), APPS);
    envoy
}

#[test]
fn a_calm_second_costs_a_thirtieth_of_the_records_and_few_slots() {
    let mut envoy = setup();
    const SECONDS: u64 = 60;
    envoy.forget_reads();
    envoy.run(SECONDS * 1_000);
    for (vm, reads) in envoy.reads().into_iter().enumerate() {
        let (records, slots) = (reads.records / SECONDS, reads.slots / SECONDS);
        assert!(
            records <= APPS as u64 / 30 + 2,
            "vm {vm}: {records} records a second"
        );
        // Two heartbeats of its own, and one look at each holder.
        assert!(slots <= 4, "vm {vm}: {slots} slots a second");
    }
}

#[test]
fn a_new_token_costs_its_own_record_and_not_that_of_every_app() {
    let mut envoy = setup();
    const SECONDS: u64 = 20;
    envoy.forget_reads();
    for app in 0..SECONDS {
        envoy.reject(&appid(app as usize));
        envoy.run(1_000);
    }
    for (vm, reads) in envoy.reads().into_iter().enumerate() {
        let records = reads.records / SECONDS;
        // Injector and patrol read a changed record once each, its holder reads it twice to write it.
        let most = APPS as u64 / 30 + 2 + 4;
        assert!(records <= most, "vm {vm}: {records} records a second");
    }
}

#[test]
fn a_dead_holder_of_many_apps_is_replaced_in_time_as_often_as_it_dies() {
    let mut envoy = setup();
    for _ in 0..3 {
        envoy.kill(WORKERS);
        envoy.run(REPLACED);
        assert_eq!(envoy.held_by_the_living(), APPS);
        assert_eq!(envoy.held_by_primary(), 0);
        envoy.start(WORKERS);
        envoy.run(1_500);
        assert_eq!(envoy.held_by_primary(), APPS, "it takes them back");
    }
}

#[test]
fn a_standby_that_dies_with_leases_is_replaced_by_another() {
    let mut envoy = setup();
    envoy.kill(WORKERS);
    envoy.run(REPLACED);
    for worker in 0..WORKERS - 1 {
        envoy.kill(worker);
        envoy.run(REPLACED);
        assert_eq!(envoy.held_by_the_living(), APPS, "after worker {worker}");
    }
}

#[test]
fn an_app_that_only_injectors_know_is_held_by_one_of_them() {
    let mut envoy = setup();
    envoy.kill(0);
    envoy.knows(APPS + 1);
    envoy.start(0);
    envoy.run(3_000);
    let record = envoy.record(&appid(APPS)).expect("a record");
    assert!(!record.holder.primary && record.token.is_some());
    assert_eq!(envoy.held_by_primary(), APPS);
}

#[test]
fn a_lease_that_moved_without_a_word_is_found_within_a_round() {
    let mut envoy = setup();
    envoy.kill(WORKERS);
    envoy.run(REPLACED);
    // Taken by a VM that trapped before it could raise the epoch.
    for app in 0..APPS {
        envoy.give_to_a_dead_one(&appid(app));
    }
    envoy.run(31_000 + REPLACED);
    assert_eq!(envoy.held_by_the_living(), APPS);
}
