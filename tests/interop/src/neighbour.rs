//! A service beside the mesh: a process with an unmodified library, and what it told.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{bail, Context, Result};
use serde_json::Value;
use support::envoy::workspace;
use support::wait::within_at;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::cases::Case;

/// A JVM that starts beside many others takes its time.
const START: Duration = Duration::from_secs(120);

/// Whether it may ask WeChat for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The library refreshes as it always does.
    Own,
    /// Its secret is wrong: whatever token it uses was written by somebody else.
    Reader,
}

/// A running one.
pub(crate) struct Neighbour {
    pub(crate) case: Case,
    pub(crate) appid: String,
    mode: Mode,
    child: Child,
    told: Arc<Mutex<Vec<Value>>>,
    readers: Vec<JoinHandle<String>>,
}

/// Where everything is.
pub(crate) struct Places {
    pub(crate) redis: String,
    pub(crate) wechat: String,
    pub(crate) secret: &'static str,
    pub(crate) run: Duration,
    /// Variables besides those.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Neighbour {
    /// Starts one for an app, with the mesh at this URL, where there is one.
    pub(crate) fn start(
        case: Case,
        appid: &str,
        mode: Mode,
        mesh: Option<&str>,
        places: &Places,
    ) -> Result<Neighbour> {
        let mut command = Command::new(workspace().join("tests/interop/neighbours/run.sh"));
        command.arg(case.program());
        let common = [
            ("REDIS", places.redis.as_str()),
            ("WECHAT", &places.wechat),
            ("APPID", appid),
            ("MODE", if mode == Mode::Own { "own" } else { "reader" }),
            ("RUN_MS", &places.run.as_millis().to_string()),
            ("PAUSE_MS", "250"),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let secret = (mode == Mode::Own).then(|| ("SECRET", places.secret.to_owned()));
        let mesh = mesh.map(|mesh| ("MESH", mesh.to_owned()));
        let optional = secret.into_iter().chain(mesh);
        for (name, value) in common
            .into_iter()
            .chain(optional)
            .chain(case.settings(appid, mode == Mode::Own))
        {
            command.env(format!("NEIGHBOUR_{name}"), value);
        }
        for (name, value) in &places.environment {
            command.env(name, value);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{}: run.sh does not start", case.title))?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let out = child.stdout.take().context("its output")?;
        let mut errors = child.stderr.take().context("its errors")?;
        let events = Arc::clone(&told);
        let readers = vec![
            tokio::spawn(async move {
                let mut text = String::new();
                let mut lines = BufReader::new(out).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let event = serde_json::from_str(&line).unwrap_or(Value::Null);
                    events
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(event);
                    text.push_str(&line);
                    text.push('\n');
                }
                text
            }),
            tokio::spawn(async move {
                let mut text = Vec::new();
                // What cannot be read is as good as the end.
                let _ = errors.read_to_end(&mut text).await;
                String::from_utf8_lossy(&text).into_owned()
            }),
        ];
        Ok(Neighbour {
            case,
            appid: appid.to_owned(),
            mode,
            child,
            told,
            readers,
        })
    }

    /// For people.
    pub(crate) fn title(&self) -> String {
        let mode = if self.mode == Mode::Own {
            "own"
        } else {
            "reader"
        };
        format!("{} ({mode})", self.case.title)
    }

    /// How many events there are with these fields.
    pub(crate) fn count(&self, event: &str, fields: &[(&str, Value)]) -> usize {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |told: &&Value| {
            told["event"] == event && fields.iter().all(|(name, value)| told[*name] == *value)
        };
        told.iter().filter(fits).count()
    }

    /// Good calls on one of the ways, `beside` or `mesh`.
    pub(crate) fn good(&self, via: &str) -> usize {
        self.count("call", &[("via", via.into()), ("ok", true.into())])
    }

    /// Calls that failed, either way.
    pub(crate) fn failed(&self) -> usize {
        self.count("call", &[("ok", false.into())])
    }

    /// Token calls that it made.
    pub(crate) fn token_calls(&self) -> usize {
        self.count("token_call", &[])
    }

    /// Waits for a few more good calls, both ways.
    pub(crate) async fn works(&mut self, ways: &[&str]) -> Result<()> {
        for via in ways {
            let wanted = self.good(via) + 3;
            let attempt = || std::future::ready(self.has(via, wanted).transpose());
            let worked = within_at(Duration::from_millis(50), START, attempt).await;
            worked.with_context(|| {
                let failed = self.failed();
                format!("{}: no good calls {via} ({failed} failed)", self.title())
            })??;
        }
        Ok(())
    }

    /// Something, once there are so many good calls; fails where it has ended.
    fn has(&mut self, via: &str, wanted: usize) -> Result<Option<()>> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}", self.title());
        }
        Ok((self.good(via) >= wanted).then_some(()))
    }

    /// Stops it; everything that it said, for the search for secrets.
    pub(crate) async fn stop(mut self) -> Result<String> {
        self.child.kill().await?;
        let mut text = String::new();
        for reader in self.readers {
            text.push_str(&reader.await?);
        }
        Ok(text)
    }
}
