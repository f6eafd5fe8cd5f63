//! What is shipped for Prometheus and Grafana: files that fit together, alerts that fire when they should and not else, and every panel of the dashboard
//! with data in it. `make monitoring` runs it and has set up what it needs: Prometheus, and Python with Grafana's builder library.
//!
//! `UPDATE_DASHBOARD=1 make monitoring` writes `envoy/monitoring/dashboard.json` anew from its generator, and draws `docs/dashboard.svg` from the data that
//! the incident left in Prometheus.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

#[path = "monitoring/alerts.rs"]
mod alerts;
#[path = "monitoring/dashboard.rs"]
mod dashboard;
#[path = "monitoring/files.rs"]
mod files;
#[path = "monitoring/incident.rs"]
mod incident;
#[path = "monitoring/picture.rs"]
mod picture;
#[path = "monitoring/prometheus.rs"]
mod prometheus;
#[path = "monitoring/scene.rs"]
mod scene;
