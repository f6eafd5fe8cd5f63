//! What stands twice or beside the files: the pieces of pods in `envoy/istio/README.md`, each of which Kubernetes must take, the
//! labels of the metrics, which are those of `envoy/envoy.yaml`, and the way to Redis, which is that of `envoy/redis.yaml`.

use std::fs;

use anyhow::{ensure, Context, Result};
use serde_json::json;
use support::envoy::workspace;

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

/// The `stats_tags` of each custom bootstrap are those of the complete Envoy.
pub(super) fn labels() -> Result<String> {
    let tags = "/stats_config/stats_tags";
    let envoy = fs::read_to_string(workspace().join("envoy/envoy.yaml"))?;
    let envoy = documents(&envoy)?;
    let wanted = envoy.first().and_then(|envoy| envoy.pointer(tags));
    let wanted = wanted.context("no stats_tags in envoy.yaml")?;
    for file in ["sidecar/refresher.yaml", "egress-gateway/refresher.yaml"] {
        let text = fs::read_to_string(shipped(file))?;
        let object = documents(&text)?.pop().context("a ConfigMap")?;
        let bootstrap = object["data"]["custom_bootstrap.json"].as_str();
        let bootstrap = documents(bootstrap.context("a bootstrap")?)?;
        let there = bootstrap.first().and_then(|there| there.pointer(tags));
        ensure!(
            there == Some(wanted),
            "{file}: other stats_tags than envoy.yaml"
        );
    }
    Ok("the labels of the metrics are those of envoy.yaml".to_owned())
}

/// The listener and the clusters for Redis are those of the complete Envoy, but for the folder of the socket.
pub(super) fn redis() -> Result<String> {
    let envoy = fs::read_to_string(workspace().join("envoy/redis.yaml"))?;
    let envoy = envoy.replace("/run/envoy/", "./etc/istio/proxy/");
    let envoy = documents(&envoy)?.pop().context("a bootstrap")?;
    let mut wanted = Vec::new();
    for kind in ["listeners", "clusters"] {
        let all = envoy["static_resources"][kind].as_array();
        wanted.extend(all.context(kind)?.iter().cloned());
    }
    let text = fs::read_to_string(shipped("egress-gateway/redis.yaml"))?;
    let filter = documents(&text)?.pop().context("an EnvoyFilter")?;
    let patches = filter["spec"]["configPatches"].as_array();
    let patches = patches.context("patches")?.iter();
    let there: Vec<_> = patches
        .map(|patch| patch["patch"]["value"].clone())
        .collect();
    ensure!(
        there == wanted,
        "egress-gateway/redis.yaml has another way to Redis than envoy/redis.yaml"
    );
    Ok("the way to Redis is that of redis.yaml".to_owned())
}
