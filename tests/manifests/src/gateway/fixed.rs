//! Turns what Envoy Gateway makes of manifests into one static configuration.
//!
//! What Envoy Gateway would send over xDS becomes static: clusters with their endpoints, listeners with their routes. Left out is what leads to Envoy
//! Gateway itself: the subscription, its clusters, and the cluster of the proxies' own pods. Nothing else changes here.

use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context, Result};
use serde_json::{json, Map, Value};

use crate::wechat::{WeChat, HOST};

/// The clusters of the bootstrap that lead to Envoy Gateway.
const TO_ENVOY_GATEWAY: [&str; 2] = ["xds_cluster", "wasm_cluster"];

/// The CAs of Envoy's image.
const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where the plugin is in the pods of `upstream.yaml`.
const VOLUME: &str = "/etc/envoy/wechat-token/plugin.wasm";

/// The static configuration, from the bootstrap that a pod's Envoy is started with and from what Envoy Gateway sends it.
pub(super) fn assemble(bootstrap: &Value, xds: &Value) -> Result<Value> {
    let list = |kind: &str| xds[kind].as_array().cloned().unwrap_or_default();
    let (endpoints, routes) = (list("endpoints"), list("routes"));
    let (mut clusters, mut listeners) = (list("clusters"), list("listeners"));
    ensure!(!clusters.is_empty(), "no cluster");
    for cluster in &mut clusters {
        put_endpoints(cluster, &endpoints)?;
    }
    for listener in &mut listeners {
        put_routes(listener, &routes)?;
    }
    for cluster in &mut clusters {
        // Without a source it is one of the static secrets.
        each_object(cluster, &mut |object| {
            if let Some(secret) = object.get_mut("validation_context_sds_secret_config") {
                *secret = json!({"name": secret["name"]});
            }
        });
    }
    let mut root = bootstrap.clone();
    let fields = root.as_object_mut().context("no bootstrap")?;
    for field in ["admin", "cluster_manager", "dynamic_resources", "node"] {
        fields.remove(field);
    }
    let own = &mut root["static_resources"];
    for (field, added) in [("clusters", clusters), ("listeners", listeners)] {
        let kept = own[field].as_array().into_iter().flatten().cloned();
        let all = kept.chain(added).filter(|item| {
            let is_to = TO_ENVOY_GATEWAY.iter().any(|name| item["name"] == *name);
            !is_to && item["type"] != "EDS"
        });
        own[field] = all.collect::<Vec<_>>().into();
    }
    // The proxies' own certificate is for Envoy Gateway alone.
    let secrets = list("secrets").into_iter();
    let authorities = secrets.filter(|secret| !secret["validation_context"].is_null());
    own["secrets"] = authorities.collect::<Vec<_>>().into();
    Ok(root)
}

/// Leads everything that is meant for WeChat to this one: its address, and the CA that signed it in place of the system's. Returns the names of the clusters that
/// this was done in.
pub(super) fn redirect(root: &mut Value, wechat: &WeChat) -> Result<Vec<String>> {
    let mut led = Vec::new();
    let clusters = root["static_resources"]["clusters"].as_array_mut();
    for cluster in clusters.into_iter().flatten() {
        let mut addresses = 0;
        each_object(cluster, &mut |object| {
            if let Some(socket) = object.get_mut("socket_address") {
                if socket["address"] == HOST && socket["port_value"] == 443 {
                    socket["address"] = json!(wechat.tls.address.ip());
                    socket["port_value"] = json!(wechat.tls.address.port());
                    addresses += 1;
                }
            }
        });
        if addresses > 0 {
            let has_tls = cluster.to_string().contains("UpstreamTlsContext");
            ensure!(has_tls, "no TLS: {cluster}");
            led.push(cluster["name"].as_str().unwrap_or_default().to_owned());
        }
    }
    each_object(root, &mut |object| {
        if let Some(authority) = object.get_mut("trusted_ca") {
            if authority["filename"] == SYSTEM_CAS {
                authority["filename"] = json!(wechat.ca_file());
            }
        }
    });
    Ok(led)
}

/// Lets every virtual machine load this file, which is the plugin that Envoy Gateway serves or that the pod has in a volume. Returns in how many places.
pub(super) fn load(root: &mut Value, plugin: &Path) -> Result<usize> {
    let (mut places, mut foreign) = (0, Vec::new());
    let sum = sha256(plugin)?;
    each_object(root, &mut |object| {
        if let Some(code) = object.get_mut("code") {
            let remote = &code["remote"];
            let is_volume = code["local"]["filename"] == VOLUME;
            let is_served = remote["http_uri"]["cluster"] == "wasm_cluster";
            // What it took out of the image is what was put in.
            if is_volume || (is_served && remote["sha256"] == sum) {
                places += 1;
            } else {
                foreign.push(code.clone());
            }
            *code = json!({"local": {"filename": plugin}});
        }
    });
    ensure!(
        foreign.is_empty(),
        "other code than the plugin: {foreign:?}"
    );
    Ok(places)
}

/// The plugin's own configuration, which is the same in every place.
pub(super) fn document(root: &mut Value) -> Result<Value> {
    let mut found: Vec<Value> = Vec::new();
    each_object(root, &mut |object| {
        if object.contains_key("vm_config") {
            found.extend(object.get("configuration").cloned());
        }
    });
    let first = found.first().context("no configuration of the plugin")?;
    ensure!(
        found.iter().all(|other| other == first),
        "the plugin is configured in different ways: {found:?}"
    );
    Ok(first.clone())
}

fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output()?;
    let text = String::from_utf8(output.stdout)?;
    let sum = text.split_whitespace().next();
    Ok(sum.context("sha256sum says nothing")?.to_owned())
}

/// A cluster whose endpoints come by themselves has them in it from now on.
fn put_endpoints(cluster: &mut Value, endpoints: &[Value]) -> Result<()> {
    if cluster["type"] != "EDS" {
        return Ok(());
    }
    let name = cluster["eds_cluster_config"]["service_name"].clone();
    let name = if name.is_null() {
        cluster["name"].clone()
    } else {
        name
    };
    let found = endpoints.iter().find(|item| item["cluster_name"] == name);
    let found = found.with_context(|| format!("no endpoints of {name}"))?;
    cluster["load_assignment"] = found.clone();
    cluster["type"] = json!("STATIC");
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.remove("eds_cluster_config");
    }
    Ok(())
}

/// A listener whose routes come by themselves has them in it from now on.
fn put_routes(listener: &mut Value, routes: &[Value]) -> Result<()> {
    let mut missing = None;
    each_object(listener, &mut |object| {
        let Some(rds) = object.remove("rds") else {
            return;
        };
        let name = &rds["route_config_name"];
        match routes.iter().find(|route| route["name"] == *name) {
            Some(route) => {
                object.insert("route_config".to_owned(), route.clone());
            }
            None => missing = Some(name.clone()),
        }
    });
    ensure!(missing.is_none(), "no routes {missing:?}");
    Ok(())
}

fn each_object(value: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object
                .values_mut()
                .for_each(|value| each_object(value, visit));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, visit)),
        _ => {}
    }
}
