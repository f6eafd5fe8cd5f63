//! The pieces of pods in `envoy/istio/README.md`: each must be one that Kubernetes takes.

use std::fs;

use anyhow::{ensure, Result};
use serde_json::json;

use super::tools::{check, shipped};
use crate::schemas::documents;

/// Checks each YAML block as a part of a pod's spec.
pub(super) async fn read() -> Result<String> {
    let text = fs::read_to_string(shipped("README.md"))?;
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pod.yaml");
    let mut taken = 0;
    for block in blocks {
        for mut spec in documents(block)? {
            ensure!(spec["volumes"].is_array(), "no volume in:\n{block}");
            spec["containers"] = json!([{"name": "shop", "image": "shop"}]);
            let metadata = json!({"name": "shop"});
            let pod =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
            fs::write(&file, pod.to_string())?;
            taken += check(std::slice::from_ref(&file)).await?.len();
        }
    }
    ensure!(taken >= 2, "{taken} pieces of pods in README.md");
    Ok(format!(
        "the {taken} pieces of pods in README.md are Kubernetes's"
    ))
}
