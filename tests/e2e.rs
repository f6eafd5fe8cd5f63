//! The real .wasm in real Envoys, on the shipped files under `envoy/`, against the strict fake WeChat.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

#[path = "e2e/answers.rs"]
mod answers;
#[path = "e2e/apps.rs"]
mod apps;
#[path = "e2e/caller_token.rs"]
mod caller_token;
#[path = "e2e/chunked.rs"]
mod chunked;
#[path = "e2e/clock.rs"]
mod clock;
#[path = "e2e/compressed.rs"]
mod compressed;
#[path = "e2e/configuration.rs"]
mod configuration;
#[path = "e2e/dynamic.rs"]
mod dynamic;
#[path = "e2e/existing.rs"]
mod existing;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/first_calls.rs"]
mod first_calls;
#[path = "e2e/hostile.rs"]
mod hostile;
#[path = "e2e/injection.rs"]
mod injection;
#[path = "e2e/large.rs"]
mod large;
#[path = "e2e/leaks.rs"]
mod leaks;
#[path = "e2e/leases.rs"]
mod leases;
#[path = "e2e/load.rs"]
mod load;
#[path = "e2e/many_apps.rs"]
mod many_apps;
#[path = "e2e/mesh.rs"]
mod mesh;
#[path = "e2e/neighbours.rs"]
mod neighbours;
#[path = "e2e/odd_targets.rs"]
mod odd_targets;
#[path = "e2e/older.rs"]
mod older;
#[path = "e2e/protocols.rs"]
mod protocols;
#[path = "e2e/redis.rs"]
mod redis;
#[path = "e2e/redis_answers.rs"]
mod redis_answers;
#[path = "e2e/redis_deployed.rs"]
mod redis_deployed;
#[path = "e2e/redis_partition.rs"]
mod redis_partition;
#[path = "e2e/redis_pauses.rs"]
mod redis_pauses;
#[path = "e2e/redis_refuses.rs"]
mod redis_refuses;
#[path = "e2e/redis_trouble.rs"]
mod redis_trouble;
#[path = "e2e/refused.rs"]
mod refused;
#[path = "e2e/rejected.rs"]
mod rejected;
#[path = "e2e/remote.rs"]
mod remote;
#[path = "e2e/resending.rs"]
mod resending;
#[path = "e2e/restarts.rs"]
mod restarts;
#[path = "e2e/retries.rs"]
mod retries;
#[path = "e2e/rewriting.rs"]
mod rewriting;
#[path = "e2e/rotation.rs"]
mod rotation;
#[path = "e2e/scale.rs"]
mod scale;
#[path = "e2e/settings.rs"]
mod settings;
#[path = "e2e/status.rs"]
mod status;
#[path = "e2e/tls.rs"]
mod tls;
#[path = "e2e/transparent_https.rs"]
mod transparent_https;
#[path = "e2e/traps.rs"]
mod traps;
#[path = "e2e/untouched.rs"]
mod untouched;
#[path = "e2e/updates.rs"]
mod updates;
#[path = "e2e/upgrades.rs"]
mod upgrades;
#[path = "e2e/upstream.rs"]
mod upstream;
#[path = "e2e/waiting.rs"]
mod waiting;
#[path = "e2e/world.rs"]
mod world;
