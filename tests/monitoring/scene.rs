//! Where the incident plays: three Envoys on shipped files, each with another part in it, a fake WeChat, a Redis, and a Prometheus that scrapes the Envoys
//! at their own metrics listeners, with the shipped configuration and rules in a hurry.
//!
//! | Envoy | configuration | part |
//! |---|---|---|
//! | `main` | `envoy.demo.redis.yaml`, the shipped .wasm | three apps: `shop` loses its IP, `mall` its budget, `cafe` is overwritten and rejected; loses Redis; its wall clock is the test's |
//! | `lease` | the same, with virtual machines that trap on command | `cafe` alone; its singleton dies and a worker takes over |
//! | `lost` | `envoy.demo.yaml`, also with those | its singleton dies and no injector has the secret; then it is taken away |

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{json, Value};
use support::client::Client;
use support::envoy::{workspace, Builder, Config, Envoy, WallClock};
use support::redis::Redis;
use support::wechat::{FakeWeChat, Settings};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::alerts::hurried;
use crate::prometheus::{free_address, Prometheus};

const VERSION: &str = "1.40.0";
const SECRET: &str = "5ec2e7a0b1c2d3e4f5061728394a5b6c";
const PASSWORD: &str = "the-password-of-the-demo";
const WECHAT: &str = "api.weixin.qq.com";
/// How often Prometheus scrapes and looks at the rules: a thirtieth of what is shipped, as every time in the rules.
const SCRAPE: &str = "500ms";
/// The apps: their names, and their appids.
pub(crate) const SHOP: &str = "wxshop0000000000";
pub(crate) const MALL: &str = "wxmall0000000000";
pub(crate) const CAFE: &str = "wxcafe0000000000";
/// Where a neighbour of `cafe` has its token.
pub(crate) const NEIGHBOURS_KEY: &str = "wechat:access_token:wxcafe0000000000";
/// In seconds; WeChat's day is that of a clock 8 hours east of Greenwich.
const DAY: i64 = 86_400;
const EAST: i64 = 8 * 3_600;
/// What a token lives; with the lead below it is renewed 12 to 10 s before its end.
pub(crate) const LIFE: Duration = Duration::from_secs(24);

pub(crate) struct Scene {
    pub(crate) redis: Option<Redis>,
    pub(crate) fake: Arc<FakeWeChat>,
    pub(crate) main: Envoy,
    pub(crate) lease: Envoy,
    pub(crate) lost: Option<Envoy>,
    pub(crate) prometheus: Prometheus,
    clock: Clock,
    client: Client,
    callers: Vec<JoinHandle<()>>,
    calling: Arc<AtomicBool>,
    _sockets: TempDir,
}

fn app(name: &str, appid: &str, token_api: &str) -> Value {
    json!({"appid": appid, "name": name, "secret": {"env": "WECHAT_SECRET"}, "token_api": token_api})
}

/// A shipped file on ports of its own, and the address of its metrics listener.
struct Stage {
    config: Config,
    metrics: SocketAddr,
}

impl Stage {
    fn new(file: &str, fake: &FakeWeChat, wasm: &Path) -> Stage {
        let mut config = Config::load(file);
        let (metrics, admin) = (free_address(), free_address());
        config.free_ports();
        for (place, address) in [
            ("static_resources.listeners[name=metrics].address", metrics),
            ("admin.address", admin),
        ] {
            let socket = json!({"address": address.ip().to_string(), "port_value": address.port()});
            config.set(place, json!({"socket_address": socket}));
        }
        for (cluster, address) in [
            ("admin", admin),
            ("wechat_api", fake.address()),
            ("wechat_token", fake.address()),
        ] {
            config.cluster_to(cluster, address, false);
        }
        config.wasm_file(wasm);
        Stage { config, metrics }
    }

    fn with_redis(mut self, redis: &Redis, socket: &Path) -> Stage {
        self.config.cluster_to("redis", redis.address(), false);
        for place in [
            "static_resources.listeners[name=wechat_redis].address.pipe.path",
            "static_resources.clusters[name=wechat_redis].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path",
        ] {
            self.config.set(place, socket.to_str().expect("UTF-8"));
        }
        self
    }

