//! What Istio's injection made of a Deployment: the arguments, variables and files of its containers, as Kubernetes would give them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{json, Value};

use super::cluster::Cluster;
use super::pod::Place;
use super::world::OUTSIDE;

/// An injected Deployment.
pub(super) struct Injected<'a> {
    metadata: &'a Value,
    spec: &'a Value,
    /// The container `istio-proxy`.
    proxy: &'a Value,
    namespace: &'a str,
    account: &'a str,
}

impl<'a> Injected<'a> {
    pub(super) fn of(deployment: &'a Value) -> Result<Self> {
        let at = |path: &str| {
            let value = deployment.pointer(path);
            value.with_context(|| format!("no {path} in {deployment}"))
        };
        let spec = at("/spec/template/spec")?;
        let account = spec.get("serviceAccountName").and_then(Value::as_str);
        Ok(Self {
            metadata: at("/spec/template/metadata")?,
            spec,
            proxy: container(spec, "istio-proxy").context("no container istio-proxy")?,
            namespace: at("/metadata/namespace")?.as_str().context("a namespace")?,
            account: account.unwrap_or("default"),
        })
    }

    /// The arguments of `istio-init`, where there is one.
    pub(super) fn init_args(&self) -> Option<Vec<String>> {
        container(self.spec, "istio-init").map(|init| texts(init.get("args")))
    }

    /// The arguments of `istio-proxy`.
    pub(super) fn args(&self) -> Vec<String> {
        let args = texts(self.proxy.get("args")).into_iter();
        args.map(|arg| match arg.starts_with("--proxyLogLevel=") {
            // What the plugin tells is what the cases look for.
            true => "--proxyLogLevel=info".to_owned(),
            false => arg.replace("$(POD_NAMESPACE)", self.namespace),
        })
        .collect()
    }

    /// Writes the files that Kubernetes and Istio's CA give to every pod, below a folder.
    pub(super) fn write_files(&self, folder: &Path, cluster: &Cluster) -> Result<()> {
        let info = folder.join("etc/istio/pod");
        fs::create_dir_all(&info)?;
        for kind in ["labels", "annotations"] {
            let pairs = self.metadata.get(kind).and_then(Value::as_object);
            let pairs = pairs.into_iter().flatten();
            let lines: String = pairs
                .map(|(key, value)| format!("{key}={value}\n"))
                .collect();
            fs::write(info.join(kind), lines)?;
        }
        let secrets = folder.join("var/run/secrets");
        let credentials = secrets.join("workload-spiffe-credentials");
        cluster
            .authority
            .write(self.namespace, self.account, &credentials)?;
        for empty in [
            "var/run/secrets/workload-spiffe-uds",
            "var/run/secrets/credential-uds",
            "etc/istio/proxy",
        ] {
            fs::create_dir_all(folder.join(empty))?;
        }
        Ok(())
    }

    /// Puts the ConfigMaps that the container mounts where it mounts them.
    pub(super) fn mount(&self, cluster: &Cluster) -> Result<()> {
        let volumes = self.spec.get("volumes").and_then(Value::as_array);
        let mounts = self.proxy.get("volumeMounts").and_then(Value::as_array);
        for mount in mounts.into_iter().flatten() {
            let name = mount.get("name").context("a mount's name")?;
            let volume = volumes
                .into_iter()
                .flatten()
                .find(|volume| volume.get("name") == Some(name));
            let volume = volume.with_context(|| format!("no volume {name}"))?;
            let config_map = volume.pointer("/configMap/name").and_then(Value::as_str);
            // Istio's own, which a cluster without its CA does not have.
            let Some(config_map) = config_map.filter(|name| !name.starts_with("istio-")) else {
                continue;
            };
            let files = cluster.config_maps.get(config_map);
            let files = files.with_context(|| format!("no ConfigMap {config_map}"))?;
            let path = mount.get("mountPath").and_then(Value::as_str);
            let path = Path::new(path.context("a mount's path")?);
            fs::create_dir_all(path)?;
            for (file, content) in files {
                fs::write(path.join(file), content)?;
            }
        }
        Ok(())
    }

    /// The variables of `istio-proxy`.
    pub(super) fn env(&self, place: Place, cluster: &Cluster) -> Result<BTreeMap<String, String>> {
        let mut env = BTreeMap::new();
        let variables = self.proxy.get("env").and_then(Value::as_array);
        for variable in variables.into_iter().flatten() {
            let name = variable.get("name").and_then(Value::as_str);
            let name = name.context("a variable's name")?;
            let optional = "/valueFrom/secretKeyRef/optional";
            let value = match variable.get("valueFrom") {
                Some(from) => self.value_from(from, place, cluster),
                None => Some(text(variable.get("value")).unwrap_or_default()),
            };
            if value.is_none() && variable.pointer(optional) == Some(&json!(true)) {
                continue;
            }
            let value = value.with_context(|| format!("no value for {name}: {variable}"))?;
            env.insert(name.to_owned(), value);
        }
        // What differs from a cluster: where istiod is, that it has no certificate, and which Envoy runs.
        let config = json!({
            "discoveryAddress": cluster.discovery.to_string(),
            "controlPlaneAuthPolicy": "NONE",
            "binaryPath": cluster.programs.envoy,
            "proxyBootstrapTemplatePath": cluster.programs.bootstrap_template,
            "concurrency": 2,
        });
        env.insert("PROXY_CONFIG".to_owned(), config.to_string());
        Ok(env)
    }

    fn value_from(&self, from: &Value, place: Place, cluster: &Cluster) -> Option<String> {
        if let Some(path) = from.pointer("/fieldRef/fieldPath") {
            return Some(match path.as_str()? {
                "metadata.name" => place.name(),
                "metadata.namespace" => self.namespace.to_owned(),
                "spec.serviceAccountName" => self.account.to_owned(),
                "spec.nodeName" => "node".to_owned(),
                "status.podIP" => place.address().to_string(),
                "status.hostIP" => OUTSIDE.to_string(),
                _ => return None,
            });
        }
        if let Some(secret) = from.get("secretKeyRef") {
            let key = (text(secret.get("name"))?, text(secret.get("key"))?);
            return cluster.secrets.get(&key).cloned();
        }
        match from.pointer("/resourceFieldRef/resource")?.as_str()? {
            "limits.cpu" => Some("2".to_owned()),
            "limits.memory" => Some((1 << 30).to_string()),
            _ => None,
        }
    }
}

fn container<'a>(spec: &'a Value, name: &str) -> Option<&'a Value> {
    let of = |kind: &str| spec.get(kind).and_then(Value::as_array);
    let all = of("containers").into_iter().chain(of("initContainers"));
    let mut all = all.flatten();
    all.find(|container| container.get("name").and_then(Value::as_str) == Some(name))
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| text(Some(item))).collect()
}

fn text(value: Option<&Value>) -> Option<String> {
    value?.as_str().map(str::to_owned)
}
