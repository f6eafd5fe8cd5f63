//! What a soak runs on: one Envoy with the shipped configuration, and a WeChat whose tokens live for seconds.

use std::time::Duration;

use anyhow::{ensure, Result};
use serde_json::{json, Value};
use support::client::Client;
use support::envoy::{workspace, Config, Envoy};
use support::wechat::{FakeWeChat, Settings};

/// The Host that services call.
pub(crate) const WECHAT: &str = "api.weixin.qq.com";
/// The app whose tokens come from the classic endpoint.
pub(crate) const CLASSIC: &str = "wxsoakclassic004";
/// The apps; a call that names none is meant for the first one.
pub(crate) const APPS: [&str; 4] = [
    "wxsoak0000000001",
    "wxsoak0000000002",
    "wxsoak0000000003",
    CLASSIC,
];
/// Each app knows both; which of them WeChat takes changes now and then.
pub(crate) const SECRETS: [&str; 2] = [
    "the-first-secret-of-the-soak-apps",
    "the-other-secret-of-the-soak-apps",
];
/// How long a token lives; it is renewed after half of it.
const LIFETIME: Duration = Duration::from_secs(20);
/// How long a token goes on working when another one has replaced it.
pub(crate) const OVERLAP: Duration = Duration::from_secs(10);
/// No call may take longer: the plugin's wait, a resending, Envoy's route timeout and a busy machine are all shorter.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const LISTENER: &str = "static_resources.listeners[name=wechat].filter_chains[0].filters[0]";

/// The Envoy, its WeChat, and a client.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) envoy: Envoy,
    pub(crate) fake: FakeWeChat,
    pub(crate) client: Client,
}

impl Bed {
    /// Starts both; the Envoy serves when this returns.
    pub(crate) async fn start(version: &str, workers: u32) -> Result<Self> {
        let mut settings = Settings::default()
            .with_token_lifetime(LIFETIME)
            .with_overlap(OVERLAP);
        for appid in APPS {
            settings = settings.with_app(appid, SECRETS[0]);
        }
        let fake = FakeWeChat::start(settings).await;
        let wasm = workspace().join("target/variants/wechat-token-trap.wasm");
        ensure!(
            wasm.is_file(),
            "no {}: tools/build-variants.sh makes it",
            wasm.display()
        );
        let mut config = Config::load("envoy/envoy.demo.yaml");
        config.free_ports().wasm_file(&wasm);
        // What waits in a worker that traps is ended by this: the shipped minute would leave a soak with little else to do.
        config.set(
            &format!("{LISTENER}.typed_config.stream_idle_timeout"),
            "12s",
        );
        for cluster in ["wechat_api", "wechat_token"] {
            config.cluster_to(cluster, fake.address(), true);
        }
        config.host_env("WECHAT_SECRET_NEXT");
        config.each_plugin(|_, place| *place = document());
        let envoy = Envoy::builder(version)
            .config(config)
            .concurrency(workers)
            .env("WECHAT_SECRET", SECRETS[0])
            .env("WECHAT_SECRET_NEXT", SECRETS[1])
            .start()
            .await;
        Ok(Self {
            envoy,
            fake,
            client: Client::with_timeout(DEADLINE),
        })
    }

    /// The URL of a path on Envoy's listener.
    pub(crate) fn url(&self, path: &str) -> String {
        self.envoy.url("wechat", path)
    }
}

/// The plugin's configuration: short pauses, so that what is over is soon forgotten.
fn document() -> Value {
    let apps = APPS.map(|appid| {
        json!({"appid": appid, "secret": [{"env": "WECHAT_SECRET"}, {"env": "WECHAT_SECRET_NEXT"}]})
    });
    let mut document = json!({
        "apps": apps,
        "default_app": APPS[0],
        "weixin": {"timeout": "2s"},
        "refresh": {"backoff": {"initial": "200ms", "max": "2s"}, "rejected_interval": "10s", "daily_budget": 2000},
    });
    let apps = document["apps"].as_array_mut();
    if let Some(classic) = apps.and_then(|apps| apps.last_mut()) {
        classic["token_api"] = json!("classic");
        classic["sole_refresher"] = json!(true);
    }
    document
}
