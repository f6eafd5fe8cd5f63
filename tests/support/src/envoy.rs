//! Real Envoys for tests, demo and benchmarks: started on free ports, watched until they are live, and always ended.
//!
//! The binary is `.tools/envoy/VERSION/envoy` in the workspace (made by the set-up), or what the environment variable
//! `ENVOY_BIN_VERSION` says (`ENVOY_BIN_1_40_0`). The configuration is a shipped YAML file with patches, see
//! [`Config`]. Stdout and stderr go to a file in a temporary directory that ends with the Envoy.

mod builder;
mod config;
mod launcher;
mod memory;
mod wall_clock;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{kill_process, waitid, Pid, Signal, WaitId, WaitIdOptions};
use serde_json::Value;
use tempfile::TempDir;

pub use self::builder::{binary, Builder};
pub use self::config::{workspace, Config, PluginRoot};
pub use self::wall_clock::WallClock;

use crate::client::{Answer, Client};
use crate::wait;

/// How long an Envoy may take to end on SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// How many lines of the access log are shown when a test fails; of its own log all are, but for those of its start.
const ACCESS_SHOWN: usize = 20;

/// A running Envoy; dropping it kills it and removes its files.
#[derive(Debug)]
pub struct Envoy {
    version: String,
    child: Child,
    directory: TempDir,
    admin: SocketAddr,
    client: Client,
    listeners: Vec<(String, SocketAddr)>,
}

/// What an Envoy said that ended by itself.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Stdout and stderr.
    pub log: String,
}

/// Why an Envoy does not run.
#[derive(Debug)]
pub enum EnvoyError {
    /// No binary of this version.
    Missing(String, PathBuf),
    /// No configuration was given, or it cannot be written.
    Config(String),
    /// A file or process operation failed.
    Io(std::io::Error),
    /// It ended before it was live.
    Refused(Ended),
    /// Neither live nor ended within the deadline; with its log.
    NotLive(Duration, String),
}

impl Envoy {
    /// Begins with a version such as `1.40.0`.
    pub fn builder(version: &str) -> Builder {
        Builder::new(version)
    }

