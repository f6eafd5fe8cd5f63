//! What the demo plays on: an Envoy with the plugin and a WeChat behind it, started here or already running.
//!
//! The steps know only three URLs (Envoy, the fake WeChat's control, Envoy's metrics) and how to restart Envoy, so the
//! same checks run on a container or on anything else that is up.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{json, Value};
use support::client::{Answer, Client};
use support::envoy::{workspace, Config, Envoy};
use support::wait;
use support::wechat::{Call, FakeWeChat, Report, Settings};

/// The Host that services call.
pub(crate) const WECHAT: &str = "api.weixin.qq.com";
/// The secret of the demo's only app; the fake WeChat is told the same one.
const SECRET: &str = "the-secret-of-the-demo";
/// How long an Envoy may take to be ready again.
const READY: Duration = Duration::from_secs(60);

/// An Envoy and its WeChat.
#[derive(Debug)]
pub(crate) struct Stage {
    /// For calls as a service makes them.
    pub(crate) client: Client,
    urls: Urls,
    local: Option<Local>,
    restart: Option<String>,
}

/// Where things are, without a slash at the end.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    /// Envoy's listener for services.
    pub(crate) envoy: String,
    /// The fake WeChat's control API.
    pub(crate) control: String,
    /// What has `/stats/prometheus` and `/ready`: Envoy's admin API or its listener for operators.
    pub(crate) admin: String,
}

/// What this program started itself.
#[derive(Debug)]
struct Local {
    version: String,
    workers: u32,
    envoy: Option<Envoy>,
    fake: FakeWeChat,
}

impl Stage {
    /// Starts a fake WeChat whose tokens live `lifetime` and the shipped demo configuration in front of it.
    pub(crate) async fn start(
        version: &str,
        workers: u32,
        lifetime: Lifetime,
    ) -> Result<Self, String> {
        let fake = fake(lifetime)?;
        let control = fake
            .control_address()
            .ok_or("the fake WeChat has no control address")?;
        let mut stage = Self {
            client: Client::new(),
            urls: Urls {
                envoy: String::new(),
                control: format!("http://{control}"),
                admin: String::new(),
            },
            local: Some(Local {
                version: version.to_owned(),
                workers,
                envoy: None,
                fake,
            }),
            restart: None,
        };
        stage.restart().await?;
        Ok(stage)
    }

    /// What runs already; `restart` is a shell command that restarts its Envoy.
    pub(crate) fn running(urls: Urls, restart: Option<String>) -> Self {
        Self {
            client: Client::new(),
            urls,
            local: None,
            restart,
        }
    }

    /// Whether Envoy can be restarted.
    pub(crate) fn can_restart(&self) -> bool {
        self.local.is_some() || self.restart.is_some()
    }

    /// Restarts Envoy and returns once it serves.
    pub(crate) async fn restart(&mut self) -> Result<(), String> {
        if let Some(local) = &mut self.local {
            // The ports must be free before the next one takes them.
            drop(local.envoy.take());
            let envoy = demo_envoy(&local.version, local.workers, local.fake.address()).await?;
            self.urls.envoy = format!("http://{}", envoy.address("wechat"));
            self.urls.admin = format!("http://{}", envoy.admin());
            local.envoy = Some(envoy);
            return Ok(());
        }
        let command = self
            .restart
            .as_ref()
            .ok_or("no command to restart Envoy with")?;
        let status = Command::new("sh").args(["-c", command]).status();
        let status = status.map_err(|error| format!("{command}: {error}"))?;
        if !status.success() {
            return Err(format!("{command}: {status}"));
        }
        // The old pool is full of connections to the Envoy that is gone.
        self.client = Client::new();
        self.wait_until_ready().await
    }

    /// Waits until Envoy serves: before, it has no listeners. That there is a token is not meant.
    pub(crate) async fn wait_until_ready(&self) -> Result<(), String> {
        let url = format!("{}/ready", self.urls.admin);
        let client = Client::with_timeout(Duration::from_secs(2));
        let ready = wait::within(READY, || async { client.get(&url).await.ok() });
        let answer = ready.await;
        answer.map_or_else(
            || Err(format!("{url} does not answer after {READY:?}")),
            |_| Ok(()),
        )
    }

