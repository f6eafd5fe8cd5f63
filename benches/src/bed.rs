//! The test bed: Envoys with one filter each, a fake WeChat for the token, and the checks that a filter does its work.
//!
//! The plugin's filter and its refresher are those of the shipped `envoy/envoy.yaml`, with the .wasm's path and the
//! apps put in; the other filters are in `benches/envoy/filters.yaml`.

mod shipped;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{ensure, Context as _, Result};
use serde_norway::Value;
use support::client::Client;
use support::envoy::{binary, workspace, Config, Envoy};
use support::wait;
use support::wechat::{App, FakeWeChat, Settings};

pub use self::shipped::{appid, Plugin};

use self::shipped::{fill, utf8, Shipped, SECRET, SECRET_NAME};
use crate::load::HOST;
use crate::row::Row;
use crate::{progress, Options, Section};

/// The constant token of the rows that fetch none: as long as the fake WeChat's.
const TOKEN_LENGTH: usize = 136;
/// How long a row may take until it does its work: the plugin fetches its token first.
const READY: Duration = Duration::from_secs(30);
/// A large answer's bytes, and where they go in `answers.yaml`.
const LARGE: usize = 1 << 20;
const LARGE_PLACE: &str =
    "static_resources.listeners[name=calls].filter_chains[0].filters[0].typed_config\
    .route_config.virtual_hosts[0].routes[1].direct_response.body.inline_string";
/// The listener's name in the benchmark's configurations.
pub const LISTENER: &str = "calls";

/// Where the Envoys of a run come from.
#[derive(Debug)]
pub struct Bed {
    version: String,
    filters: Value,
    shipped: Shipped,
    wasm_bytes: Option<u64>,
}

impl Bed {
    /// Builds the no-op filter and checks that all that the options ask for is there.
    pub async fn try_new(options: &Options) -> Result<Self> {
        for tool in ["h2load", "taskset"] {
            let found = Command::new(tool).arg("--version").output();
            ensure!(
                found.is_ok(),
                "no {tool}: apt-get install nghttp2-client util-linux"
            );
        }
        let envoy = binary(&options.envoy);
        ensure!(
            envoy.is_file(),
            "no Envoy at {}: make setup",
            envoy.display()
        );
        let plugin_only = options.wants(Section::Herd)
            || options.wants(Section::Apps)
            || options.wants(Section::Redis);
        let wasm_bytes = std::fs::metadata(&options.wasm).map(|file| file.len()).ok();
        ensure!(
            wasm_bytes.is_some() || !(plugin_only || options.rows.contains(&Row::Plugin)),
            "no plugin at {}: make build",
            options.wasm.display()
        );
        let noop = build_noop()?;
        let token = "7".repeat(TOKEN_LENGTH);
        let lua = read("benches/lua/inject.lua")?.replace("@TOKEN@", &token);
        let mut filters: Value = serde_norway::from_str(&read("benches/envoy/filters.yaml")?)?;
        for (mark, text) in [
            ("@NOOP@", utf8(&noop)?),
            ("@LUA@", &lua),
            ("@TOKEN@", &token),
        ] {
            fill(&mut filters, mark, text);
        }
        Ok(Self {
            version: options.envoy.clone(),
            filters,
            shipped: Shipped::load(&options.wasm)?,
            wasm_bytes,
        })
    }

    /// Size of the plugin's .wasm, where it is there.
    pub fn wasm_bytes(&self) -> Option<u64> {
        self.wasm_bytes
    }

    /// A fake WeChat with so many apps.
    pub async fn fake(&self, apps: usize) -> FakeWeChat {
        let settings = Settings {
            apps: (0..apps)
                .map(|number| App::new(&appid(number), SECRET))
                .collect(),
            ..Settings::default()
        };
        FakeWeChat::start(settings).await
    }

    /// The row's filter in front of answers that Envoy gives itself.
    pub fn direct(&self, row: Row, token_api: SocketAddr, plugin: Plugin) -> Result<Config> {
        let mut config = Config::load("benches/envoy/direct.yaml");
        let filters = config.at(
            "static_resources.listeners[name=calls].filter_chains[0].filters[0].typed_config.http_filters",
        );
        self.insert(filters, row, plugin)?;
        self.complete(&mut config, row, token_api, plugin)?;
        Ok(config)
    }

