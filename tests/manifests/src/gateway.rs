//! Envoy Gateway: its own translation reads the shipped files, and a real Envoy runs what comes out.
//!
//! `_inside/main.go` calls the translation and prints what it makes, see there. The bootstrap is the one in the arguments of the pods that Envoy Gateway would start.

mod fixed;
mod status;

use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use serde_json::{json, Value};
use support::client::Client;
use support::envoy::{workspace, Config, Envoy};
use tokio::process::Command;

use crate::deployment::{Bodies, Deployment, OnRejected, Pending, Running};
use crate::schemas::Schemas;
use crate::wechat::{WeChat, APPID, SECRET};

/// The Envoy that all run on.
const ENVOY: &str = "1.40.0";
/// The Gateway in the shipped files, and its listener.
const GATEWAY: &str = "wechat/wechat";
const LISTENER: &str = "wechat/wechat/http";
/// The cluster of the route in the shipped files.
const CLUSTER: &str = "httproute/wechat/wechat/rule/0";

/// The listener of the status page in `upstream.yaml`.
const STATUS: &str = "wechat_token_status";

/// Every way to deploy with Envoy Gateway.
pub(crate) fn deployments() -> Vec<Box<dyn Deployment>> {
    vec![
        Box::new(Variant {
            name: "gateway-upstream",
            about: "envoy/gateway: gateway.yaml and upstream.yaml, as Envoy Gateway reads them",
            files: ["envoy/gateway/gateway.yaml", "envoy/gateway/upstream.yaml"],
            is_upstream: true,
            planted: &[
                (
                    "an unknown field",
                    "maxParallelRetries:",
                    "maxParalelRetries:",
                ),
                ("a value out of its range", "port: 443", "port: 443000"),
                (
                    "an unknown field of Envoy",
                    "num_retries: 1",
                    "num_retry: 1",
                ),
                (
                    "a patch of another cluster",
                    CLUSTER,
                    "httproute/wechat/wechat/rule/1",
                ),
                (
                    "a filter before one that is not there",
                    "envoy.filters.http.router')]",
                    "envoy.filters.http.rooter')]",
                ),
                (
                    "a bootstrap that is none",
                    "singleton: true",
                    "singleton: [true]",
                ),
            ],
        }),
        Box::new(Variant {
            name: "gateway-extension-policy",
            about:
                "envoy/gateway: gateway.yaml and extension-policy.yaml, as Envoy Gateway reads them",
            files: [
                "envoy/gateway/gateway.yaml",
                "envoy/gateway/extension-policy.yaml",
            ],
            is_upstream: false,
            planted: &[
                ("an unknown field", "hostKeys:", "hostkeys:"),
                ("a limit that is none", "limit: 21Mi", "limit: 21 MB"),
                (
                    "an image that is not there",
                    "envoy-wechat-token:0.1.0",
                    "envoy-wechat-token:0.1.1",
                ),
                (
                    "a route that is not there",
                    "kind: HTTPRoute, name: wechat",
                    "kind: HTTPRoute, name: other",
                ),
            ],
        }),
    ]
}

/// The files that a user applies, and what they have.
struct Variant {
    name: &'static str,
    about: &'static str,
    files: [&'static str; 2],
    /// The injector is in the cluster, with a refresher in the bootstrap.
    is_upstream: bool,
    /// Faults, each of which must be refused: what it is, what it replaces, by what.
    planted: &'static [(&'static str, &'static str, &'static str)],
}

impl Deployment for Variant {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn on_rejected(&self) -> OnRejected {
        if self.is_upstream {
            OnRejected::Resent
        } else {
            OnRejected::Unnoticed
        }
    }

    fn bodies(&self) -> Bodies {
        if self.is_upstream {
            Bodies::Collected
        } else {
            Bodies::AllCollected
        }
    }

    fn has_refresher(&self) -> bool {
        self.is_upstream
    }

