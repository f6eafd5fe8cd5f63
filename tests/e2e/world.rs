//! One fake WeChat and one Envoy on the shipped `envoy/envoy.demo.yaml`: what a test changes before they start, the calls
//! it makes, and what holds at every test's end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{json, Value};
use support::client::{Answer, Client};
use support::envoy::{workspace, Builder, Config, Envoy, PluginRoot};
use support::wait::until_some;
use support::wechat::{Call, FakeWeChat, Settings};

use crate::settings::{Placement, Setting};
use crate::upstream::Upstream;

pub(crate) const APPID: &str = "wx0123456789abcdef";
pub(crate) const SECRET: &str = "5ec2e7a0b1c2d3e4f5061728394a5b6c";
pub(crate) const HOST: &str = "api.weixin.qq.com";
/// For what takes no time of its own, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// The connection manager that services call.
pub(crate) const MANAGER: &str =
    "static_resources.listeners[name=wechat].filter_chains[0].filters[0].typed_config";

/// Names each call in a header, so that it is found again among those that WeChat got.
pub(crate) const MARK: &str = "x-test-call";
/// How far back a call is looked for.
const LOOKED_AT: usize = 4_096;

/// What a test changes before Envoy starts.
pub(crate) struct Plan {
    pub(crate) setting: Setting,
    pub(crate) settings: Settings,
    /// The plugin's configuration, for both of its places.
    pub(crate) document: Value,
    pub(crate) config: Config,
    /// Where business calls go if not to the fake WeChat.
    pub(crate) api: Option<SocketAddr>,
}

pub(crate) struct World {
    pub(crate) setting: Setting,
    pub(crate) fake: FakeWeChat,
    pub(crate) envoy: Envoy,
    pub(crate) client: Client,
    calls: AtomicU64,
}

/// A call as its caller and WeChat saw it.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) answer: Answer,
    /// The last one that WeChat got of it, tokens and secrets as they came; `None` where it got none.
    pub(crate) call: Option<Call>,
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
        document: json!({"apps": [app(APPID)]}),
        config,
        api: None,
    }
}

/// The entry of `apps` for an app whose secret is [`SECRET`].
pub(crate) fn app(appid: &str) -> Value {
    json!({"appid": appid, "secret": {"env": "WECHAT_SECRET"}})
}

impl Plan {
    /// Several apps with one secret, none of them the default.
    pub(crate) fn with_apps(mut self, apps: &[&str]) -> Self {
        for appid in apps {
            self.settings = self.settings.with_app(appid, SECRET);
        }
        self.document = json!({"apps": apps.iter().map(|appid| app(appid)).collect::<Vec<_>>()});
        self
    }

    /// `allow_on_headers_stop_iteration` of the injector.
    pub(crate) fn stop_iteration(&mut self, flag: bool) {
        self.injector()["typed_config"]["config"]["allow_on_headers_stop_iteration"] = flag.into();
    }

    /// The injector's filter.
    pub(crate) fn injector(&mut self) -> &mut serde_norway::Value {
        &mut self.filters()[0]
    }

    /// The injector's filter and those behind it.
    pub(crate) fn filters(&mut self) -> &mut Vec<serde_norway::Value> {
        let filters = match self.setting.placement {
            Placement::Upstream => &mut http_options(&mut self.config)["http_filters"],
            Placement::Downstream => self.config.at(&format!("{MANAGER}.http_filters")),
        };
        filters.as_sequence_mut().expect("http_filters")
    }

    /// Bodies without Content-Length go on as they come.
    pub(crate) fn without_buffer(&mut self) {
        let route = "route_config.virtual_hosts[name=wechat].routes[0]";
        let place = format!("{MANAGER}.{route}.typed_per_filter_config");
        assert!(self.config.find(&place).is_some(), "the buffer's switch");
        self.config.remove(&place);
    }

    pub(crate) fn builder(self, fake: &FakeWeChat) -> Builder {
        self.builder_apart(fake, fake.address())
    }

    /// With token calls going elsewhere than business calls, and with a document for each of the plugin's places.
    pub(crate) fn builder_with(
        mut self,
        fake: &FakeWeChat,
        tokens_at: SocketAddr,
        document: impl FnMut(&PluginRoot, &mut Value),
    ) -> Builder {
        let api_at = self.api.unwrap_or(fake.address());
        for (cluster, address) in [("wechat_api", api_at), ("wechat_token", tokens_at)] {
            self.config.cluster_to(cluster, address, true);
        }
        self.config.each_plugin(document);
        self.setting.builder(self.config)
    }

