//! Envoy Gateway.

use crate::deployment::Deployment;

/// Every way to deploy with Envoy Gateway.
pub(crate) fn deployments() -> Vec<Box<dyn Deployment>> {
    Vec::new()
}
