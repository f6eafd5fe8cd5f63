//! A real Prometheus of a test's own, and promtool.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::client::Client;
use support::envoy::workspace;
use support::wait::until_some;
use tempfile::TempDir;

/// How long it may take to be ready, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A running Prometheus; dropping it ends it and removes its data.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    client: Client,
}

/// One series of an answer: its labels, and its values by Unix time in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) values: Vec<(f64, f64)>,
}

/// An alert that is pending or fires now.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) fires: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Where the set-up put a program of Prometheus.
fn program(name: &str) -> PathBuf {
    let path = workspace().join(".tools/prometheus").join(name);
    let there = path.is_file();
    assert!(
        there,
        "no {}: tools/setup.sh prometheus makes it",
        path.display()
    );
    path
}

/// Runs promtool in `envoy/monitoring` with this on its standard input; whether it succeeded, and all that it said.
pub(crate) fn promtool(args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(program("promtool"))
        .args(args)
        .current_dir(workspace().join("envoy/monitoring"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end without having read all.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let ended = child.wait_with_output().expect("promtool");
    let text = [ended.stdout, ended.stderr].concat();
    (
        ended.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

impl Prometheus {
    /// Starts one on these files (name and text), the first of which is its configuration, and returns once it is ready.
    pub(crate) async fn start(files: &[(&str, String)]) -> Prometheus {
        let folder = tempfile::Builder::new()
            .prefix("prometheus-")
            .tempdir()
            .expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file of Prometheus");
        }
        let address = free_address();
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", files[0].0))
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus");
        let prometheus = Prometheus {
            child,
            address,
            folder,
            client: Client::new(),
        };
        let ready = format!("http://{address}/-/ready");
        until_some(START, "Prometheus is ready", || async {
            let answer = prometheus.client.get(&ready).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        prometheus
    }

    /// Replaces one of its files. Of targets it notices by itself.
    pub(crate) fn write(&self, file: &str, text: &str) {
        // As one step: it must not read half of it.
        let new = self.path(&format!("{file}.new"));
        std::fs::write(&new, text).expect("a file of Prometheus");
        std::fs::rename(new, self.path(file)).expect("a file of Prometheus");
    }

    /// What an expression gives now.
    pub(crate) async fn query(&self, expr: &str) -> Vec<Series> {
        let data = self.get("query", &[("query", expr)]).await;
        series(&data["result"])
    }

    /// What an expression gave from `start` to `end`, in Unix time in seconds.
    pub(crate) async fn range(&self, expr: &str, start: f64, end: f64, step: f64) -> Vec<Series> {
        let (start, end, step) = (start.to_string(), end.to_string(), step.to_string());
        let query = [
            ("query", expr),
            ("start", &start),
            ("end", &end),
            ("step", &step),
        ];
        let data = self.get("query_range", &query).await;
        series(&data["result"])
    }

    /// Every alert that is pending or fires.
    pub(crate) async fn alerts(&self) -> Vec<Alert> {
        let data = self.get("alerts", &[]).await;
        let texts = |value: &Value| serde_json::from_value(value.clone()).expect("texts");
        let alerts = data["alerts"].as_array().expect("alerts").iter();
        alerts
            .map(|alert| Alert {
                name: alert["labels"]["alertname"]
                    .as_str()
                    .expect("a name")
                    .to_owned(),
                fires: alert["state"] == "firing",
                labels: texts(&alert["labels"]),
                annotations: texts(&alert["annotations"]),
            })
            .collect()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(Path::new(file))
    }

    async fn get(&self, call: &str, query: &[(&str, &str)]) -> Value {
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let url = format!("http://{}/api/v1/{call}?{}", self.address, query.join("&"));
        let answer = self.client.get(&url).await.expect("Prometheus answers");
        let mut answer = answer.json();
        assert_eq!(answer["status"], "success", "{call} {query:?}: {answer}");
        answer["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- Prometheus' log ---\n{}", self.log());
        }
    }
}

fn series(result: &Value) -> Vec<Series> {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
    let point = |pair: &Value| Some((pair[0].as_f64()?, number(&pair[1])?));
    let list = result.as_array().expect("a vector or a matrix").iter();
    list.map(|item| Series {
        labels: serde_json::from_value(item["metric"].clone()).expect("labels"),
        values: match item["values"].as_array() {
            Some(values) => values.iter().filter_map(point).collect(),
            None => point(&item["value"]).into_iter().collect(),
        },
    })
    .collect()
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// It does not tell which port it took of its own. The kernel hands the same port out again only after all others.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}
