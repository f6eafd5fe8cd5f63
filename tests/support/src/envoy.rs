//! Real Envoys for tests, demo and benchmarks: started on free ports, watched until they are live, and always ended.
//!
//! The binary is `.tools/envoy/VERSION/envoy` in the workspace (made by the set-up), or what the environment variable
//! `ENVOY_BIN_VERSION` says (`ENVOY_BIN_1_40_0`). The configuration is a shipped YAML file with patches, see
//! [`Config`]. Stdout and stderr go to a file in a temporary directory that ends with the Envoy.

mod config;

use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{kill_process, Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

pub use self::config::{workspace, Config, PluginRoot};

use crate::client::{Answer, Client};
use crate::wait;

/// How long an Envoy may take to become live: its V8 compiles the .wasm first, on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long an Envoy may take to end on SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// How much of the log is shown when a test fails, in bytes.
const LOG_SHOWN: usize = 8_000;

/// How an Envoy is to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    version: String,
    config: Option<Config>,
    concurrency: u32,
    level: String,
    env: Vec<(String, String)>,
    args: Vec<String>,
    cpus: Option<String>,
    deadline: Duration,
}

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
        Builder {
            version: version.to_owned(),
            config: None,
            concurrency: 1,
            level: "info".to_owned(),
            env: Vec::new(),
            args: Vec::new(),
            cpus: None,
            deadline: START_DEADLINE,
        }
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

impl Builder {
    /// The configuration.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Worker threads; 1 if not called.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// The log level; `info` if not called.
    #[must_use]
    pub fn level(mut self, level: &str) -> Self {
        self.level = level.to_owned();
        self
    }

    /// An environment variable. Envoy inherits none but PATH, so that a test never depends on the caller's.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more argument on the command line.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Pins it to these cores, in taskset's words (`0` or `0,2-3`).
    #[must_use]
    pub fn cpus(mut self, cpus: &str) -> Self {
        self.cpus = Some(cpus.to_owned());
        self
    }

    /// How long it may take to become live; 60 s if not called.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Starts it and returns once it is live; panics with its log where it does not come up.
    pub async fn start(self) -> Envoy {
        self.try_start()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts it and returns once it is live, or says why not.
    pub async fn try_start(self) -> Result<Envoy, EnvoyError> {
        let directory = tempfile::Builder::new().prefix("envoy-").tempdir()?;
        let file = self.write_config(directory.path())?;
        let mut command = self.command(&file, directory.path())?;
        command
            .arg("--admin-address-path")
            .arg(directory.path().join("admin-address"));
        let mut envoy = Envoy {
            child: command.spawn()?,
            version: self.version,
            directory,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            client: Client::new(),
            listeners: Vec::new(),
        };
        envoy.wait_until_live(self.deadline).await?;
        Ok(envoy)
    }

    /// Starts it with a configuration that it must refuse; panics where it becomes live or hangs instead.
    pub async fn expect_refused(self) -> Ended {
        match self.try_start().await {
            Err(EnvoyError::Refused(ended)) => ended,
            Err(error) => panic!("not refused but: {error}"),
            Ok(envoy) => panic!("not refused: Envoy is live; its log:\n{}", envoy.logs()),
        }
    }

    /// Runs `envoy --mode validate` on the configuration; blocks until that ends. Panics where it cannot be started.
    pub fn validate(self) -> Ended {
        self.try_validate()
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`Self::validate`], with an error where it cannot be started or hangs.
    pub fn try_validate(self) -> Result<Ended, EnvoyError> {
        let directory = tempfile::Builder::new().prefix("envoy-").tempdir()?;
        let file = self.write_config(directory.path())?;
        let mut child = self
            .command(&file, directory.path())?
            .args(["--mode", "validate"])
            .spawn()?;
        let ended = wait::blocking(self.deadline, || !matches!(child.try_wait(), Ok(None)));
        if !ended {
            let _ = child.kill();
        }
        let status = child.wait()?;
        let log = read_log(directory.path());
        if ended {
            Ok(Ended { status, log })
        } else {
            Err(EnvoyError::NotLive(self.deadline, log))
        }
    }

    fn write_config(&self, directory: &Path) -> Result<PathBuf, EnvoyError> {
        let config = self
            .config
            .as_ref()
            .ok_or_else(|| EnvoyError::Config("no configuration was given".to_owned()))?;
        let file = directory.join("envoy.yaml");
        std::fs::write(&file, config.to_text())?;
        Ok(file)
    }

    fn command(&self, config: &Path, directory: &Path) -> Result<Command, EnvoyError> {
        let binary = binary(&self.version);
        if !binary.is_file() {
            return Err(EnvoyError::Missing(self.version.clone(), binary));
        }
        let mut command = match &self.cpus {
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpus]).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        let log = File::create(log_file(directory))?;
        command
            .args([
                "--use-dynamic-base-id",
                "-l",
                &self.level,
                "--concurrency",
                &self.concurrency.to_string(),
            ])
            .arg("-c")
            .arg(config)
            .args(&self.args)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.logs();
            let from = log
                .char_indices()
                .rev()
                .take(LOG_SHOWN)
                .last()
                .map_or(0, |(at, _)| at);
            eprintln!("--- the end of Envoy's log ---\n{}", &log[from..]);
        }
    }
}

/// Where the binary of a version is expected.
pub fn binary(version: &str) -> PathBuf {
    let name = format!("ENVOY_BIN_{}", version.replace('.', "_"));
    std::env::var_os(name).map_or_else(
        || workspace().join(".tools/envoy").join(version).join("envoy"),
        PathBuf::from,
    )
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
