//! The whole stage: a plain Envoy in front, the plugin's Envoy with a Redis, a plain Envoy behind it as an egress gateway,
//! the fake WeChat; and everything that any of them tells.

use serde_json::{json, Value};
use support::envoy::{Config, Envoy};
use support::redis::Redis;
use support::wait::until_some;
use support::wechat::FakeWeChat;
use tempfile::TempDir;

use super::sinks::{Hop, Sinks, Tracer, CAREFUL, RAW, SOON_WRITTEN, TALKATIVE};
use super::words::Words;
use crate::mesh::{Mesh, PASSWORD};
use crate::settings::{Placement, Setting};
use crate::world::{plan, Exchange, Plan, World, HOST, MANAGER, MARK, SOON};

/// What the admin API tells. `/tap` is left out: it shows whole requests, that is what it is for.
const PAGES: [&str; 22] = [
    "/certs",
    "/clusters",
    "/clusters?format=json",
    "/config_dump",
    "/config_dump?include_eds",
    "/contention",
    "/help",
    "/hot_restart_version",
    "/init_dump",
    "/listeners",
    "/listeners?format=json",
    "/memory",
    "/ready",
    "/runtime",
    "/server_info",
    "/stats",
    "/stats?format=html",
    "/stats?format=json",
    "/stats?histogram_buckets=detailed",
    "/stats/prometheus",
    "/stats/recentlookups",
    "/",
];

/// The listener that logs paths as they are.
pub(crate) const OPEN: &str = "wechat_raw";
/// As the shipped one, with Zipkin.
const SECOND: &str = "wechat_zipkin";

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) redis: Redis,
    front: Hop,
    pub(crate) egress: Hop,
    /// Of the plugin's Envoy, but for the one that logs paths as they are.
    sinks: [Sinks; 2],
    open: Sinks,
    _socket: TempDir,
}

/// How a call goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Straight to the plugin's Envoy, which has OpenTelemetry.
    Straight,
    /// To its listener with Zipkin.
    Zipkin,
    /// Through the plain Envoy, which sends it to the latter.
    Front,
    /// To the listener that logs paths as they are.
    Open,
}

pub(crate) fn stage_plan(setting: Setting) -> Plan {
    let mut plan = plan(setting);
    add_rewrites(&mut plan);
    plan
}

/// Routes that rewrite what begins with `/prefix/` and `/pattern/`. In downstream placement the router must not write
/// the header that the plugin has written: see `docs/operations.md`.
fn add_rewrites(plan: &mut Plan) {
    let routes = format!("{MANAGER}.route_config.virtual_hosts[name=wechat].routes");
    let shipped = plan.config.find(&format!("{routes}[0]")).cloned();
    let route = |prefix: &str, key: &str, rewrite: Value| {
        let mut route = shipped.clone().expect("the shipped route");
        route["match"]["prefix"] = prefix.into();
        route["route"][key] = serde_norway::to_value(rewrite).expect("a literal");
        route
    };
    let pattern = json!({"pattern": {"regex": "^/pattern/(.*)$"}, "substitution": "/\\1"});
    let added = [
        route("/prefix/", "prefix_rewrite", json!("/")),
        route("/pattern/", "regex_rewrite", pattern),
    ];
    let list = plan.config.at(&routes).as_sequence_mut().expect("routes");
    list.splice(0..0, added);
    if plan.setting.placement == Placement::Downstream {
        let router = format!("{MANAGER}.http_filters[name=envoy.filters.http.router].typed_config");
        let key = format!("{router}.suppress_envoy_headers");
        plan.config.set(&key, true);
        // There the plugin sees the host that the caller sent.
        plan.document["weixin"] = json!({"hosts": [HOST, "localhost"]});
    }
}

fn copy_listener(config: &mut Config, name: &str) {
    let shipped = config.find("static_resources.listeners[name=wechat]");
    let mut copy = shipped.cloned().expect("the shipped listener");
    copy["name"] = name.into();
    config.push("static_resources.listeners", copy);
}

