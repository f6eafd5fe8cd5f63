//! Several Envoys that share one Redis, on the shipped files.

use std::path::Path;
use std::time::Duration;

use serde_json::{json, Value};
use support::client::{Answer, Client};
use support::envoy::{Config, Envoy};
use support::passage::Passage;
use support::redis::Redis;
use support::wait::{self, until, within_at};
use support::wechat::{FakeWeChat, Outcome, Settings, TokenApi, TokenCall};
use tempfile::TempDir;

use crate::settings::Setting;
use crate::world::{end_hiding, plan, APPID, HOST};

/// Redis's password, which must be nowhere.
pub(crate) const PASSWORD: &str = "the-password-of-redis";
/// The key of the only app's record.
pub(crate) const RECORD: &str = "wechat-token:{wx0123456789abcdef}:token";
/// For what takes seconds by itself.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What a mesh is made of, until it is started.
pub(crate) struct MeshPlan {
    pub(crate) setting: Setting,
    pub(crate) settings: Settings,
    pub(crate) document: Value,
    pub(crate) envoys: usize,
}

pub(crate) struct Mesh {
    pub(crate) redis: Redis,
    pub(crate) fake: FakeWeChat,
    pub(crate) envoys: Vec<Envoy>,
    client: Client,
    /// Holds the sockets of the Redis listeners.
    sockets: TempDir,
}

/// A mesh on the classic endpoint, where two refreshers that do not agree kill each other's tokens.
pub(crate) fn mesh(setting: Setting, envoys: usize) -> MeshPlan {
    let mut plan = plan(setting);
    plan.document["apps"][0]["token_api"] = json!("classic");
    plan.document["redis"] = json!({"password": {"env": "REDIS_PASSWORD"}});
    MeshPlan {
        setting,
        settings: plan.settings,
        document: plan.document,
        envoys,
    }
}

/// Two Envoys whose tokens are renewed every few seconds, so that they speak to Redis as often. Without it each makes calls of
/// its own to the stable endpoint, and both may do so at once.
pub(crate) fn busy(setting: Setting) -> MeshPlan {
    let mut plan = mesh(setting, 2).with_tokens(8, 6);
    plan.settings.parallel_token_calls = 2;
    plan.document["refresh"] = json!({"lead": "4s", "jitter": "1s"});
    plan
}

impl MeshPlan {
    /// Tokens that live this long, the older of two for `overlap` beside the newer.
    pub(crate) fn with_tokens(mut self, lifetime: u64, overlap: u64) -> MeshPlan {
        self.settings = self
            .settings
            .with_token_lifetime(Duration::from_secs(lifetime))
            .with_overlap(Duration::from_secs(overlap));
        self
    }

    pub(crate) async fn start(self) -> Mesh {
        self.start_with(Mesh::redis()).await
    }

    /// With this Redis, which may be down or frozen.
    pub(crate) async fn start_with(self, redis: Redis) -> Mesh {
        let fragments = vec![Config::redis_at(redis.address()); self.envoys];
        self.start_on(redis, fragments).await
    }

    /// One Envoy for each of these ways to this Redis.
    pub(crate) async fn start_through(self, redis: Redis, ways: &[&Passage]) -> Mesh {
        let fragments = ways.iter().map(|way| Config::redis_at(way.address()));
        self.start_on(redis, fragments.collect()).await
    }

    /// One Envoy for each of these fragments of its configuration, that lead to this Redis.
    pub(crate) async fn start_on(self, redis: Redis, fragments: Vec<Config>) -> Mesh {
        let fake = FakeWeChat::start(self.settings.clone()).await;
        let sockets = tempfile::tempdir().expect("a folder for sockets");
        let mut envoys = Vec::new();
        for (number, fragment) in fragments.into_iter().enumerate() {
            let socket = sockets.path().join(number.to_string());
            let builder = self.builder(&fake, fragment, &socket);
            envoys.push(builder.start().await);
        }
        Mesh {
            redis,
            fake,
            envoys,
            client: Client::new(),
            sockets,
        }
    }

    /// One more Envoy in another mesh's Redis and WeChat.
    pub(crate) async fn join(self, other: &Mesh) -> Envoy {
        let socket = other.sockets.path().join("joined");
        let fragment = Config::redis_at(other.redis.address());
        let builder = self.builder(&other.fake, fragment, &socket);
        builder.start().await
    }

    fn builder(
        &self,
        fake: &FakeWeChat,
        fragment: Config,
        socket: &Path,
    ) -> support::envoy::Builder {
        let mut plan = plan(self.setting);
        plan.document = self.document.clone();
        plan.config.add_redis(fragment, socket);
        plan.config.let_env("REDIS_PASSWORD");
        plan.builder(fake).env("REDIS_PASSWORD", PASSWORD)
    }
}

impl Mesh {
    /// A Redis that a mesh can log in to.
    pub(crate) fn redis() -> Redis {
        Redis::start(&["--requirepass", PASSWORD])
    }

    /// A call through one of the Envoys.
    pub(crate) async fn call(&self, envoy: usize) -> Answer {
        self.call_by(&self.envoys[envoy]).await
    }

    async fn call_by(&self, envoy: &Envoy) -> Answer {
        let url = envoy.url("wechat", "/cgi-bin/echo");
        let headers = [("host", HOST), ("x-expect-appid", APPID)];
        self.client.get_with(&url, &headers).await.unwrap()
    }

