//! How an Envoy is started: its configuration, arguments, environment and cores; and the runs that must fail.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::launcher::spawn;
use super::{log_file, read_log, workspace, Config, Ended, Envoy, EnvoyError};
use crate::client::Client;
use crate::wait;

/// How long an Envoy may take to become live: its V8 compiles the .wasm first, on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
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
    base_id: Option<String>,
    deadline: Duration,
}

impl Builder {
    pub(super) fn new(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            config: None,
            concurrency: 1,
            level: "info".to_owned(),
            env: Vec::new(),
            args: Vec::new(),
            cpus: None,
            base_id: None,
            deadline: START_DEADLINE,
        }
    }

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

    /// Takes over from a running one (Envoy's hot restart): its listeners have to have the same addresses, and no port 0. Panics where that one has been told of
    /// no place for its id.
    #[must_use]
    pub fn taking_over_from(mut self, other: &Envoy) -> Self {
        let file = base_id_file(other.directory());
        let base_id = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.base_id = Some(base_id.trim().to_owned());
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
            child: spawn(command)?,
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
        let mut command = self.command(&file, directory.path())?;
        command.args(["--mode", "validate"]);
        let mut child = spawn(command)?;
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
            .args(match &self.base_id {
                None => vec!["--use-dynamic-base-id"],
                Some(base_id) => vec!["--base-id", base_id, "--restart-epoch", "1"],
            })
            .arg("--base-id-path")
            .arg(base_id_file(directory))
            .args([
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

fn base_id_file(directory: &Path) -> PathBuf {
    directory.join("base-id")
}

/// Where the binary of a version is expected.
pub fn binary(version: &str) -> PathBuf {
    let name = format!("ENVOY_BIN_{}", version.replace('.', "_"));
    std::env::var_os(name).map_or_else(
        || workspace().join(".tools/envoy").join(version).join("envoy"),
        PathBuf::from,
    )
}