    /// A path's URL at Envoy.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.urls.envoy)
    }

    /// What the fake WeChat saw.
    pub(crate) async fn report(&self) -> Result<Report, String> {
        self.control("GET", "report", None).await
    }

    /// The fake WeChat's last calls, oldest first.
    pub(crate) async fn calls(&self, tail: usize) -> Result<Vec<Call>, String> {
        self.control("GET", &format!("calls?tail={tail}"), None)
            .await
    }

    /// Holds token calls back, or lets them go on.
    pub(crate) async fn hold_token_calls(&self, hold: bool) -> Result<(), String> {
        let _: Value = self
            .control("POST", "gate", Some(json!({"hold": hold})))
            .await?;
        Ok(())
    }

    /// Lets WeChat refuse the app's current token from now on.
    pub(crate) async fn revoke(&self, appid: &str, errcode: i64) -> Result<(), String> {
        let body = json!({"appid": appid, "errcode": errcode});
        let _: Value = self.control("POST", "revoke", Some(body)).await?;
        Ok(())
    }

    /// Lets the fake WeChat forget what it counted; with `tokens`, every token too.
    pub(crate) async fn reset(&self, tokens: bool) -> Result<(), String> {
        let path = if tokens { "reset?tokens=1" } else { "reset" };
        let _: Value = self.control("POST", path, None).await?;
        Ok(())
    }

    /// Every token and secret that there ever was.
    pub(crate) async fn secrets(&self) -> Result<Vec<String>, String> {
        let answer: Value = self.control("GET", "secrets", None).await?;
        let leaks = answer["leaks"].as_array().cloned().unwrap_or_default();
        Ok(leaks
            .iter()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect())
    }

    /// Envoy's metrics, in Prometheus' text format.
    pub(crate) async fn metrics(&self) -> Result<String, String> {
        let url = format!("{}/stats/prometheus", self.urls.admin);
        let answer = self
            .client
            .get(&url)
            .await
            .map_err(|error| format!("{url}: {error}"))?;
        Ok(answer.text())
    }

    /// Everything that Envoy logged, where it was started here.
    pub(crate) fn logs(&self) -> Option<String> {
        Some(self.local.as_ref()?.envoy.as_ref()?.logs())
    }

    async fn control<T: serde::de::DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, String> {
        let url = format!("{}/control/{path}", self.urls.control);
        let body = body.map_or_else(String::new, |body| body.to_string());
        let answer = self.client.call(method, &url, &[], body.into()).await;
        let answer: Answer = answer.map_err(|error| format!("{url}: {error}"))?;
        serde_json::from_slice(&answer.body).map_err(|error| format!("{url}: {error}"))
    }
}

/// How long the fake WeChat's tokens live, and how long an old and a new one both work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// From the grant to the end.
    pub(crate) token: Duration,
    /// WeChat hands out the next token this long before the end of one.
    pub(crate) overlap: Duration,
}

impl Lifetime {
    /// WeChat's own.
    pub(crate) const REAL: Self = Self {
        token: Duration::from_secs(7200),
        overlap: Duration::from_secs(300),
    };
    /// So short that rotation is seen within seconds.
    pub(crate) const SHORT: Self = Self {
        token: Duration::from_secs(8),
        overlap: Duration::from_secs(5),
    };
}

/// A fake WeChat for the app of the demo configuration.
pub(crate) fn fake(lifetime: Lifetime) -> Result<FakeWeChat, String> {
    let mut settings = Settings::default()
        .with_app(&demo_appid(), SECRET)
        .with_token_lifetime(lifetime.token)
        .with_overlap(lifetime.overlap)
        .with_control();
    settings.hosts = vec![WECHAT.to_owned()];
    FakeWeChat::try_start(settings).map_err(|error| format!("the fake WeChat: {error}"))
}

/// The shipped demo configuration in a real Envoy, in front of the fake WeChat at `fake`.
pub(crate) async fn demo_envoy(
    version: &str,
    workers: u32,
    fake: SocketAddr,
) -> Result<Envoy, String> {
    let mut config = Config::load("envoy/envoy.demo.yaml");
    config.cluster_to("wechat_api", fake, false);
    config.cluster_to("wechat_token", fake, false);
    start(version, workers, config, SECRET).await
}

/// The shipped production configuration in a real Envoy, for this app.
pub(crate) async fn real_envoy(
    version: &str,
    workers: u32,
    appid: &str,
    secret: &str,
) -> Result<Envoy, String> {
    let mut config = Config::load("envoy/envoy.yaml");
    config.each_plugin(|_, document| document["apps"][0]["appid"] = json!(appid));
    start(version, workers, config, secret).await
}

/// The appid in the demo configuration.
pub(crate) fn demo_appid() -> String {
    let mut appid = String::new();
    Config::load("envoy/envoy.demo.yaml").each_plugin(|_, document| {
        appid = document["apps"][0]["appid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    });
    appid
}

async fn start(
    version: &str,
    workers: u32,
    mut config: Config,
    secret: &str,
) -> Result<Envoy, String> {
    let plugin = workspace().join("dist/wechat-token.wasm");
    if !plugin.is_file() {
        return Err(format!(
            "{} is missing: `make build` makes it",
            plugin.display()
        ));
    }
    config.wasm_file(&plugin);
    stay_private(&mut config);
    let envoy = Envoy::builder(version)
        .config(config)
        .concurrency(workers)
        .env("WECHAT_SECRET", secret);
    envoy.try_start().await.map_err(|error| error.to_string())
}

/// Listens on the loopback only, on the ports of the file or, where one is taken, on a free one.
fn stay_private(config: &mut Config) {
    let admin = "admin.address.socket_address";
    let places = ["wechat", "metrics"]
        .map(|name| format!("static_resources.listeners[name={name}].address.socket_address"));
    for place in places.iter().map(String::as_str).chain([admin]) {
        let port = config.at(place)["port_value"]
            .as_u64()
            .and_then(|port| port.try_into().ok());
        let address = free_address(port.unwrap_or_default());
        config.set(
            place,
            json!({"address": address.ip().to_string(), "port_value": address.port()}),
        );
        if place == admin {
            config.cluster_to("admin", address, false);
        }
    }
}

fn free_address(port: u16) -> SocketAddr {
    let listen =
        |port| TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
    listen(port)
        .or_else(|_| listen(0))
        .unwrap_or_else(|error| panic!("no free port: {error}"))
}

/// Where the log of an Envoy that was started here is.
pub(crate) fn log_of(envoy: &Envoy) -> PathBuf {
    envoy.directory().join("envoy.log")
}