    /// A good call through each; the tokens that they carried.
    pub(crate) async fn tokens(&self) -> Vec<String> {
        let mut tokens = Vec::new();
        for envoy in &self.envoys {
            tokens.push(self.through(envoy).await);
        }
        tokens
    }

    /// A good call through an Envoy; the token that it carried.
    pub(crate) async fn through(&self, envoy: &Envoy) -> String {
        let answer = self.call_by(envoy).await;
        assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
        let calls = self.fake.raw_calls(32);
        let mut targets = calls.iter().rev().map(|call| &call.target);
        // A token call may have come in between.
        let target = targets.find(|target| target.starts_with("/cgi-bin/echo"));
        let target = target.expect("a business call");
        let (_, token) = target.split_once("access_token=").expect("a token");
        token.split('&').next().unwrap_or_default().to_owned()
    }

    /// Calls through all again and again until this holds. Every call is good: nobody notices what happens meanwhile.
    pub(crate) async fn serve_until(&self, what: &str, is_so: impl Fn(&Mesh) -> bool) {
        let served = within_at(Duration::from_millis(50), LONG, || async {
            self.tokens().await;
            is_so(self).then_some(())
        });
        served
            .await
            .unwrap_or_else(|| panic!("{what}: not within {LONG:?}"));
    }

    /// Redis, or the way to it, is out of order from `begin` to `end`: each Envoy tells it by this line, no caller notices,
    /// and afterwards all agree again, which takes one poll.
    pub(crate) async fn endure(&self, line: &str, begin: impl FnOnce(), end: impl FnOnce()) {
        let before = self.envoys.iter().map(|envoy| told(envoy, line)).collect();
        begin();
        self.endure_since(before, line, end).await;
    }

    /// As [`Self::endure`], where it has begun already.
    pub(crate) async fn endure_begun(&self, line: &str, end: impl FnOnce()) {
        let before = vec![0; self.envoys.len()];
        self.endure_since(before, line, end).await;
    }

    async fn endure_since(&self, before: Vec<usize>, line: &str, end: impl FnOnce()) {
        self.serve_until(line, |mesh| {
            let mut envoys = mesh.envoys.iter().zip(&before);
            envoys.all(|(envoy, before)| told(envoy, line) > *before)
        })
        .await;
        end();
        self.recover().await;
    }

    /// Every Envoy finds Redis again, and all agree on a token that is in it; no caller notices.
    pub(crate) async fn recover(&self) {
        let is_back = |envoy: &Envoy| {
            let log = envoy.logs();
            // Where it never failed, both are none.
            log.rfind("event=redis_back") >= log.rfind("event=redis_failed")
        };
        self.serve_until("event=redis_back", |mesh| mesh.envoys.iter().all(is_back))
            .await;
        self.agree_with_redis(LONG).await;
    }

    /// Waits until all Envoys send the same token, and returns it.
    pub(crate) async fn agree(&self, within: Duration) -> String {
        let token = wait::within(within, || async {
            let tokens = self.tokens().await;
            let first = tokens.first()?.clone();
            tokens.iter().all(|token| *token == first).then_some(first)
        });
        token.await.expect("the Envoys agree on a token")
    }

    /// Waits until all Envoys send the token that Redis has. To agree alone is not enough when WeChat has just made one: a
    /// moment ago all had the one before.
    pub(crate) async fn agree_with_redis(&self, within: Duration) {
        let same = wait::within(within, || async {
            let tokens = self.tokens().await;
            let stored = self.stored()?;
            tokens.iter().all(|token| *token == stored).then_some(())
        });
        same.await.expect("the Envoys agree with Redis on a token");
    }

    /// The token that Redis has.
    pub(crate) fn stored(&self) -> Option<String> {
        self.redis.run(&["HGET", RECORD, "token"])
    }

    /// Its version; 0 without one.
    pub(crate) fn version(&self) -> u64 {
        let version: Option<u64> = self.redis.run(&["HGET", RECORD, "version"]);
        version.unwrap_or_default()
    }

    /// Whether Redis has the newest token that WeChat made.
    pub(crate) fn has_newest(&self) -> bool {
        self.stored() == self.fake.tokens().pop()
    }

    /// Token calls that made a token.
    pub(crate) fn made(&self) -> Vec<TokenCall> {
        let mut calls = self.fake.report().token_log;
        calls.retain(|call| call.outcome == Outcome::Made);
        calls
    }

    /// How many of them were calls of this endpoint.
    pub(crate) fn made_by(&self, api: TokenApi) -> usize {
        self.made().iter().filter(|call| call.api == api).count()
    }

    /// Waits until this many tokens were made.
    pub(crate) async fn wait_until_made(&self, count: usize) {
        until(LONG, "token calls", || self.made().len() >= count).await;
    }

    /// As [`Self::finish`]; and no business call was answered with an errcode, not even one that was sent again.
    pub(crate) async fn finish_unnoticed(self) {
        let errcodes = self.fake.report().business_errcodes;
        assert!(errcodes.is_empty(), "{errcodes:?}");
        self.finish().await;
    }

    /// Ends all Envoys; nothing secret was logged, and WeChat's rules were kept.
    pub(crate) async fn finish(self) {
        self.fake.report().assert_clean();
        let mut leaks = self.fake.leaks();
        leaks.push(PASSWORD.to_owned());
        for envoy in self.envoys {
            end_hiding(envoy, &leaks).await;
        }
    }
}

/// How often a line stands in the log.
fn told(envoy: &Envoy, line: &str) -> usize {
    envoy.logs().matches(line).count()
}
