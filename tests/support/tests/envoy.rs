//! The launcher on a real Envoy, the patches of its configuration, and the client through it.

#[path = "common/world.rs"]
mod common;

use std::path::Path;
use std::time::Duration;

use common::setup;
use serde_json::json;
use support::client::Client;
use support::envoy::{Config, Envoy};

const VERSION: &str = "1.40.0";
const PROXY: &str = r#"
admin: {address: {socket_address: {address: 0.0.0.0, port_value: 9901}}}
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 0.0.0.0, port_value: 10000}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, route: {cluster: wechat_api}}]
  clusters:
  - name: wechat_api
    type: STRICT_DNS
    dns_lookup_family: V4_ONLY
    load_assignment:
      cluster_name: wechat_api
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: api.weixin.qq.com, port_value: 443}}}}]}]
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}
"#;
const PLUGINS: &str = r#"
vm: &vm {vm_id: a, runtime: envoy.wasm.runtime.v8, code: {local: {filename: /old.wasm}}}
plugins:
- {name: one, root_id: refresher, vm_config: *vm, configuration: {"@type": x.Struct, value: {apps: [{appid: wx1}]}}}
- {name: two, root_id: injector, vm_config: {<<: *vm, vm_id: b}, configuration: {"@type": x.StringValue, value: '{"apps":[]}'}}
"#;

fn proxy() -> Config {
    let mut config = Config::parse(PROXY);
    config.free_ports();
    config
}

#[tokio::test]
async fn an_envoy_starts_proxies_is_watched_and_ends() {
    let world = setup();
    let mut config = proxy();
    config.cluster_to("wechat_api", world.fake.address(), true);
    let mut envoy = Envoy::builder(VERSION)
        .config(config)
        .concurrency(2)
        .start()
        .await;
    let token = world.stable().await;
    let path = format!("/cgi-bin/user/get?access_token={token}");
    let answer = Client::new()
        .get_with(&envoy.url("front", &path), &[("host", "api.weixin.qq.com")])
        .await
        .unwrap();
    assert_eq!(answer.errcode(), Some(0));
    assert_eq!(answer.json()["host"], "api.weixin.qq.com");
    envoy
        .wait_for_stat("http.front.downstream_rq_2xx", 1, Duration::from_secs(10))
        .await;
    assert!(envoy
        .stats("http.front.")
        .await
        .contains_key("http.front.downstream_rq_total"));
    envoy
        .wait_for_log("starting main dispatch loop", Duration::from_secs(10))
        .await;
    assert!(envoy.is_running());
    let process = format!("/proc/{}", envoy.pid());
    assert!(Path::new(&process).exists());
    let directory = envoy.directory().to_owned();
    let ended = envoy.terminate();
    assert!(ended.status.success(), "{}", ended.status);
    assert!(ended.log.contains("exiting"), "{}", ended.log);
    assert!(
        !Path::new(&process).exists() && !directory.exists(),
        "nothing is left behind"
    );
}