    /// The version it was started as.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the admin API listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where the listener of this name listens; panics where there is none.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(name, _)| name == listener);
        found
            .unwrap_or_else(|| panic!("no listener {listener} among {:?}", self.listeners))
            .1
    }

    /// The URL of a path (beginning with `/`) on the listener of this name.
    pub fn url(&self, listener: &str, path: &str) -> String {
        format!("http://{}{path}", self.address(listener))
    }

    /// Every TCP listener with its address, in Envoy's order.
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.listeners
    }

    /// `GET` on the admin API; panics where there is no answer.
    pub async fn admin_get(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.admin);
        self.client
            .get(&url)
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// `POST` on the admin API (`/logging?level=debug`, `/drain_listeners`); panics where there is no answer.
    pub async fn admin_post(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.admin);
        self.client
            .post(&url, &[], "")
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// Counters and gauges whose name begins so, by name.
    pub async fn stats(&self, prefix: &str) -> std::collections::BTreeMap<String, u64> {
        let text = self.admin_get("/stats").await.text();
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        let wanted = pairs.filter(|(name, _)| name.starts_with(prefix));
        wanted
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// One counter or gauge; 0 where it is not there (Envoy hides unused ones in places).
    pub async fn stat(&self, name: &str) -> u64 {
        self.stats(name)
            .await
            .get(name)
            .copied()
            .unwrap_or_default()
    }

    /// Waits until the counter or gauge is at least `value`; panics after the deadline.
    pub async fn wait_for_stat(&self, name: &str, value: u64, deadline: Duration) {
        let attempt = || async { (self.stat(name).await >= value).then_some(()) };
        wait::until_some(deadline, &format!("{name} >= {value}"), attempt).await;
    }

    /// Stdout and stderr so far.
    pub fn logs(&self) -> String {
        read_log(self.directory.path())
    }

    /// Waits until `text` stands in the log; panics after the deadline.
    pub async fn wait_for_log(&self, text: &str, deadline: Duration) {
        wait::until(deadline, &format!("{text:?} in Envoy's log"), || {
            self.logs().contains(text)
        })
        .await;
    }

    /// Its own directory, for access logs and the like.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops the whole process where it stands (SIGSTOP), until [`Self::resume`]; its clocks go on. Returns once it stands.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let stopped = waitid(WaitId::Pid(pid(&self.child)), WaitIdOptions::STOPPED);
        stopped.expect("a child of our own");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it by SIGTERM (by SIGKILL after 20 s) and says how it ended and what it logged.
    pub fn terminate(mut self) -> Ended {
        let _ = kill_process(pid(&self.child), Signal::TERM);
        wait::blocking(STOP_DEADLINE, || !matches!(self.child.try_wait(), Ok(None)));
        let _ = self.child.kill();
        let status = self.child.wait().expect("a child of our own");
        Ended {
            status,
            log: self.logs(),
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).expect("a child of our own that was not waited for");
    }

    async fn find_addresses(&mut self, deadline: Duration) -> Result<(), EnvoyError> {
        let admin_file = self.directory.path().join("admin-address");
        let child = &mut self.child;
        let directory = self.directory.path();
        let mut ended = None;
        let found = wait::within(deadline, || {
            ended = child.try_wait().ok().flatten();
            let admin = std::fs::read_to_string(&admin_file)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            std::future::ready(ended.map_or_else(|| admin.map(Ok), |status| Some(Err(status))))
        });
        self.admin = match found.await {
            Some(Ok(admin)) => admin,
            Some(Err(status)) => {
                return Err(EnvoyError::Refused(Ended {
                    status,
                    log: read_log(directory),
                }))
            }
            None => return Err(EnvoyError::NotLive(deadline, self.logs())),
        };
        Ok(())
    }

    async fn wait_until_live(&mut self, deadline: Duration) -> Result<(), EnvoyError> {
        self.find_addresses(deadline).await?;
        let ready = format!("http://{}/ready", self.admin);
        let client = self.client.clone();
        let child = &mut self.child;
        let live = wait::within(deadline, || {
            let ended = child.try_wait().ok().flatten();
            let (client, ready) = (client.clone(), ready.clone());
            async move {
                if let Some(status) = ended {
                    return Some(Err(status));
                }
                let answer = client.get(&ready).await.ok()?;
                (answer.text().trim() == "LIVE").then_some(Ok(()))
            }
        });
        match live.await {
            Some(Ok(())) => self.read_listeners().await,
            Some(Err(status)) => Err(EnvoyError::Refused(Ended {
                status,
                log: self.logs(),
            })),
            None => Err(EnvoyError::NotLive(deadline, self.logs())),
        }
    }

    async fn read_listeners(&mut self) -> Result<(), EnvoyError> {
        let answer = self.admin_get("/listeners?format=json").await.json();
        let statuses = answer["listener_statuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        self.listeners = statuses.iter().filter_map(listener).collect();
        Ok(())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- Envoy's log ---\n{}", shown(&self.logs()));
        }
    }
}

fn listener(status: &Value) -> Option<(String, SocketAddr)> {
    let socket = &status["local_address"]["socket_address"];
    let address = socket["address"].as_str()?.parse().ok()?;
    let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
    Some((
        status["name"].as_str()?.to_owned(),
        SocketAddr::new(address, port),
    ))
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("envoy.log")
}

/// What of a log helps to understand a failure.
fn shown(log: &str) -> String {
    let log = log
        .split_once("] starting main dispatch loop")
        .map_or(log, |(_, log)| log);
    let is_access = |line: &&str| line.contains("Z] \"");
    let (access, own): (Vec<_>, Vec<_>) = log.lines().partition(is_access);
    let last = access.len().saturating_sub(ACCESS_SHOWN);
    [&own[..], &access[last..]].concat().join("\n")
}

fn read_log(directory: &Path) -> String {
    std::fs::read(log_file(directory))
        .map(|log| String::from_utf8_lossy(&log).into_owned())
        .unwrap_or_default()
}

impl From<std::io::Error> for EnvoyError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for EnvoyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(version, path) => {
                write!(
                    formatter,
                    "no Envoy {version} at {}: `make setup` installs it",
                    path.display()
                )
            }
            Self::Config(why) => write!(formatter, "Envoy's configuration: {why}"),
            Self::Io(error) => write!(formatter, "Envoy: {error}"),
            Self::Refused(ended) => write!(
                formatter,
                "Envoy ended ({}); its log:\n{}",
                ended.status, ended.log
            ),
            Self::NotLive(after, log) => write!(
                formatter,
                "Envoy is not live after {after:?}; its log:\n{log}"
            ),
        }
    }
}

impl std::error::Error for EnvoyError {}