    /// These apps, and what is the same for all Envoys. One of them looks for tokens of neighbours, so it is the one that counts them.
    fn with_apps(mut self, apps: &Value, neighbours: bool) -> Stage {
        self.config.each_plugin(|_, document| {
            document["apps"] = apps.clone();
            document["refresh"] =
                json!({"lead": "16s", "jitter": "2s", "rejected_interval": "10s"});
            document["wait"] = json!({"timeout": "1s"});
            document["default_app"] = apps[0]["appid"].clone();
            if neighbours {
                document["redis"]["mirror"] = json!(["wechat:access_token:{appid}"]);
                document["redis"]["adopt"] = json!(true);
            }
        });
        self
    }

    fn builder(self) -> Builder {
        let builder = Envoy::builder(VERSION).config(self.config);
        let builder = builder.env("WECHAT_SECRET", SECRET);
        builder.env("REDIS_PASSWORD", PASSWORD)
    }
}

/// A wall clock that stands at WeChat's noon when the test begins: its midnight, which gives a new budget, comes when the test wants it.
struct Clock {
    clock: WallClock,
    ahead: i64,
}

impl Clock {
    #[allow(clippy::disallowed_methods)] // the machine's time, to get from it to a noon
    fn at_noon() -> Clock {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since.expect("a clock after 1970").as_secs() as i64;
        let ahead = DAY / 2 - (now + EAST) % DAY;
        Clock {
            clock: WallClock::ahead(ahead),
            ahead,
        }
    }
}

impl Scene {
    pub(crate) async fn start() -> Scene {
        let mut settings = Settings::default()
            .with_token_lifetime(LIFE)
            .with_overlap(LIFE / 2);
        for appid in [SHOP, MALL, CAFE] {
            settings = settings.with_app(appid, SECRET);
        }
        // Without Redis, and with a neighbour, several call at once.
        settings.parallel_token_calls = 8;
        let fake = Arc::new(FakeWeChat::start(settings).await);
        let redis = Redis::start(&redis_args().iter().map(String::as_str).collect::<Vec<_>>());
        let sockets = tempfile::tempdir().expect("a folder for sockets");
        let shipped = workspace().join("dist/wechat-token.wasm");
        let trapping = workspace().join("target/variants/wechat-token-trap.wasm");

        let mut apps = json!([
            app("cafe", CAFE, "classic"),
            app("shop", SHOP, "classic"),
            app("mall", MALL, "classic")
        ]);
        // The fourth call of the day is its last.
        apps[2]["refresh"] = json!({"daily_budget": 4});
        let main = Stage::new("envoy/envoy.demo.redis.yaml", &fake, &shipped)
            .with_redis(&redis, &sockets.path().join("main"))
            .with_apps(&apps, true);
        let lease = Stage::new("envoy/envoy.demo.redis.yaml", &fake, &trapping)
            .with_redis(&redis, &sockets.path().join("lease"))
            .with_apps(&json!([app("cafe", CAFE, "classic")]), false);
        let mut lost = Stage::new("envoy/envoy.demo.yaml", &fake, &trapping)
            .with_apps(&json!([app("cafe", CAFE, "stable")]), false);
        // Nobody can take the refresher's place there.
        lost.config.each_plugin(|root, document| {
            if root.root_id == "injector" {
                let app = document["apps"][0].as_object_mut().expect("an app");
                app.remove("secret");
            }
        });
        let clock = Clock::at_noon();
        let targets = targets(&[main.metrics, lease.metrics, lost.metrics]);
        let (main, lease, lost) = tokio::join!(
            clock.clock.of(main.builder()).start(),
            lease.builder().start(),
            lost.builder().start()
        );
        // When it begins all Envoys are there: none is down.
        let prometheus = Prometheus::start(&prometheus_files(&targets)).await;
        let mut scene = Scene {
            redis: Some(redis),
            fake,
            main,
            lease,
            lost: Some(lost),
            prometheus,
            clock,
            client: Client::new(),
            callers: Vec::new(),
            calling: Arc::new(AtomicBool::new(true)),
            _sockets: sockets,
        };
        scene.call_all_the_time();
        scene
    }

