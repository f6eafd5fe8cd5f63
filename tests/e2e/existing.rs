//! `envoy/plain/fragment.yaml` in an Envoy that somebody has already: as its README says, with nothing changed but addresses, ports
//! and the path of the .wasm. What was there before works as before.

use serde_norway::Value;
use support::client::raw::Raw;
use support::envoy::{workspace, Config, Envoy};
use support::wechat::{FakeWeChat, Settings};

use crate::settings::{versions_and_placements, Placement, Setting};
use crate::upstream::Upstream;
use crate::world::{World, APPID, HOST, MARK, SECRET, SOON};

/// Somebody's Envoy: a listener and a cluster, a tag of its own for its metrics.
const THEIRS: &str = "
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
stats_config: {stats_tags: [{tag_name: site, fixed_value: theirs}]}
static_resources:
  listeners:
  - name: theirs
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: theirs
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: theirs
              domains: ['*']
              routes: [{match: {prefix: /}, route: {cluster: theirs}}]
  clusters:
  - {name: theirs, type: STATIC, load_assignment: {cluster_name: theirs, endpoints: []}}
";
const THEIR_MANAGER: &str =
    "static_resources.listeners[name=theirs].filter_chains[0].filters[0].typed_config";
const MANAGER: &str =
    "static_resources.listeners[name=wechat].filter_chains[0].filters[0].typed_config";

/// The placement is the fragment's.
fn settings() -> Vec<Setting> {
    let mut settings = versions_and_placements();
    settings.retain(|setting| setting.placement == Placement::Upstream);
    settings
}

/// The fragment for this WeChat.
fn fragment(fake: &FakeWeChat) -> Config {
    let mut fragment = Config::load("envoy/plain/fragment.yaml");
    fragment.wasm_file(&workspace().join("dist/wechat-token.wasm"));
    for cluster in ["wechat_api", "wechat_token"] {
        fragment.cluster_to(cluster, fake.address(), true);
    }
    // Sets an address of the admin API too, of which an Envoy has one.
    fragment.free_ports().remove("admin");
    fragment
}

async fn fake() -> FakeWeChat {
    FakeWeChat::start(Settings::default().with_app(APPID, SECRET)).await
}

fn theirs(upstream: &Upstream) -> Config {
    let mut theirs = Config::parse(THEIRS);
    theirs.cluster_to("theirs", upstream.address, true);
    theirs
}

/// Their Envoy with the fragment, by the command line of the README.
async fn start(setting: Setting, fake: FakeWeChat, theirs: Config, fragment: Config) -> World {
    let builder = Envoy::builder(setting.version)
        .config(theirs)
        .concurrency(setting.concurrency)
        .arg("--config-yaml")
        .arg(&fragment.to_text())
        .env("WECHAT_SECRET", SECRET);
    let envoy = builder.start().await;
    let log = envoy.logs();
    assert!(!log.contains("eprecat"), "{log}");
    World::new(setting, fake, envoy)
}

/// A POST in chunks; status of the answer.
async fn post_chunks(world: &World, listener: &str, host: &str, mark: &str) -> u16 {
    let address = world.envoy.address(listener);
    let mut raw = Raw::connect(address).await.unwrap();
    let chunked = ("transfer-encoding", "chunked");
    let headers = [("host", host), (MARK, mark), chunked];
    raw.send_head("POST", "/cgi-bin/echo", &headers)
        .await
        .unwrap();
    raw.send_chunk(b"body").await.unwrap();
    raw.finish_chunks().await.unwrap();
    raw.read_answer().await.unwrap().status
}

/// Calls to WeChat through this listener have a token and, where they have a body, its length.
async fn assert_serves(world: &World, listener: &str) {
    let mark = world.next_mark();
    let headers = [("host", HOST), (MARK, &*mark)];
    let url = world.envoy.url(listener, "/cgi-bin/echo?a=1");
    let answer = world.client.get_with(&url, &headers).await.unwrap();
    assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
    let target = format!("/cgi-bin/echo?a=1&access_token={}", world.token());
    assert_eq!(world.marked(&mark).unwrap().target, target);
    let mark = world.next_mark();
    assert_eq!(post_chunks(world, listener, HOST, &mark).await, 200);
    let call = world.marked(&mark).unwrap();
    assert_eq!(call.header("content-length"), Some("4"));
    // The second answer of a call whose token is rejected.
    world.fake.revoke(APPID, 40001);
    let answer = world.client.get_with(&url, &headers).await.unwrap();
    assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
    assert_eq!(world.fake.report().errcode(40001), 1);
}

