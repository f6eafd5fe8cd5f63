//! Two Envoys with the plugin, which share one Redis with everybody else.

use std::path::Path;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use serde_json::{json, Value};
use support::client::Client;
use support::envoy::{workspace, Config, Envoy};
use support::redis::Redis;
use support::wechat::FakeWeChat;
use tempfile::TempDir;

use crate::cases::CASES;

/// The Host that services call.
const HOST: &str = "api.weixin.qq.com";
/// The version of Envoy.
const VERSION: &str = "1.40.0";

pub(crate) struct Mesh {
    pub(crate) envoys: Vec<Envoy>,
    client: Client,
    /// Holds the sockets of the Redis listeners.
    _sockets: TempDir,
}

impl Mesh {
    /// Starts two, for these apps.
    pub(crate) async fn start(
        apps: &[String],
        secret: &str,
        redis: &Redis,
        fake: &FakeWeChat,
    ) -> Result<Mesh> {
        let sockets = tempfile::tempdir()?;
        let mut envoys = Vec::new();
        for number in 0..2 {
            let socket = sockets.path().join(number.to_string());
            let envoy = Envoy::builder(VERSION)
                .config(config(apps, &socket, redis, fake)?)
                .concurrency(1)
                .env("WECHAT_SECRET", secret)
                .start()
                .await;
            envoys.push(envoy);
        }
        Ok(Mesh {
            envoys,
            client: Client::with_timeout(Duration::from_secs(20)),
            _sockets: sockets,
        })
    }

    /// Where an app's services call: the URL of the first Envoy's listener for it.
    pub(crate) fn url(&self, appid: &str) -> Result<String> {
        let envoy = self.envoys.first().context("an Envoy")?;
        Ok(envoy.url(appid, ""))
    }

    /// The numbers of the tokens that a call through each Envoy carries for an app; fails with the first call that is not good.
    pub(crate) async fn tokens(&self, appid: &str, fake: &FakeWeChat) -> Result<Vec<u64>> {
        let mut tokens = Vec::new();
        for (number, envoy) in self.envoys.iter().enumerate() {
            let mark = format!("probe-{number}-{appid}");
            let url = envoy.url(appid, "/cgi-bin/echo");
            let headers = [("host", HOST), ("x-probe", mark.as_str())];
            let answer = self.client.get_with(&url, &headers).await?;
            ensure!(
                answer.errcode() == Some(0),
                "a call through Envoy {number} for {appid}: {} {}",
                answer.status,
                answer.text()
            );
            let calls = fake.calls(4_096);
            let call = calls
                .iter()
                .rev()
                .find(|call| call.header("x-probe") == Some(&mark));
            tokens.push(
                call.and_then(|call| call.token)
                    .context("the call's token")?,
            );
        }
        Ok(tokens)
    }

    /// A counter of the plugin for an app, of all Envoys.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let mut sum = 0;
        for envoy in &self.envoys {
            sum += envoy.stats(name).await.values().sum::<u64>();
        }
        sum
    }
}

/// The shipped files, with a listener for each app: a service that is not changed cannot say which app it means.
fn config(apps: &[String], socket: &Path, redis: &Redis, fake: &FakeWeChat) -> Result<Config> {
    let mut config = Config::load("envoy/envoy.demo.yaml");
    let listeners = "static_resources.listeners";
    let original = config
        .find(&format!("{listeners}[name=wechat]"))
        .context("the listener")?
        .clone();
    for appid in apps {
        config.push(listeners, &original);
        let last = format!("{listeners}[name=wechat]");
        let route = format!("{last}.filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].request_headers_to_add");
        let header = json!({"key": "x-wechat-appid", "value": appid});
        let action = "OVERWRITE_IF_EXISTS_OR_ADD";
        config.set(&route, json!([{"header": header, "append_action": action}]));
        config.set(&format!("{last}.name"), appid);
    }
    config.add_redis(Config::redis_at(redis.address()), socket);
    config
        .free_ports()
        .wasm_file(&workspace().join("dist/wechat-token.wasm"));
    for cluster in ["wechat_api", "wechat_token"] {
        config.cluster_to(cluster, fake.address(), true);
    }
    config.each_plugin(|_, place| *place = document(apps));
    Ok(config)
}

/// The plugin's configuration: renew after half of a token's life, write every library's key, follow whoever is faster.
fn document(apps: &[String]) -> Value {
    let app = |appid: &String| json!({"appid": appid, "secret": {"env": "WECHAT_SECRET"}, "token_api": "classic"});
    json!({
        "apps": apps.iter().map(app).collect::<Vec<_>>(),
        "refresh": {"lead": "300s", "jitter": "1s", "rejected_interval": "10s"},
        "redis": {
            "mirror": CASES.iter().map(|case| case.mirror()).collect::<Vec<_>>(),
            "adopt": true,
        },
    })
}