    fn builder_apart(mut self, fake: &FakeWeChat, tokens_at: SocketAddr) -> Builder {
        let document = self.document.take();
        self.builder_with(fake, tokens_at, |_, place| *place = document.clone())
    }

    /// With business calls going to this upstream in place of the fake WeChat.
    pub(crate) fn to(mut self, upstream: &Upstream) -> Self {
        self.api = Some(upstream.address);
        self
    }

    pub(crate) async fn start(self) -> World {
        let fake = FakeWeChat::start(self.settings.clone()).await;
        self.start_with(fake).await
    }

    /// An Envoy whose first token calls wait at the gate. Neither they nor those who wait for them give up meanwhile, unless
    /// the test says so itself: how long it takes to get there is the machine's matter.
    pub(crate) async fn start_cold(mut self) -> World {
        for (part, timeout) in [("weixin", "60s"), ("wait", "25s")] {
            let place = &mut self.document[part]["timeout"];
            if place.is_null() {
                *place = json!(timeout);
            }
        }
        let fake = FakeWeChat::start(self.settings.clone()).await;
        fake.hold_token_calls();
        let world = self.start_with(fake).await;
        world.fake.wait_for_held(1, SOON).await;
        world
    }

    pub(crate) async fn start_with(self, fake: FakeWeChat) -> World {
        let tokens_at = fake.address();
        self.start_apart(fake, tokens_at).await
    }

    pub(crate) async fn start_apart(self, fake: FakeWeChat, tokens_at: SocketAddr) -> World {
        let setting = self.setting;
        let envoy = self.builder_apart(&fake, tokens_at).start().await;
        World::new(setting, fake, envoy)
    }
}

impl Setting {
    /// An Envoy of this setting that knows the secret.
    pub(crate) fn builder(self, config: Config) -> Builder {
        Envoy::builder(self.version)
            .config(config)
            .concurrency(self.concurrency)
            .env("WECHAT_SECRET", SECRET)
    }
}

impl World {
    pub(crate) fn new(setting: Setting, fake: FakeWeChat, envoy: Envoy) -> Self {
        World {
            setting,
            fake,
            envoy,
            client: Client::new(),
            calls: AtomicU64::new(0),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.envoy.url("wechat", path)
    }

    /// A call to WeChat's own name; `host` among the headers names another one.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Exchange {
        let mark = self.next_mark();
        let mut all = vec![(MARK, mark.as_str())];
        if !headers.iter().any(|header| header.0 == "host") {
            all.push(("host", HOST));
        }
        all.extend(headers);
        let sent = self
            .client
            .call(method, &self.url(path), &all, body.into().into())
            .await;
        Exchange {
            answer: sent.unwrap_or_else(|error| panic!("{method} {path}: {error}")),
            call: self.marked(&mark),
        }
    }