    /// The row's filter on the cluster that leads to `api`.
    pub fn upstream(
        &self,
        row: Row,
        api: SocketAddr,
        token_api: SocketAddr,
        plugin: Plugin,
    ) -> Result<Config> {
        let mut config = Config::load("benches/envoy/upstream.yaml");
        let options = config
            .at("static_resources.clusters[name=wechat_api].typed_extension_protocol_options");
        let filters = options
            .get_mut("envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
            .and_then(|options| options.get_mut("http_filters"))
            .context("upstream.yaml has no upstream filters")?;
        self.insert(filters, row, plugin)?;
        config.cluster_to("wechat_api", api, true);
        self.complete(&mut config, row, token_api, plugin)?;
        Ok(config)
    }

    /// The second Envoy, which answers at once.
    pub async fn start_answers(&self, core: Option<usize>) -> Result<Envoy> {
        let mut config = Config::load("benches/envoy/answers.yaml");
        config.set(LARGE_PLACE, "x".repeat(LARGE));
        self.start(config, 1, core).await
    }

    /// Starts an Envoy with so many workers, on one core or on any.
    pub async fn start(
        &self,
        mut config: Config,
        workers: u32,
        core: Option<usize>,
    ) -> Result<Envoy> {
        config.free_ports();
        let mut builder = Envoy::builder(&self.version)
            .config(config)
            .concurrency(workers)
            .env(SECRET_NAME, SECRET)
            .level("warning");
        if let Some(core) = core {
            builder = builder.cpus(&core.to_string());
        }
        Ok(builder.try_start().await?)
    }

    fn insert(&self, filters: &mut Value, row: Row, plugin: Plugin) -> Result<()> {
        let filter = match row.filter() {
            None => return Ok(()),
            Some("plugin") => self.shipped.injector(plugin)?,
            Some(name) => self.entry(name)?,
        };
        let filters = filters.as_sequence_mut().context("not a filter chain")?;
        filters.insert(0, filter);
        Ok(())
    }

    fn complete(
        &self,
        config: &mut Config,
        row: Row,
        token_api: SocketAddr,
        plugin: Plugin,
    ) -> Result<()> {
        config.cluster_to("wechat_token", token_api, true);
        match row {
            Row::Plugin => {
                config.set("bootstrap_extensions", [self.shipped.refresher(plugin)?]);
            }
            Row::CredentialInjector => {
                config.set("static_resources.secrets", [self.entry("secret")?]);
            }
            _ => {}
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<Value> {
        let entry = self.filters.get(name);
        Ok(entry
            .with_context(|| format!("filters.yaml has no {name}"))?
            .clone())
    }
}

/// Waits until the row does its work on a call to `path`, which must show what arrived; fails after half a minute.
pub async fn ready(envoy: &Envoy, row: Row, path: &str) -> Result<()> {
    let client = Client::new();
    let url = envoy.url(LISTENER, path);
    let last = RefCell::new(String::new());
    let attempt = || async {
        let result = probe(&client, &url, row).await;
        result
            .map_err(|error| last.replace(format!("{error:#}")))
            .ok()
    };
    ensure!(
        wait::within(READY, attempt).await.is_some(),
        "{} is not ready: {}\n{}",
        row.title(),
        last.borrow(),
        envoy.logs()
    );
    Ok(())
}

/// Checks that the Lua filter marks a rejected token in an answer, as the plugin does: its look at answers is measured.
pub async fn marks_rejected(envoy: &Envoy) -> Result<()> {
    let url = envoy.url(LISTENER, "/cgi-bin/rejected");
    let answer = Client::new().get_with(&url, &[("host", HOST)]).await?;
    ensure!(
        answer.header("x-wechat-token-retry") == Some("1"),
        "the Lua filter does not see a rejected token: {:?}",
        answer.headers
    );
    Ok(())
}

async fn probe(client: &Client, url: &str, row: Row) -> Result<()> {
    let answer = client.get_with(url, &[("host", HOST)]).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    let header = |name| answer.header(name).unwrap_or_default();
    row.check(header("x-seen-path"), header("x-seen-credential"))
}

/// Builds the no-op filter, and says where it is.
fn build_noop() -> Result<PathBuf> {
    progress("building the no-op filter");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "noop-filter"])
        .args(["--target", "wasm32-wasip1", "--target-dir"])
        .arg(workspace().join("target"))
        .current_dir(workspace())
        .status()
        .context("cargo does not start")?;
    ensure!(status.success(), "the no-op filter does not build");
    Ok(workspace().join("target/wasm32-wasip1/release/noop_filter.wasm"))
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(workspace().join(file)).with_context(|| format!("cannot read {file}"))
}