impl Stage {
    /// Starts all with this plan, whose plugin speaks to a Redis of its own. `more` are secrets by environment variables.
    pub(crate) async fn start(mut plan: Plan, more: &[(&str, &str)]) -> Self {
        let setting = plan.setting;
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        let redis = Mesh::redis();
        let socket = tempfile::tempdir().expect("a folder for a socket");
        let fragment = Config::redis_at(redis.address());
        plan.config
            .add_redis(fragment, &socket.path().join("redis"))
            .let_env("REDIS_PASSWORD");
        plan.document["redis"] = json!({
            "password": {"env": "REDIS_PASSWORD"},
            "mirror": ["wechat:access_token:{appid}", {"key": "json:{appid}", "format": "json"}],
            "adopt": true,
        });
        for (name, _) in more {
            plan.config.host_env(name);
        }
        let egress = Hop::start(setting, "egress", fake.address(), Tracer::OpenTelemetry).await;
        plan.api = Some(egress.address());
        copy_listener(&mut plan.config, SECOND);
        copy_listener(&mut plan.config, OPEN);
        let config = &mut plan.config;
        let sinks = [
            Sinks::of(config, "wechat", CAREFUL, Tracer::OpenTelemetry).await,
            Sinks::of(config, SECOND, CAREFUL, Tracer::Zipkin).await,
        ];
        let open = Sinks::of(config, OPEN, RAW, Tracer::OpenTelemetry).await;
        let mut builder = plan.builder(&fake).env("REDIS_PASSWORD", PASSWORD);
        for (name, value) in more {
            builder = builder.env(name, value);
        }
        for arg in SOON_WRITTEN.into_iter().chain(TALKATIVE) {
            builder = builder.arg(arg);
        }
        let envoy = builder.start().await;
        let front = Hop::start(setting, "front", envoy.address(SECOND), Tracer::Zipkin).await;
        Stage {
            world: World::new(setting, fake, envoy),
            redis,
            front,
            egress,
            sinks,
            open,
            _socket: socket,
        }
    }

    /// A call that every sink on its way tells of by this word in its path.
    pub(crate) async fn call(
        &self,
        way: Way,
        path: &str,
        word: &str,
        headers: &[(&str, &str)],
    ) -> Exchange {
        let world = &self.world;
        let mark = world.next_mark();
        let base = match way {
            Way::Straight => world.envoy.address("wechat"),
            Way::Zipkin => world.envoy.address(SECOND),
            Way::Open => world.envoy.address(OPEN),
            Way::Front => self.front.address(),
        };
        let joint = if path.contains('?') { '&' } else { '?' };
        let url = format!("http://{base}{path}{joint}word={word}");
        let mut all = vec![(MARK, mark.as_str()), ("host", HOST)];
        all.extend(headers);
        let answer = world.client.get_with(&url, &all).await;
        let exchange = Exchange {
            answer: answer.unwrap_or_else(|error| panic!("{url}: {error}")),
            call: world.marked(&mark),
        };
        let was_sent = exchange.call.is_some();
        let plugin = match way {
            Way::Straight => &self.sinks[0],
            Way::Zipkin | Way::Front => &self.sinks[1],
            Way::Open => &self.open,
        };
        // A filter of the cluster answers behind the router, which takes that for an attempt.
        plugin.wait_for(word, was_sent).await;
        if way == Way::Front {
            self.front.sinks.wait_for(word, true).await;
        }
        if was_sent {
            self.egress.sinks.wait_for(word, true).await;
        }
        exchange
    }

    /// Ends the test: of these words, and of each token and secret that ever was, nothing is in anything that was told;
    /// and all of it is in what logs paths as they are.
    pub(crate) async fn finish(self, words: &[&str]) {
        let world = self.world;
        world.fake.report().assert_clean();
        let secrets = world.fake.leaks();
        let given = words.iter().map(ToString::to_string);
        let words = Words::of(
            secrets
                .into_iter()
                .chain(given)
                .chain([PASSWORD.to_owned()]),
        );
        let mut told = Vec::new();
        let hops = [("front", self.front), ("egress", self.egress)];
        let mut envoys = vec![("the plugin's Envoy", world.envoy)];
        for (name, hop) in hops {
            told.extend(hop.sinks.told());
            envoys.push((name, hop.envoy));
        }
        for (name, envoy) in envoys {
            told.extend(pages(name, &envoy).await);
            let ended = tokio::task::block_in_place(|| envoy.terminate());
            assert!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
            told.push((format!("log of {name}"), ended.log));
        }
        for sinks in &self.sinks {
            told.extend(sinks.told());
        }
        for (place, text) in &told {
            assert!(!text.is_empty(), "{place} is empty");
            let found = words.first_in(text);
            assert!(
                found.is_none(),
                "{place} holds {}",
                found.unwrap_or_default()
            );
        }
        let tokens = Words::of(world.fake.tokens());
        for (place, text) in self.open.told() {
            assert!(
                tokens.first_in(&text).is_some(),
                "{place} holds no token: {text}"
            );
        }
    }
}

async fn pages(name: &str, envoy: &Envoy) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for page in PAGES {
        let text = envoy.admin_get(page).await.text();
        told.push((format!("{page} of {name}"), text));
    }
    told
}

impl Stage {
    /// Waits until this stands in the log of the plugin's Envoy, and returns the line.
    pub(crate) async fn line(&self, text: &str) -> String {
        until_some(SOON, &format!("{text:?} in the log"), || async {
            let log = self.world.envoy.logs();
            let line = log.lines().find(|line| line.contains(text));
            line.map(str::to_owned)
        })
        .await
    }
}