#[tokio::test]
async fn two_envoys_at_once_do_not_meet_and_a_drop_kills() {
    let (first, second) = tokio::join!(
        Envoy::builder(VERSION).config(proxy()).start(),
        Envoy::builder(VERSION).config(proxy()).start()
    );
    assert_ne!(first.address("front"), second.address("front"));
    assert_ne!(first.admin(), second.admin());
    let process = format!("/proc/{}", first.pid());
    drop(first);
    assert!(!Path::new(&process).exists());
    assert_eq!(second.admin_get("/ready").await.text().trim(), "LIVE");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_outlives_the_thread_that_asked_for_it() {
    let runtime = tokio::runtime::Handle::current();
    let started = move || runtime.block_on(Envoy::builder(VERSION).config(proxy()).start());
    let mut envoy = std::thread::spawn(started).join().unwrap();
    let answer = envoy.admin_get("/ready").await;
    assert_eq!(answer.text().trim(), "LIVE");
    assert!(envoy.is_running() && !envoy.logs().contains("SIGTERM"));
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_its_reason() {
    let mut config = proxy();
    config.set(
        "static_resources.clusters[name=wechat_api].no_such_field",
        1,
    );
    let ended = Envoy::builder(VERSION)
        .config(config.clone())
        .expect_refused()
        .await;
    assert!(!ended.status.success());
    assert!(ended.log.contains("no_such_field"), "{}", ended.log);
    let ended = Envoy::builder(VERSION).config(config).validate();
    assert!(
        !ended.status.success() && ended.log.contains("no_such_field"),
        "{}",
        ended.log
    );
    let ended = Envoy::builder(VERSION).config(proxy()).validate();
    assert!(ended.status.success(), "{}", ended.log);
}

#[tokio::test]
async fn a_missing_version_says_where_it_was_looked_for() {
    let error = Envoy::builder("0.0.1")
        .config(proxy())
        .try_start()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(".tools/envoy/0.0.1/envoy"),
        "{error}"
    );
}

#[test]
fn paths_find_set_and_remove() {
    let mut config = Config::parse(PROXY);
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let route = format!("{manager}.route_config.virtual_hosts[name=all].routes[0].route");
    assert_eq!(
        config.find(&format!("{route}.cluster")).unwrap().as_str(),
        Some("wechat_api")
    );
    config
        .set(&format!("{route}.timeout"), "3s")
        .set(&format!("{route}.cluster"), "other");
    assert_eq!(
        config.at(&route).get("timeout").unwrap().as_str(),
        Some("3s")
    );
    assert_eq!(
        config.at(&route).get("cluster").unwrap().as_str(),
        Some("other")
    );
    config.remove(&format!("{route}.timeout"));
    assert!(config.find(&format!("{route}.timeout")).is_none());
    config.push(
        &format!("{manager}.http_filters"),
        json!({"name": "envoy.filters.http.cors"}),
    );
    assert!(config
        .find(&format!(
            "{manager}.http_filters[name=envoy.filters.http.cors]"
        ))
        .is_some());
    assert!(config
        .find("static_resources.clusters[name=none]")
        .is_none());
}

#[test]
fn plugins_are_patched_whatever_their_documents_type() {
    let mut config = Config::parse(PLUGINS);
    let mut seen = Vec::new();
    config
        .wasm_file(Path::new("/new.wasm"))
        .host_env("WECHAT_SECRET")
        .each_plugin(|root, document| {
            seen.push((root.root_id.clone(), root.name.clone().unwrap()));
            document["default_app"] = json!("wx9");
        });
    assert_eq!(
        seen,
        [
            ("refresher".into(), "one".into()),
            ("injector".into(), "two".into())
        ]
    );
    for index in [0, 1] {
        let vm = format!("plugins[{index}].vm_config");
        let text = |path: String| config.find(&path).unwrap().as_str().unwrap().to_owned();
        assert_eq!(text(format!("{vm}.code.local.filename")), "/new.wasm");
        assert_eq!(
            text(format!("{vm}.environment_variables.host_env_keys[0]")),
            "WECHAT_SECRET"
        );
    }
    let document = |index| {
        config
            .find(&format!("plugins[{index}].configuration.value"))
            .unwrap()
    };
    assert_eq!(
        document(0).get("default_app").unwrap().as_str(),
        Some("wx9")
    );
    assert_eq!(
        document(0).get("apps").unwrap()[0]
            .get("appid")
            .unwrap()
            .as_str(),
        Some("wx1")
    );
    assert!(document(1)
        .as_str()
        .unwrap()
        .contains(r#""default_app":"wx9""#));
}

#[test]
fn a_struct_becomes_text_where_a_test_asks_for_it() {
    let mut config = Config::parse(PLUGINS);
    config.as_text("refresher").as_text("injector");
    let part = |part: &str| {
        let place = config.find(&format!("plugins[0].configuration.{part}"));
        place.and_then(|place| place.as_str()).unwrap()
    };
    assert!(part("@type").ends_with("google.protobuf.StringValue"));
    assert_eq!(part("value"), r#"{"apps":[{"appid":"wx1"}]}"#);
    let unchanged = config.find("plugins[1].configuration.value").unwrap();
    assert_eq!(unchanged.as_str(), Some(r#"{"apps":[]}"#));
}
