//! What a cluster has for its pods: ConfigMaps, the Secret, istiod, a CA; and what Kubernetes tells istiod.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{json, Value};
use support::envoy::binary;

use super::identity::MeshAuthority;
use super::pod::Place;
use super::tools::built;
use super::world::{self, OUTSIDE};
use crate::schemas::documents;
use crate::wechat::SECRET;

const ENVOY: &str = "1.40.0";
/// The gateway's namespace, and its service.
const EGRESS: &str = "wechat-egress";

/// What a cluster has for its pods.
pub(super) struct Cluster {
    /// The content of its ConfigMaps.
    pub(super) config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The value of the one Secret, by its key.
    pub(super) secrets: BTreeMap<(String, String), String>,
    /// istiod's address.
    pub(super) discovery: SocketAddr,
    pub(super) authority: MeshAuthority,
    pub(super) programs: Programs,
}

/// Where the programs are, for everybody.
pub(super) struct Programs {
    pub(super) agent: String,
    pub(super) envoy: String,
    pub(super) bootstrap_template: String,
}

/// What the README has a user make beside the files: the Secret, and the ConfigMap with the plugin.
pub(super) async fn cluster(files: &[PathBuf], plugin: &Path) -> Result<Cluster> {
    let mut config_maps = BTreeMap::from([(
        "wechat-token-plugin".to_owned(),
        BTreeMap::from([("plugin.wasm".to_owned(), fs::read(plugin)?)]),
    )]);
    for file in files {
        for object in documents(&fs::read_to_string(file)?)? {
            if object.get("kind") != Some(&json!("ConfigMap")) {
                continue;
            }
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            let data = object.get("data").cloned().unwrap_or_default();
            let data: BTreeMap<String, String> = serde_json::from_value(data)?;
            let data = data.into_iter();
            let data = data.map(|(file, text)| (file, text.into_bytes()));
            config_maps.insert(name.context("a name")?.to_owned(), data.collect());
        }
    }
    let key = ("wechat-token".to_owned(), "WECHAT_SECRET".to_owned());
    Ok(Cluster {
        config_maps,
        secrets: BTreeMap::from([(key, SECRET.to_owned())]),
        discovery: SocketAddr::from((OUTSIDE, 15_010)),
        authority: MeshAuthority::new()?,
        programs: Programs {
            agent: world::program("pilot-agent", &built("pilot-agent")?).await?,
            envoy: world::program("envoy", &binary(ENVOY)).await?,
            bootstrap_template: world::program(
                "envoy_bootstrap.json",
                &built("envoy_bootstrap.json")?,
            )
            .await?,
        },
    })
}

/// What Kubernetes tells istiod of the gateway's pod.
pub(super) fn endpoints(deployment: &Value, place: Place) -> Result<String> {
    let labels = deployment.pointer("/spec/template/metadata/labels");
    let spec = deployment.pointer("/spec/template/spec");
    let target = json!({"kind": "Pod", "name": place.name(), "namespace": EGRESS});
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": place.name(), "namespace": EGRESS, "labels": labels},
        "spec": spec,
        "status": {
            "phase": "Running",
            "podIP": place.address(),
            "podIPs": [{"ip": place.address()}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": EGRESS,
            "namespace": EGRESS,
            "labels": {"kubernetes.io/service-name": EGRESS},
        },
        "addressType": "IPv4",
        "ports": [{"name": "tls-wechat", "port": 8443, "protocol": "TCP"}],
        "endpoints": [{
            "addresses": [place.address()],
            "conditions": {"ready": true},
            "targetRef": target,
        }],
    });
    let texts = [
        serde_norway::to_string(&pod)?,
        serde_norway::to_string(&slice)?,
    ];
    Ok(texts.join("\n---\n"))
}