    fn read(&self) -> Pending<'_, Vec<String>> {
        Box::pin(async {
            let plugin = workspace().join("dist/wechat-token.wasm");
            let schemas = Schemas::load(&built("crds")?)?;
            let manifests = self.manifests()?;
            let checked = schemas.check(&manifests)?;
            let made = translate(&manifests, &plugin).await?;
            let taken = status::all_good(&manifests, &made)?;
            let pod = self.check_pod(&made["infra"][GATEWAY])?;
            if self.is_upstream {
                let varied = as_in_readme(&manifests)?;
                schemas
                    .check(&varied)
                    .context("the README's init container")?;
                let made = translate(&varied, &plugin).await?;
                status::all_good(&varied, &made).context("the README's init container")?;
                let pod = &made["infra"][GATEWAY]["deployment"]["spec"]["template"]["spec"];
                find(&pod["initContainers"], "wechat-token")?;
            }
            let mut refused = Vec::new();
            for (what, right, wrong) in self.planted {
                ensure!(manifests.contains(right), "nothing to replace: {right}");
                let faulty = manifests.replace(right, wrong);
                let result = match translate(&faulty, &plugin).await {
                    Ok(made) => status::all_good(&faulty, &made).map(drop),
                    Err(error) => Err(error),
                };
                let by_schema = schemas.check(&faulty).is_err();
                ensure!(by_schema || result.is_err(), "{what} was taken: {wrong}");
                let by = if by_schema { "schema" } else { "Envoy Gateway" };
                refused.push(format!("{what} ({by})"));
            }
            Ok(vec![
                format!("{checked} resources fit the schemas of its installation"),
                format!("taken by Envoy Gateway: {}", taken.join(", ")),
                pod,
                format!("refused, planted: {}", refused.join(", ")),
            ])
        })
    }

    fn start<'a>(&'a self, wechat: &'a WeChat, plugin: &'a Path) -> Pending<'a, Running> {
        Box::pin(async move {
            let made = translate(&self.manifests()?, plugin).await?;
            let bootstrap = bootstrap(&made["infra"][GATEWAY])?;
            let mut root = fixed::assemble(&bootstrap, &made["xds"][GATEWAY])?;
            let mut led = fixed::redirect(&mut root, wechat)?;
            led.sort();
            let loaded = fixed::load(&mut root, plugin)?;
            let document = fixed::document(&mut root)?.to_string();
            ensure!(document.contains(APPID), "another app: {document}");
            let (clusters, places): (&[&str], _) = if self.is_upstream {
                (&[CLUSTER, "wechat_token"], 3)
            } else {
                (&[CLUSTER], 1)
            };
            ensure!(led == clusters, "clusters that lead to WeChat: {led:?}");
            ensure!(loaded == places, "the plugin is loaded in {loaded} places");
            if self.is_upstream {
                check_tags(&root)?;
            }
            run(&root, self.is_upstream).await
        })
    }
}

impl Variant {
    /// The shipped files, one after the other, as `kubectl apply` gets them.
    fn manifests(&self) -> Result<String> {
        let read = |file: &&str| {
            std::fs::read_to_string(workspace().join(file)).with_context(|| (*file).to_owned())
        };
        let files: Vec<_> = self.files.iter().map(read).collect::<Result<_>>()?;
        Ok(files.join("\n---\n"))
    }

    /// The pods that Envoy Gateway would start have the secret and, where they need it, the plugin; their Service is the one that the route names.
    fn check_pod(&self, infra: &Value) -> Result<String> {
        let pod = &infra["deployment"]["spec"]["template"]["spec"];
        let envoy = &pod["containers"][0];
        let secret = find(&envoy["env"], "WECHAT_SECRET")?;
        let from = json!({"secretKeyRef": {"name": "wechat-token", "key": "secret"}});
        ensure!(secret["valueFrom"] == from, "WECHAT_SECRET: {secret}");
        if self.is_upstream {
            let volume = find(&pod["volumes"], "wechat-token")?;
            ensure!(!volume["image"]["reference"].is_null(), "{volume}");
            let mount = find(&envoy["volumeMounts"], "wechat-token")?;
            ensure!(mount["mountPath"] == "/etc/envoy/wechat-token", "{mount}");
        }
        let service = &infra["service"];
        let (name, namespace) = (
            &service["metadata"]["name"],
            &service["metadata"]["namespace"],
        );
        ensure!(
            (name, namespace) == (&json!("wechat"), &json!("envoy-gateway-system")),
            "the Service is {name} in {namespace}"
        );
        ensure!(
            service["spec"]["type"] == "ClusterIP",
            "{}",
            service["spec"]
        );
        Ok("its pods: WECHAT_SECRET from the Secret, Service wechat.envoy-gateway-system, inside the cluster only".to_owned())
    }
}