    /// A value for the header [`MARK`] that no other call has.
    pub(crate) fn next_mark(&self) -> String {
        self.calls.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// The last call with this mark that WeChat got.
    pub(crate) fn marked(&self, mark: &str) -> Option<Call> {
        let calls = self.fake.raw_calls(LOOKED_AT);
        let mut calls = calls.into_iter().rev();
        calls.find(|call| call.header(MARK) == Some(mark))
    }

    pub(crate) async fn call(&self, path: &str, headers: &[(&str, &str)]) -> Exchange {
        self.send("GET", path, headers, "").await
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.call(path, headers).await.answer
    }

    /// Waits until the plugin has a token.
    pub(crate) async fn ready(&self) {
        let answer = self.get("/cgi-bin/echo", &[]).await;
        assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
    }

    /// The newest token that WeChat made.
    pub(crate) fn token(&self) -> String {
        self.fake.tokens().pop().expect("a token")
    }

    /// One of the plugin's counters, whatever its labels and wherever Envoy puts it; written every 250 ms.
    pub(crate) async fn counted(&self, name: &str) -> u64 {
        let page = format!("/stats?filter={name}");
        let stats = self.envoy.admin_get(&page).await.text();
        let values = stats.lines().filter_map(|line| line.rsplit(": ").next());
        values.filter_map(|value| value.parse::<u64>().ok()).sum()
    }

    /// Waits until a counter of the plugin's is at least so high.
    pub(crate) async fn wait_until_counted(&self, name: &str, count: u64) {
        until_some(SOON, &format!("{name} >= {count}"), || async {
            (self.counted(name).await >= count).then_some(())
        })
        .await;
    }

    /// Waits until so many requests had to wait for a token.
    pub(crate) async fn parked(&self, count: u64) {
        self.wait_until_counted("wechat_token_parked_total", count)
            .await;
    }

    /// Ends the test: WeChat saw nothing that must never be; no token and no secret that ever was stands in Envoy's log,
    /// access log or admin pages; and Envoy ends as it should.
    pub(crate) async fn finish(self) {
        self.finish_hiding(&[]).await;
    }

    /// As [`Self::finish`]; these words must not be seen either.
    pub(crate) async fn finish_hiding(self, words: &[&str]) {
        self.fake.report().assert_clean();
        let mut leaks = self.fake.leaks();
        leaks.extend(words.iter().map(ToString::to_string));
        end_hiding(self.envoy, &leaks).await;
    }
}

/// Ends an Envoy, as it should end; none of these words stands in its log, access log or admin pages, and no virtual machine
/// trapped.
pub(crate) async fn end_hiding(envoy: Envoy, leaks: &[String]) {
    let mut seen = Vec::new();
    for page in PAGES {
        let text = envoy.admin_get(page).await.text();
        assert!(!text.is_empty(), "{page}");
        seen.push((page, text));
    }
    let ended = tokio::task::block_in_place(|| envoy.terminate());
    assert!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
    // The header is in every line of the default access log, so the leak would be seen if there was one.
    let is_logged = ["HTTP/1.1\"", "HTTP/2\""].map(|end| ended.log.contains(end));
    assert!(is_logged.contains(&true), "no access log");
    assert!(!ended.log.contains("panicked"), "{}", ended.log);
    // What Envoy says of a virtual machine that trapped.
    assert!(!ended.log.contains("in-VM backtrace"), "{}", ended.log);
    seen.push(("log", ended.log));
    for (place, text) in seen {
        for leak in leaks {
            let found = text.find(leak.as_str());
            let line = found.and_then(|at| text[..at].lines().last());
            assert!(found.is_none(), "{place} holds {leak}: {line:?}");
        }
    }
}

impl Exchange {
    /// Path and query as WeChat got them.
    pub(crate) fn target(&self) -> &str {
        &self.arrived().target
    }

    /// The call as WeChat got it.
    pub(crate) fn arrived(&self) -> &Call {
        let answer = self.answer.text();
        self.call
            .as_ref()
            .unwrap_or_else(|| panic!("WeChat got nothing; the answer: {answer}"))
    }

    /// Asserts that the plugin answered this itself, for this reason, and that WeChat got nothing.
    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, reason: &str) {
        let answer = &self.answer;
        assert!(self.call.is_none(), "{:?}", self.call);
        assert_eq!(
            (
                answer.status,
                answer.header("x-wechat-token-error"),
                answer.header("content-type"),
                answer.errcode(),
            ),
            (status, Some(reason), Some("application/json"), Some(-1)),
            "{}",
            answer.text()
        );
    }
}

/// What Envoy tells of itself.
const PAGES: [&str; 10] = [
    "/certs",
    "/clusters",
    "/config_dump?include_eds",
    "/init_dump",
    "/listeners",
    "/runtime",
    "/server_info",
    "/stats",
    "/stats/prometheus",
    "/stats?format=json",
];

/// The filter before the router instead of before the cluster's codec.
fn move_downstream(config: &mut Config) {
    let options = http_options(config)
        .as_mapping_mut()
        .expect("HttpProtocolOptions");
    let filters = options.remove("http_filters").expect("http_filters");
    let injector = filters[0].clone();
    let listener = config.at(&format!("{MANAGER}.http_filters"));
    let listener = listener.as_sequence_mut().expect("http_filters");
    listener.insert(0, injector);
}

/// The WeChat cluster's `HttpProtocolOptions`; their name holds dots, so a path cannot name them.
pub(crate) fn http_options(config: &mut Config) -> &mut serde_norway::Value {
    let options =
        config.at("static_resources.clusters[name=wechat_api].typed_extension_protocol_options");
    let options = options
        .as_mapping_mut()
        .and_then(|map| map.values_mut().next());
    options.expect("HttpProtocolOptions")
}
