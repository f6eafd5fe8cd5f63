//! `istio-files`, the program with Istio's own code (`tests/manifests/istio`), and where everything built for it lies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use support::envoy::workspace;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::world;

/// istiod's code needs a moment.
const START: Duration = Duration::from_secs(60);

/// A file that the set-up made.
pub(super) fn built(name: &str) -> Result<PathBuf> {
    let file = workspace().join(".tools/manifests/istio").join(name);
    ensure!(
        file.is_file(),
        "no {}: tools/setup.sh manifests",
        file.display()
    );
    Ok(file)
}

/// A file that is shipped.
pub(super) fn shipped(name: &str) -> PathBuf {
    workspace().join("envoy/istio").join(name)
}

/// What Istio's own code thinks of files: a line for each object, or why not.
pub(super) async fn check(files: &[PathBuf]) -> Result<Vec<String>> {
    let out = istio_files("check", None, files).await?;
    let lines = out.lines().filter(|line| line.starts_with("ok "));
    Ok(lines.map(str::to_owned).collect())
}

/// The Deployments of files, with what Istio's injection adds.
pub(super) async fn inject(values: Option<&Path>, files: &[PathBuf]) -> Result<Vec<Value>> {
    let out = istio_files("inject", values, files).await?;
    // Istio's packages may log before they are told where to.
    let lines = out.lines().filter(|line| line.starts_with('{'));
    Ok(lines.map(serde_json::from_str).collect::<Result<_, _>>()?)
}

async fn istio_files(what: &str, values: Option<&Path>, files: &[PathBuf]) -> Result<String> {
    let program = built("istio-files")?;
    let mut args = vec![what];
    if let Some(values) = values {
        args.extend(["-values", values.to_str().context("a path that is text")?]);
    }
    for file in files {
        args.push(file.to_str().context("a path that is text")?);
    }
    world::output(program.to_str().context("a path that is text")?, &args).await
}

/// A running discovery service; dropping it ends it.
pub(super) struct Discovery(#[expect(dead_code, reason = "lives as long as this")] Child);

impl Discovery {
    /// Serves what istiod makes of these files.
    pub(super) async fn start(address: SocketAddr, files: &[PathBuf]) -> Result<Discovery> {
        let mut command = Command::new(built("istio-files")?);
        command
            .args(["discover", "-listen", &address.to_string()])
            .args(files)
            // Filters that only Istio's own Envoy has.
            .env("PILOT_ENABLE_METADATA_EXCHANGE", "false")
            .env("PILOT_ENABLE_ALPN_FILTER", "false")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().context("istio-files discover")?;
        let out = child.stdout.take().context("its output")?;
        let mut lines = BufReader::new(out).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.starts_with("ready on") {
                    return Ok(());
                }
            }
            bail!("istio-files discover ended")
        };
        tokio::time::timeout(START, ready)
            .await
            .context("no discovery service")??;
        // What it logs after that is not read, so it must not wait for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Discovery(child))
    }
}
