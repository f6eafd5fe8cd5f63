//! Istio: the shipped files, read by istiod's own discovery code, its injection and its agent, at work in a real Envoy.
//!
//! Each deployment runs in a world of its own ([`world`]), where `http://api.weixin.qq.com` is called as any service calls it: the call
//! is captured by the rules that `istio-init` sets. What differs from a cluster is said in the README of `tests/manifests/istio`.

mod beside;
mod cluster;
mod identity;
mod injected;
mod kinds;
mod planted;
mod pod;
mod relay;
mod snippets;
mod store;
mod tools;
mod web;
pub(crate) mod world;

use std::cell::{Cell, OnceCell};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use support::client::Client;
use support::wechat::{FakeWeChat, Settings};

use self::cluster::{cluster, endpoints, Cluster};
pub(crate) use self::kinds::deployments;
use self::kinds::Kind;
use self::pod::{Place, Pod};
use self::relay::Relay;
use self::store::Store;
use self::tools::{inject, shipped, Discovery};
use self::web::Web;
use self::world::{ARTIFACTS, FOLDER, OUTSIDE};
use crate::deployment::{Bodies, Deployment, OnRejected, Pending, Running};
use crate::wechat::{WeChat, HOST};

/// The file of the CAs in Istio's proxy image, and here.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The line that names the refresher.
const BOOTSTRAP_ANNOTATION: &str = "sidecar.istio.io/bootstrapOverride: wechat-token-refresher";
/// A service that has nothing of ours: it calls WeChat through the gateway, or it has no part in all this.
const SERVICE_WITHOUT_PLUGIN: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers: [{name: shop, image: shop}]
";

/// One of Istio's.
struct Istio {
    name: &'static str,
    about: &'static str,
    /// The files that a user applies.
    files: &'static [&'static str],
    on_rejected: OnRejected,
    has_refresher: bool,
    kind: Kind,
    around: Around,
}

/// What is around the running Envoy.
#[derive(Default)]
struct Around {
    /// The pod of the running service.
    calls_from: Cell<Option<Place>>,
    /// The pod that has the plugin.
    has_plugin: Cell<Option<Place>>,
    /// A pod of a namespace that may not use the gateway.
    stranger: Cell<Option<Place>>,
    /// What another pod of the gateway is made of.
    gateway: Cell<Option<(Value, Cluster)>>,
    /// A pod beside that of the service, without anything of ours.
    bystander: Cell<Option<Place>>,
    /// A server of others, where calls to port 80 that are not for WeChat arrive.
    elsewhere: OnceCell<FakeWeChat>,
}

impl Deployment for Istio {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn on_rejected(&self) -> OnRejected {
        self.on_rejected
    }

    fn bodies(&self) -> Bodies {
        match self.kind {
            Kind::WasmPlugin => Bodies::AsTheyCome,
            _ => Bodies::Collected,
        }
    }

    fn has_refresher(&self) -> bool {
        self.has_refresher
    }

    fn wants_a_world(&self) -> bool {
        true
    }

    fn read(&self) -> Pending<'_, Vec<String>> {
        Box::pin(async {
            let mut seen = planted::read(self.files).await?;
            if self.kind == Kind::Sidecar {
                seen.push(snippets::read().await?);
                seen.push(snippets::labels()?);
                seen.push(snippets::redis()?);
            }
            Ok(seen)
        })
    }

    fn beside<'a>(&'a self, running: &'a Running, wechat: &'a WeChat) -> Pending<'a, Vec<String>> {
        Box::pin(async {
            let place = self.around.calls_from.get().context("a running pod")?;
            let mut seen = vec![beside::unmodified(place).await?];
            if self.kind != Kind::WasmPlugin {
                seen.push(beside::private(wechat)?);
            }
            if self.has_refresher {
                seen.push(beside::labels(running).await?);
            }
            if let (Some(_), Some(place)) = (&running.status, self.around.has_plugin.get()) {
                seen.push(beside::kept_in(place).await?);
            }
            if let Some(elsewhere) = self.around.elsewhere.get() {
                seen.push(beside::untouched(running, elsewhere).await?);
            }
            if let Some(place) = self.around.stranger.get() {
                seen.push(beside::denied(place).await?);
            }
            if let Some((gateway, cluster)) = self.around.gateway.take() {
                seen.push(beside::shared(&gateway, &cluster, wechat).await?);
            }
            if let Some(place) = self.around.bystander.get() {
                seen.push(beside::left_alone(place).await?);
            }
            Ok(seen)
        })
    }

    fn start<'a>(&'a self, wechat: &'a WeChat, plugin: &'a Path) -> Pending<'a, Running> {
        Box::pin(self.begin(wechat, plugin))
    }
}

