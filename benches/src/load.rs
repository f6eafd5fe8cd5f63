//! The load: h2load on a core of its own, as fast as answers come, and what it tells.
//!
//! Every answer must be a success: a filter that refuses requests would look fast.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{bail, ensure, Context as _, Result};
use hdrhistogram::Histogram;
use tempfile::NamedTempFile;
use tokio::process::Command;

/// The `Host` of every call.
pub const HOST: &str = "api.weixin.qq.com";
/// How long one run may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// A run of h2load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Envoy's listener.
    pub to: SocketAddr,
    /// Paths, taken in turn by each connection.
    pub paths: Vec<String>,
    /// The size of the body of each, which makes it a POST.
    pub body: Option<usize>,
    /// How many requests.
    pub requests: u64,
    /// Over how many connections.
    pub connections: u64,
    /// The core it runs on; `None`: any.
    pub core: Option<usize>,
}

/// What a run told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Requests a second.
    pub rate: f64,
    /// Latencies in microseconds.
    pub latencies: Histogram<u64>,
}

impl Load {
    /// Runs it to its end. Fails where any answer is not a success.
    pub async fn run(&self) -> Result<Told> {
        let mut uris = NamedTempFile::new()?;
        for path in &self.paths {
            writeln!(uris, "http://{HOST}{path}")?;
        }
        let log = NamedTempFile::new()?;
        let mut body = NamedTempFile::new()?;
        body.write_all(&vec![b'x'; self.body.unwrap_or_default()])?;
        let mut command = match self.core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string(), "h2load"]);
                command
            }
            None => Command::new("h2load"),
        };
        command
            .args(["--h1", "-t", "1"])
            .args(["-n", &self.requests.to_string()])
            .args(["-c", &self.connections.to_string()])
            .arg(format!("--connect-to={}", self.to))
            .arg(format!("--log-file={}", log.path().display()))
            .arg(format!("--input-file={}", uris.path().display()))
            .args(
                self.body
                    .map(|_| format!("--data={}", body.path().display())),
            )
            .kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, command.output())
            .await
            .with_context(|| format!("h2load is not done after {DEADLINE:?}"))?
            .context("h2load does not start: apt-get install nghttp2-client")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "h2load failed: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.read(&text, &std::fs::read_to_string(log.path())?)
    }

    fn read(&self, text: &str, log: &str) -> Result<Told> {
        let succeeded = number_before(text, " succeeded").context("h2load's words changed")?;
        if succeeded != self.requests as f64 {
            bail!("{succeeded} of {} calls succeeded:\n{text}", self.requests);
        }
        let mut latencies = Histogram::new(3)?;
        for line in log.lines() {
            let column = line.split('\t').nth(2).context("h2load's log changed")?;
            latencies.record(column.parse::<u64>()?.max(1))?;
        }
        Ok(Told {
            rate: number_before(text, " req/s").context("h2load tells no rate")?,
            latencies,
        })
    }
}

/// The number that stands right before `mark` for the first time.
fn number_before(text: &str, mark: &str) -> Option<f64> {
    let (before, _) = text.split_once(mark)?;
    before.rsplit([' ', ',', '\n']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_h2loads_words() {
        let text = "finished in 1.20s, 25000.12 req/s, 3.2MB/s\n\
                    requests: 30000 total, 30000 started, 30000 done, 29999 succeeded, 1 failed";
        assert_eq!(number_before(text, " req/s"), Some(25_000.12));
        assert_eq!(number_before(text, " succeeded"), Some(29_999.0));
        assert_eq!(number_before(text, " nothing"), None);
    }
}