    /// Services that never stop: some callers at once for `cafe`, so that a rejected token meets several, and one for each other app.
    fn call_all_the_time(&mut self) {
        let echo = "/cgi-bin/echo";
        let main = |path: &str| self.main.url("wechat", path);
        let mut callers = vec![
            (main(echo), Some(SHOP)),
            (main(echo), Some(MALL)),
            (main("/sns/jscode2session?js_code=1"), None),
            (main(echo), Some("wxunknown")),
            (self.lease.url("wechat", echo), None),
        ];
        callers.extend((0..6).map(|_| (main(echo), Some(CAFE))));
        for (url, app) in callers {
            let (client, calling) = (self.client.clone(), Arc::clone(&self.calling));
            self.callers.push(tokio::spawn(async move {
                let mut pace = tokio::time::interval(Duration::from_millis(50));
                while calling.load(Ordering::Relaxed) {
                    pace.tick().await;
                    let mut headers = vec![("host", WECHAT)];
                    headers.extend(app.map(|app| ("x-wechat-appid", app)));
                    // Whatever the answer is: the metrics tell.
                    let _ = client.get_with(&url, &headers).await;
                }
            }));
        }
    }

    /// Has the refresher of an Envoy with virtual machines that trap die.
    pub(crate) async fn kill_refresher(&self, envoy: &Envoy) {
        let url = envoy.url("wechat", "/sns/jscode2session?js_code=1");
        let headers = [("host", WECHAT), ("x-wechat-token-trap", "refresher")];
        self.client
            .get_with(&url, &headers)
            .await
            .expect("an answer");
    }

    /// For `main` it is tomorrow.
    pub(crate) fn end_the_day(&self) {
        self.clock.clock.step(self.clock.ahead + DAY);
    }

    /// Prometheus asks all Envoys but the one that was lost.
    pub(crate) fn forget_lost(&self) {
        let kept = [&self.main, &self.lease].map(|envoy| envoy.address("metrics"));
        self.prometheus.write("targets.yaml", &targets(&kept));
    }

    /// The instance of the Envoy that is to be lost.
    pub(crate) fn lost_address(&self) -> String {
        let lost = self.lost.as_ref().expect("not lost yet");
        lost.address("metrics").to_string()
    }

    /// The plugin's part of the page that Prometheus reads.
    pub(crate) async fn page(&self) -> String {
        let url = self
            .main
            .url("metrics", "/stats/prometheus?filter=wechat_token_");
        self.client.get(&url).await.expect("an answer").text()
    }

    pub(crate) async fn end(self) {
        self.calling.store(false, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.expect("a caller");
        }
    }
}

/// The shipped files of Prometheus, in a hurry.
fn prometheus_files(targets: &str) -> [(&'static str, String); 3] {
    let read = |file: &str| {
        let path: PathBuf = workspace().join("envoy/monitoring").join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let config = read("prometheus.yaml").replace("_interval: 15s", &format!("_interval: {SCRAPE}"));
    assert_eq!(config.matches(SCRAPE).count(), 2);
    [
        ("prometheus.yaml", config),
        ("rules.yaml", hurried()),
        ("targets.yaml", targets.to_owned()),
    ]
}

fn targets(addresses: &[SocketAddr]) -> String {
    let targets: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    json!([{"targets": targets}]).to_string()
}

/// The user of the shipped `redis.acl`, with what docs/redis.md adds for a neighbour's keys; and a default user for the test itself.
fn redis_args() -> Vec<String> {
    let acl = std::fs::read_to_string(workspace().join("envoy/redis.acl")).expect("redis.acl");
    let user = acl
        .lines()
        .find(|line| line.starts_with("user wechat-token"));
    let user = user.expect("the plugin's user").trim_start_matches("user ");
    assert!(user.contains(PASSWORD), "{user}");
    let mut args = vec![
        "--requirepass".to_owned(),
        PASSWORD.to_owned(),
        "--user".to_owned(),
    ];
    args.extend(user.split(' ').map(str::to_owned));
    args.extend(["~wechat:access_token*", "+getrange", "+strlen"].map(str::to_owned));
    args
}
