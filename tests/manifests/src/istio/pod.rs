//! A pod as Istio's injection makes it, without Kubernetes: a network namespace, the rules of `istio-init`, and the agent of
//! `istio-proxy` with its arguments, environment and files, which starts the Envoy.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{chown, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure, Context as _, Result};
use rustix::process::{kill_process_group, Pid, Signal};
use serde_json::Value;
use support::client::Client;
use support::wait::within_at;
use tokio::process::{Child, Command};

use super::cluster::Cluster;
use super::injected::Injected;
use super::relay::Relay;
use super::world::{self, FOLDER, OUTSIDE, USER};

/// The agent compiles nothing, but Envoy does, on a busy machine.
const START: Duration = Duration::from_secs(90);
const STEP: Duration = Duration::from_millis(50);
/// Where a pod listens for the cases: their calls, and those to the admin API and the status page.
const SERVICE: u16 = 8_000;
const ADMIN: u16 = 8_001;
const STATUS: u16 = 8_002;
/// Where the shipped files have the status page, on the loopback.
pub(super) const STATUS_PAGE: u16 = 9_902;

/// Where a pod will be: known before it runs, as istiod is told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u8);

impl Place {
    /// One that nobody had before.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.0, 2)
    }

    pub(super) fn name(self) -> String {
        format!("pod{}", self.0)
    }

    fn namespace(self) -> PathBuf {
        Path::new(FOLDER).join("netns").join(self.name())
    }

    fn folder(self) -> PathBuf {
        Path::new(FOLDER).join("pods").join(self.name())
    }
}

/// A running pod; dropping it ends it.
pub(super) struct Pod {
    place: Place,
    agent: Child,
    relays: Vec<Relay>,
}

impl Pod {
    /// Starts the pod of an injected Deployment and returns once its Envoy is live.
    pub(super) async fn start(deployment: &Value, place: Place, cluster: &Cluster) -> Result<Pod> {
        let injected = Injected::of(deployment)?;
        network(place).await?;
        let folder = place.folder();
        injected.write_files(&folder, cluster)?;
        give(&folder)?;
        injected.mount(cluster)?;
        if let Some(args) = injected.init_args() {
            capture(args, place, &cluster.programs.agent).await?;
        }
        let mut pod = Pod {
            place,
            agent: agent(&injected, place, cluster)?,
            relays: Vec::new(),
        };
        let to = [
            (SERVICE, SocketAddr::from((OUTSIDE, 80))),
            (ADMIN, SocketAddr::from((Ipv4Addr::LOCALHOST, 15_000))),
            (STATUS, SocketAddr::from((Ipv4Addr::LOCALHOST, STATUS_PAGE))),
        ];
        for (port, to) in to {
            let listen = SocketAddr::from((place.address(), port));
            let relay = Relay::start(Some(&place.namespace()), listen, to).await?;
            pod.relays.push(relay);
        }
        pod.wait_until_live().await?;
        Ok(pod)
    }

    /// Where calls of the pod's service begin: they go on as calls to WeChat's address at port 80.
    pub(super) fn service(&self) -> String {
        format!("http://{}:{SERVICE}", self.place.address())
    }

    /// Envoy's admin API.
    pub(super) fn admin(&self) -> String {
        format!("http://{}:{ADMIN}", self.place.address())
    }

    /// The status page, by way of the pod's loopback, as `kubectl port-forward` goes.
    pub(super) fn status(&self) -> String {
        format!("http://{}:{STATUS}", self.place.address())
    }

    /// What agent and Envoy logged.
    pub(super) fn log(&self) -> String {
        log_of(self.place)
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    async fn wait_until_live(&mut self) -> Result<()> {
        let client = Client::with_timeout(Duration::from_secs(2));
        let ready = format!("{}/ready", self.admin());
        let agent = &mut self.agent;
        let live = within_at(STEP, START, || {
            let ended = agent.try_wait().ok().flatten();
            let (client, ready) = (client.clone(), ready.clone());
            async move {
                if ended.is_some() {
                    return Some(false);
                }
                let answer = client.get(&ready).await.ok()?;
                (answer.text().trim() == "LIVE").then_some(true)
            }
        });
        match live.await {
            Some(true) => Ok(()),
            Some(false) => bail!("the agent ended:\n{}", self.log()),
            None => bail!("Envoy is not live after {START:?}:\n{}", self.log()),
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The agent and the Envoy that it started.
        if let Some(id) = self
            .agent
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?))
        {
            let _ = kill_process_group(id, Signal::KILL);
        }
        self.relays.clear();
        let name = self.place.name();
        let _ = std::process::Command::new("ip")
            .args(["netns", "delete", &name])
            .status();
    }
}

/// Runs a program in a pod, as its service would; its output.
pub(super) async fn exec(place: Place, program: &str, args: &[&str]) -> Result<String> {
    let name = place.name();
    let args = [&["netns", "exec", &name, program], args].concat();
    world::output("ip", &args).await
}

/// A pair of interfaces, one in the pod; and the way out.
async fn network(place: Place) -> Result<()> {
    let name = place.name();
    let outer = format!("10.77.{}.1", place.0);
    let (outer_net, inner_net) = (format!("{outer}/24"), format!("{}/24", place.address()));
    let pair = format!("v{name}");
    let steps: [&[&str]; 8] = [
        &["netns", "add", &name],
        &[
            "link", "add", &pair, "type", "veth", "peer", "name", "eth0", "netns", &name,
        ],
        &["address", "add", &outer_net, "dev", &pair],
        &["link", "set", &pair, "up"],
        &["-n", &name, "link", "set", "lo", "up"],
        &["-n", &name, "address", "add", &inner_net, "dev", "eth0"],
        &["-n", &name, "link", "set", "eth0", "up"],
        &["-n", &name, "route", "add", "default", "via", &outer],
    ];
    for step in steps {
        world::run("ip", step).await?;
    }
    Ok(())
}

/// Istio's own rules, as `istio-init` sets them. Only inbound calls are left alone: those are the cases' own.
async fn capture(mut args: Vec<String>, place: Place, agent: &str) -> Result<()> {
    ensure!(
        args.first().is_some_and(|first| first == "istio-iptables"),
        "istio-init has other arguments: {args:?}"
    );
    let inbound = args.iter().position(|arg| arg == "-b");
    let inbound = inbound.context("istio-init without -b")?;
    args.get_mut(inbound + 1)
        .context("istio-init with an empty -b")?
        .clear();
    let name = place.name();
    let mut all = vec!["netns", "exec", &name, agent];
    all.extend(args.iter().map(String::as_str));
    world::run("ip", &all).await
}

/// A folder and all in it belong to Istio's user.
fn give(path: &Path) -> Result<()> {
    chown(path, Some(USER), Some(USER))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    Ok(())
}

fn agent(injected: &Injected<'_>, place: Place, cluster: &Cluster) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(place))?;
    // Envoy opens it once more for its access log, as another user.
    log.set_permissions(fs::Permissions::from_mode(0o666))?;
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &place.name(), "setpriv"]);
    command.args([format!("--reuid={USER}"), format!("--regid={USER}")]);
    command.args(["--clear-groups", &cluster.programs.agent]);
    command
        .args(injected.args())
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(injected.env(place, cluster)?)
        .current_dir(place.folder())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    command.spawn().context("pilot-agent")
}

fn log_file(place: Place) -> PathBuf {
    place.folder().join("log")
}

fn log_of(place: Place) -> String {
    let log = fs::read(log_file(place)).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}