impl Istio {
    async fn begin(&self, wechat: &WeChat, plugin: &Path) -> Result<Running> {
        world::make().await?;
        fs::write("/etc/hosts", hosts())?;
        fs::copy(wechat.ca_file(), CA_BUNDLE)?;
        let outside = SocketAddr::from((OUTSIDE, 443));
        let relay = Relay::start(None, outside, wechat.tls.address).await?;
        if self.around.elsewhere.get().is_none() {
            let server = FakeWeChat::start(Settings {
                listen: SocketAddr::from((OUTSIDE, 80)),
                ..Settings::default()
            });
            // A second start of the same deployment finds it there.
            let _ = self.around.elsewhere.set(server.await);
        }
        let files = self.as_applied(plugin).await?;
        let values =
            (self.kind == Kind::MeshWide).then(|| shipped("sidecar/injection-values.yaml"));
        let deployments = inject(values.as_deref(), &files).await?;
        let ours = deployments.first().context("a Deployment")?;
        let place = Place::new();
        let mut cluster = cluster(&files, plugin).await?;
        let store = match self.kind {
            Kind::EgressWithRedis => Some(Store::start(wechat, &mut cluster).await?),
            _ => None,
        };
        let mut all = files.clone();
        if self.kind.is_gateway() {
            all.push(write("endpoints.yaml", &endpoints(ours, place)?)?);
        }
        let discovery = Discovery::start(cluster.discovery, &all).await?;
        let web = match self.kind {
            Kind::WasmPlugin => {
                let listen = SocketAddr::from((ARTIFACTS, 80));
                Some(Web::start(listen, "/wechat-token.wasm", fs::read(plugin)?).await?)
            }
            _ => None,
        };
        let pod = Pod::start(ours, place, &cluster).await?;
        let (client, stranger, bystander) = match self.kind {
            Kind::Egress | Kind::EgressWithRedis | Kind::EgressWithoutBootstrap => (
                Some(without_plugin("shop", &cluster).await?),
                Some(without_plugin("stranger", &cluster).await?),
                None,
            ),
            Kind::Sidecar | Kind::MeshWide | Kind::WasmPlugin => {
                (None, None, Some(without_plugin("shop", &cluster).await?))
            }
            Kind::WithoutBootstrap => (None, None, None),
        };
        if let Some(web) = &web {
            ensure!(web.fetched() > 0, "the agent did not fetch the plugin");
        }
        let caller = client.as_ref().unwrap_or(&pod);
        let service = caller.service();
        self.around.calls_from.set(Some(caller.place()));
        self.around.has_plugin.set(Some(pod.place()));
        self.around.stranger.set(stranger.as_ref().map(Pod::place));
        if self.kind == Kind::EgressWithRedis {
            self.around.gateway.set(Some((ours.clone(), cluster)));
        }
        self.around
            .bystander
            .set(bystander.as_ref().map(Pod::place));
        Ok(Running {
            service,
            admin: pod.admin(),
            status: (self.kind != Kind::WasmPlugin).then(|| pod.status()),
            log: Box::new(move || {
                let _live = (&relay, &discovery, &web, &store);
                let _live = (&client, &stranger, &bystander);
                pod.log()
            }),
            client: Client::new(),
        })
    }

    /// The files as a user applies them: what the README says to change is changed, and nothing else.
    async fn as_applied(&self, plugin: &Path) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in self.files {
            let mut text = fs::read_to_string(shipped(name))?;
            let last = name.rsplit('/').next().context("a name")?;
            match (self.kind, last) {
                (Kind::WithoutBootstrap | Kind::EgressWithoutBootstrap, "refresher.yaml") => {
                    continue
                }
                (Kind::WithoutBootstrap | Kind::EgressWithoutBootstrap, "deployment.yaml") => {
                    replace(&mut text, BOOTSTRAP_ANNOTATION, "")?;
                }
                (Kind::EgressWithRedis, "injector.yaml" | "status.yaml" | "refresher.yaml") => {
                    replace(&mut text, "# redis: ", "redis: ")?;
                }
                (Kind::MeshWide, "wechat.yaml") => {
                    replace(&mut text, "namespace: shop", "namespace: istio-system")?;
                    replace(&mut text, r#"exportTo: ["."]"#, r#"exportTo: ["*"]"#)?;
                }
                (Kind::MeshWide, "injector.yaml") => {
                    replace(&mut text, "namespace: shop", "namespace: istio-system")?;
                }
                (Kind::WasmPlugin, "wasm-plugin.yaml") => {
                    let file = plugin.to_str().context("a path that is text")?;
                    let sum = world::output("sha256sum", &[file]).await?;
                    let sum = sum.split_whitespace().next().context("a hash")?;
                    replace(&mut text, &"0".repeat(64), sum)?;
                }
                _ => {
                    files.push(shipped(name));
                    continue;
                }
            }
            files.push(write(last, &text)?);
        }
        Ok(files)
    }
}

/// A service of this namespace with nothing but Istio's own sidecar.
async fn without_plugin(namespace: &str, cluster: &Cluster) -> Result<Pod> {
    let text =
        SERVICE_WITHOUT_PLUGIN.replace("namespace: shop", &format!("namespace: {namespace}"));
    let file = write(&format!("{namespace}-without-plugin.yaml"), &text)?;
    let service = inject(None, &[file]).await?;
    let service = service.first().context("a Deployment")?;
    Pod::start(service, Place::new(), cluster).await
}

/// What a user changes must be there.
fn replace(text: &mut String, from: &str, to: &str) -> Result<()> {
    ensure!(text.contains(from), "no {from:?} to change in:\n{text}");
    *text = text.replace(from, to);
    Ok(())
}

fn write(name: &str, text: &str) -> Result<PathBuf> {
    let file = Path::new(FOLDER).join(name);
    fs::write(&file, text)?;
    Ok(file)
}

fn hosts() -> String {
    format!(
        "127.0.0.1 localhost\n{OUTSIDE} {HOST} {} redis-replica.example.com\n{ARTIFACTS} artifacts.example.com\n",
        store::NAME
    )
}
