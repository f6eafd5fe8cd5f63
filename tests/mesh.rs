//! Many Envoys and one store, on a virtual clock: the real core, a model of Redis, a WeChat with the classic endpoint's rules.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

#[path = "mesh/agreement.rs"]
mod agreement;
#[path = "mesh/book.rs"]
mod book;
#[path = "mesh/day.rs"]
mod day;
#[path = "mesh/model.rs"]
mod model;
#[path = "mesh/neighbours.rs"]
mod neighbours;
#[path = "mesh/plan.rs"]
mod plan;
#[path = "mesh/queue.rs"]
mod queue;
#[path = "mesh/redis.rs"]
mod redis;
#[path = "mesh/refusals.rs"]
mod refusals;
#[path = "mesh/rig.rs"]
mod rig;
#[path = "simulation/rng.rs"]
#[allow(dead_code)] // the simulation of one Envoy uses more of it
mod rng;
#[path = "mesh/scale.rs"]
mod scale;
#[path = "mesh/wakeups.rs"]
mod wakeups;
