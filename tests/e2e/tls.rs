//! The shipped `envoy/envoy.yaml`, the one for the real WeChat, against a TLS server with a private CA: with nothing changed
//! but addresses, ports, the path of the .wasm and the file of the trusted CA.
//!
//! The injector's place is part of that file, and neither certificates nor SNI can depend on the number of workers.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;
use serde_norway::Value;
use support::envoy::{workspace, Config};
use support::tls::{Authority, TlsServer};
use support::wechat::{FakeWeChat, Settings};

use crate::settings::{versions_and_placements, Placement, Setting};
use crate::world::{World, APPID, HOST, SECRET, SOON};

const FILE: &str = "envoy/envoy.yaml";
/// What may differ from the shipped file.
const CHANGED: [&str; 4] = [
    "address.socket_address.address",
    "address.socket_address.port_value",
    "code.local.filename",
    "trusted_ca.filename",
];

/// The shipped file for these two servers and this CA.
fn shipped(api: SocketAddr, tokens: SocketAddr, ca_file: &Path) -> Config {
    let mut config = Config::load(FILE);
    config.free_ports();
    config.wasm_file(&workspace().join("dist/wechat-token.wasm"));
    for (cluster, address) in [("wechat_api", api), ("wechat_token", tokens)] {
        let cluster = format!("static_resources.clusters[name={cluster}]");
        let endpoint = "load_assignment.endpoints[0].lb_endpoints[0].endpoint";
        let socket = json!({"address": address.ip(), "port_value": address.port()});
        let tls = "transport_socket.typed_config.common_tls_context.validation_context";
        config
            .set(
                &format!("{cluster}.{endpoint}.address.socket_address"),
                socket,
            )
            .set(&format!("{cluster}.{tls}.trusted_ca.filename"), ca_file);
    }
    let mut changed = Vec::new();
    let parsed = |config: &Config| serde_norway::from_str(&config.to_text()).unwrap();
    compare(
        "",
        &parsed(&Config::load(FILE)),
        &parsed(&config),
        &mut changed,
    );
    for place in &changed {
        assert!(CHANGED.iter().any(|end| place.ends_with(end)), "{place}");
    }
    config
}

/// Lists the paths of all values that are not the same.
pub(crate) fn compare(path: &str, left: &Value, right: &Value, changed: &mut Vec<String>) {
    match (left, right) {
        (Value::Mapping(left), Value::Mapping(right)) if left.keys().eq(right.keys()) => {
            for ((key, left), right) in left.iter().zip(right.values()) {
                let key = key.as_str().unwrap();
                compare(&format!("{path}.{key}"), left, right, changed);
            }
        }
        (Value::Sequence(left), Value::Sequence(right)) if left.len() == right.len() => {
            for (left, right) in left.iter().zip(right) {
                compare(path, left, right, changed);
            }
        }
        _ if left == right => {}
        _ => changed.push(path.to_owned()),
    }
}

fn versions() -> Vec<Setting> {
    let mut versions = versions_and_placements();
    versions.retain(|setting| setting.placement == Placement::Upstream);
    versions
}

/// Two servers before one WeChat, and an Envoy that trusts `trusted`.
async fn start(
    setting: Setting,
    trusted: &Authority,
    servers: [(&Authority, &str); 2],
) -> (World, [TlsServer; 2]) {
    let fake = FakeWeChat::start(Settings::default().with_app(APPID, SECRET)).await;
    let [api, tokens] = servers;
    let api = TlsServer::start(api.0, api.1, fake.address()).await;
    let tokens = TlsServer::start(tokens.0, tokens.1, fake.address()).await;
    let files = tempfile::tempdir().unwrap();
    let ca_file = files.path().join("ca.pem");
    std::fs::write(&ca_file, trusted.pem()).unwrap();
    let config = shipped(api.address, tokens.address, &ca_file);
    // Envoy reads the file once, at its start.
    let envoy = setting.builder(config).start().await;
    (World::new(setting, fake, envoy), [api, tokens])
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_wechats_name_a_call_arrives_with_its_token() {
    for setting in versions() {
        let ours = Authority::new();
        // A wildcard counts as the name that it covers.
        let servers = [(&ours, HOST), (&ours, "*.weixin.qq.com")];
        let (world, servers) = start(setting, &ours, servers).await;
        let exchange = world.call("/cgi-bin/echo?a=1", &[]).await;
        assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
        let target = format!("/cgi-bin/echo?a=1&access_token={}", world.token());
        assert_eq!(exchange.target(), target);
        assert_eq!(exchange.arrived().header("host"), Some(HOST));
        for server in &servers {
            let met = server.met();
            assert_eq!(met.names, [Some(HOST.to_owned())], "{setting:?}");
            assert_eq!(met.protocols, [Some("http/1.1".to_owned())], "{setting:?}");
        }
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_server_with_another_name_or_of_another_ca_nothing_is_sent() {
    for setting in versions() {
        let (ours, others) = (Authority::new(), Authority::new());
        let good = (&ours, HOST);
        for bad in [(&ours, "api.weixin.qq.com.evil.example"), (&others, HOST)] {
            tokio::join!(
                no_token_is_asked_for(setting, &ours, [good, bad]),
                no_call_is_made(setting, &ours, [bad, good])
            );
        }
    }
}

/// Whom a token would be asked of cannot be trusted: the caller waits in vain.
async fn no_token_is_asked_for(
    setting: Setting,
    ours: &Authority,
    servers: [(&Authority, &str); 2],
) {
    let (world, servers) = start(setting, ours, servers).await;
    let exchange = world.call("/cgi-bin/echo?a=1", &[]).await;
    exchange.assert_refused(503, "unavailable");
    let [api, tokens] = servers.map(|server| server.met());
    // Envoy connects before the plugin sees the call; nothing but the connection is made.
    assert!(api.protocols.len() <= 1, "{setting:?}: {api:?}");
    assert!(tokens.names.contains(&Some(HOST.to_owned())), "{tokens:?}");
    assert!(tokens.protocols.is_empty(), "{setting:?}: {tokens:?}");
    let report = world.fake.report();
    assert_eq!(report.requests, 0, "{setting:?}");
    world.finish().await;
}

/// There is a token, but whom it would be sent to cannot be trusted.
async fn no_call_is_made(setting: Setting, ours: &Authority, servers: [(&Authority, &str); 2]) {
    let (world, servers) = start(setting, ours, servers).await;
    // Envoy connects first, so without this the call could fail before there is a token.
    world.envoy.wait_for_log("event=token_renewed", SOON).await;
    let exchange = world.call("/cgi-bin/echo?a=1", &[]).await;
    let answer = &exchange.answer;
    assert_eq!(answer.status, 503, "{setting:?}: {}", answer.text());
    assert_eq!(answer.header("x-wechat-token-error"), None, "Envoy's own");
    assert!(exchange.call.is_none(), "{setting:?}: {exchange:?}");
    let [api, tokens] = servers.map(|server| server.met());
    assert!(api.names.contains(&Some(HOST.to_owned())), "{api:?}");
    assert!(api.protocols.is_empty(), "{setting:?}: {api:?}");
    assert_eq!(tokens.protocols.len(), 1, "{setting:?}: {tokens:?}");
    let report = world.fake.report();
    assert_eq!((report.requests, report.token_calls), (1, 1), "{setting:?}");
    world.finish().await;
}