/// The plugin's metrics get the labels that they have with the shipped `envoy.yaml`.
fn check_tags(root: &Value) -> Result<()> {
    let tags = |config: &Value| config["stats_config"]["stats_tags"].as_array().cloned();
    let shipped = std::fs::read_to_string(workspace().join("envoy/envoy.yaml"))?;
    let mut shipped: serde_norway::Value = serde_norway::from_str(&shipped)?;
    shipped.apply_merge()?;
    let shipped = tags(&serde_json::to_value(shipped)?).context("tags of envoy.yaml")?;
    let own = tags(root).context("tags of the bootstrap")?;
    let missing: Vec<_> = shipped.iter().filter(|tag| !own.contains(tag)).collect();
    ensure!(missing.is_empty(), "missing of envoy.yaml: {missing:?}");
    Ok(())
}

/// `upstream.yaml` with the init container that the README shows for clusters without image volumes.
fn as_in_readme(manifests: &str) -> Result<String> {
    let readme = std::fs::read_to_string(workspace().join("envoy/gateway/README.md"))?;
    let block = readme
        .split("```yaml\n")
        .find(|block| block.contains("initContainers:"));
    let block = block.and_then(|block| block.split("```").next());
    let block = block.context("no init container in the README")?;
    let (before, rest) = manifests.split_once("        pod:\n").context("no pod")?;
    let (_, after) = rest.split_once("  bootstrap:\n").context("no bootstrap")?;
    Ok(format!("{before}{block}  bootstrap:\n{after}"))
}

/// The item of this name.
fn find<'a>(list: &'a Value, name: &str) -> Result<&'a Value> {
    let found = list
        .as_array()
        .into_iter()
        .flatten()
        .find(|item| item["name"] == name);
    found.with_context(|| format!("no {name} in {list}"))
}

/// The bootstrap in the arguments of a pod's Envoy.
fn bootstrap(infra: &Value) -> Result<Value> {
    let envoy = &infra["deployment"]["spec"]["template"]["spec"]["containers"][0];
    let args: Vec<_> = envoy["args"].as_array().into_iter().flatten().collect();
    let place = args.iter().position(|arg| **arg == "--config-yaml");
    let text = place.and_then(|place| args.get(place + 1)?.as_str());
    let text = text.context("no --config-yaml among the pod's arguments")?;
    serde_norway::from_str(text).context("the bootstrap")
}

/// Starts an Envoy on a static configuration.
async fn run(root: &Value, has_status: bool) -> Result<Running> {
    let mut config = Config::parse(&root.to_string());
    config.free_ports();
    let envoy = Envoy::builder(ENVOY)
        .config(config)
        .concurrency(2)
        .env("WECHAT_SECRET", SECRET)
        .try_start()
        .await?;
    Ok(Running {
        service: format!("http://{}", envoy.address(LISTENER)),
        admin: format!("http://{}", envoy.admin()),
        status: has_status.then(|| format!("http://{}", envoy.address(STATUS))),
        client: Client::new(),
        log: Box::new(move || envoy.logs()),
    })
}

/// What Envoy Gateway makes of manifests; the image of the plugin has this file.
async fn translate(manifests: &str, plugin: &Path) -> Result<Value> {
    let program = built("inside")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("manifests.yaml");
    std::fs::write(&file, manifests)?;
    let mut command = Command::new(program);
    command.arg(&file).arg(plugin).kill_on_drop(true);
    let output = command.output().await?;
    ensure!(
        output.status.success(),
        "Envoy Gateway: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("what the translation prints")
}

/// Something that `tests/manifests/setup.sh` makes.
fn built(name: &str) -> Result<PathBuf> {
    let path = workspace().join(".tools/manifests/gateway").join(name);
    ensure!(
        path.exists(),
        "no {}: tests/manifests/setup.sh gateway",
        path.display()
    );
    Ok(path)
}
