//! The real .wasm in a real Envoy, on the shipped `envoy/envoy.demo.yaml`, against the strict fake WeChat.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

#[path = "e2e/configuration.rs"]
mod configuration;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/injection.rs"]
mod injection;
#[path = "e2e/leaks.rs"]
mod leaks;
#[path = "e2e/refused.rs"]
mod refused;
#[path = "e2e/rotation.rs"]
mod rotation;
#[path = "e2e/waiting.rs"]
mod waiting;
#[path = "e2e/world.rs"]
mod world;