/// What is theirs goes where it went, as it came, and gets no token.
async fn assert_theirs(world: &World, upstream: &Upstream) {
    assert_eq!(post_chunks(world, "theirs", "their.example", "").await, 200);
    let request = upstream.last().unwrap();
    assert_eq!(request.target(), "/cgi-bin/echo");
    assert_eq!(request.body, "4\r\nbody\r\n0\r\n\r\n", "in chunks");
}

/// The metrics have their labels, and theirs the one that they had.
async fn assert_metrics(world: &World) {
    world
        .wait_until_counted("wechat_token_rejected_total", 1)
        .await;
    let page = world.envoy.admin_get("/stats/prometheus").await.text();
    let rejected = page
        .lines()
        .find(|line| line.starts_with("wechat_token_rejected_total{"));
    let rejected = rejected.unwrap_or_else(|| panic!("no such metric: {page}"));
    for label in [&*format!("app=\"{APPID}\""), "site=\"theirs\""] {
        assert!(rejected.contains(label), "{rejected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_bootstrap_that_is_there_the_fragment_serves_on_a_port_of_its_own() {
    for setting in settings() {
        let upstream = Upstream::start(|_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec()).await;
        let fake = fake().await;
        let fragment = fragment(&fake);
        let world = start(setting, fake, theirs(&upstream), fragment).await;
        assert_serves(&world, "wechat").await;
        assert_theirs(&world, &upstream).await;
        assert_metrics(&world).await;
        world.finish().await;
    }
}

/// Takes the items of a list away, and gives them.
fn take(config: &mut Config, list: &str) -> Vec<Value> {
    std::mem::take(config.at(list).as_sequence_mut().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn its_parts_on_a_listener_that_is_there_serve_beside_what_that_serves() {
    for setting in settings() {
        let upstream = Upstream::start(|_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec()).await;
        let fake = fake().await;
        let (mut fragment, mut theirs) = (fragment(&fake), theirs(&upstream));
        // By the README: the filters before the router, the virtual host, and each setting that says something of paths, of
        // headers and of time.
        let filters = format!("{MANAGER}.http_filters");
        let mut filters = take(&mut fragment, &filters);
        filters.pop();
        let hosts = format!("{MANAGER}.route_config.virtual_hosts");
        let hosts = take(&mut fragment, &hosts);
        let place = format!("{THEIR_MANAGER}.http_filters");
        theirs
            .at(&place)
            .as_sequence_mut()
            .unwrap()
            .splice(0..0, filters);
        let place = format!("{THEIR_MANAGER}.route_config.virtual_hosts");
        theirs.push(&place, &hosts[0]);
        for setting in SETTINGS {
            let value = fragment.find(&format!("{MANAGER}.{setting}")).unwrap();
            theirs.set(&format!("{THEIR_MANAGER}.{setting}"), value);
        }
        fragment.remove("static_resources.listeners");
        let world = start(setting, fake, theirs, fragment).await;
        world.envoy.wait_for_log("event=token_renewed", SOON).await;
        assert_serves(&world, "theirs").await;
        assert_theirs(&world, &upstream).await;
        assert_metrics(&world).await;
        world.finish().await;
    }
}

#[test]
fn the_settings_that_are_copied_are_those_of_the_readme() {
    let readme = std::fs::read_to_string(workspace().join("envoy/plain/README.md")).unwrap();
    for setting in SETTINGS {
        assert!(readme.contains(&format!("`{setting}`")), "{setting}");
    }
    let fragment = Config::load("envoy/plain/fragment.yaml");
    let manager = fragment.find(MANAGER).unwrap().as_mapping().unwrap();
    let own = [
        "@type",
        "stat_prefix",
        "access_log",
        "http_filters",
        "route_config",
    ];
    let mut all: Vec<&str> = manager.keys().filter_map(Value::as_str).collect();
    all.retain(|key| !own.contains(key));
    assert_eq!(all, SETTINGS);
}

/// What of the connection manager is copied.
const SETTINGS: [&str; 9] = [
    "use_remote_address",
    "skip_xff_append",
    "early_header_mutation_extensions",
    "normalize_path",
    "merge_slashes",
    "path_with_escaped_slashes_action",
    "stream_idle_timeout",
    "request_timeout",
    "request_headers_timeout",
];
