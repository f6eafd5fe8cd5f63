//! One fake WeChat and one Envoy, in the placements, versions and concurrencies that the tests go through.

use std::time::Duration;

use serde_json::{json, Value};
use support::client::{Answer, Client};
use support::envoy::{workspace, Builder, Config, Envoy};
use support::wechat::{FakeWeChat, Settings};

pub(crate) const APPID: &str = "wx0123456789abcdef";
pub(crate) const SECRET: &str = "5ec2e7a0b1c2d3e4f5061728394a5b6c";
pub(crate) const HOST: &str = "api.weixin.qq.com";
pub(crate) const SOON: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Upstream,
    Downstream,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) version: &'static str,
    pub(crate) concurrency: u32,
    pub(crate) placement: Placement,
}

const fn setting(version: &'static str, concurrency: u32, placement: Placement) -> Setting {
    Setting {
        version,
        concurrency,
        placement,
    }
}

pub(crate) const NEWEST: Setting = setting("1.40.0", 2, Placement::Upstream);
/// Every value of each dimension, and every pair of version and placement.
pub(crate) const PAIRS: [Setting; 4] = [
    NEWEST,
    setting("1.37.0", 4, Placement::Upstream),
    setting("1.40.0", 1, Placement::Downstream),
    setting("1.37.0", 2, Placement::Downstream),
];

/// [`PAIRS`], or the whole product where `E2E_MATRIX=full` asks for it.
pub(crate) fn settings() -> Vec<Setting> {
    if std::env::var_os("E2E_MATRIX").is_none_or(|matrix| matrix != "full") {
        return PAIRS.to_vec();
    }
    let mut all = Vec::new();
    for version in ["1.37.0", "1.39.3", "1.40.0"] {
        for concurrency in [1, 2, 4] {
            for placement in [Placement::Upstream, Placement::Downstream] {
                all.push(setting(version, concurrency, placement));
            }
        }
    }
    all
}

pub(crate) struct World {
    pub(crate) fake: FakeWeChat,
    pub(crate) envoy: Envoy,
    pub(crate) client: Client,
}

/// What a test changes before Envoy starts.
pub(crate) struct Plan {
    pub(crate) setting: Setting,
    pub(crate) settings: Settings,
    pub(crate) document: Value,
    pub(crate) config: Config,
}

pub(crate) fn plan(setting: Setting) -> Plan {
    let mut config = Config::load("envoy/envoy.demo.yaml");
    if setting.placement == Placement::Downstream {
        move_downstream(&mut config);
    }
    config.free_ports();
    config.wasm_file(&workspace().join("dist/wechat-token.wasm"));
    Plan {
        setting,
        settings: Settings::default().with_app(APPID, SECRET),
        document: json!({"apps": [{"appid": APPID, "secret": {"env": "WECHAT_SECRET"}}]}),
        config,
    }
}

/// The filter before the router instead of before the cluster's codec: what Istio's `WasmPlugin` does.
fn move_downstream(config: &mut Config) {
    const PROTOCOL: &str =
        "static_resources.clusters[name=wechat_api].typed_extension_protocol_options.\
                            envoy~extensions~upstreams~http~v3~HttpProtocolOptions.http_filters";
    const FILTERS: &str =
        "static_resources.listeners[name=wechat].filter_chains[0].filters[0].typed_config.http_filters";
    let options =
        config.at("static_resources.clusters[name=wechat_api].typed_extension_protocol_options");
    let options = options
        .as_mapping_mut()
        .and_then(|map| map.values_mut().next())
        .expect(PROTOCOL);
    let filters = options
        .get_mut("http_filters")
        .and_then(|list| list.as_sequence_mut())
        .expect(PROTOCOL);
    let injector = filters.remove(0);
    options
        .as_mapping_mut()
        .expect(PROTOCOL)
        .remove("http_filters");
    config
        .at(FILTERS)
        .as_sequence_mut()
        .expect(FILTERS)
        .insert(0, injector);
}

impl Plan {
    pub(crate) fn builder(mut self, fake: &FakeWeChat) -> Builder {
        for cluster in ["wechat_api", "wechat_token"] {
            self.config.cluster_to(cluster, fake.address(), true);
        }
        let document = self.document;
        self.config
            .each_plugin(|_, place| *place = document.clone());
        Envoy::builder(self.setting.version)
            .config(self.config)
            .concurrency(self.setting.concurrency)
            .env("WECHAT_SECRET", SECRET)
    }

    pub(crate) async fn start(self) -> World {
        let fake = FakeWeChat::start(self.settings.clone()).await;
        self.start_with(fake).await
    }

    pub(crate) async fn start_with(self, fake: FakeWeChat) -> World {
        let envoy = self.builder(&fake).start().await;
        World {
            fake,
            envoy,
            client: Client::new(),
        }
    }
}

impl World {
    pub(crate) fn url(&self, path: &str) -> String {
        self.envoy.url("wechat", path)
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("host", HOST)];
        all.extend(headers);
        self.client
            .get_with(&self.url(path), &all)
            .await
            .expect("an answer")
    }

    /// What WeChat got last, tokens shortened.
    pub(crate) fn last_target(&self) -> String {
        self.fake.calls(1).pop().expect("a call").target
    }

    /// Waits until the plugin has a token.
    pub(crate) async fn ready(&self) {
        let answer = self.get("/cgi-bin/echo", &[]).await;
        assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
    }
}
