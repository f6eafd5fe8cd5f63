//! Several Envoys that share one Redis, on the shipped files.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{json, Value};
use support::client::{Answer, Client};
use support::envoy::{Config, Envoy};
use support::redis::Redis;
use support::wait::until;
use support::wechat::{FakeWeChat, Outcome, Settings, TokenCall};
use tempfile::TempDir;

use crate::settings::Setting;
use crate::world::{end_hiding, plan, APPID, HOST};

/// Redis's password, which must be nowhere.
const PASSWORD: &str = "the-password-of-redis";
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
        let fake = FakeWeChat::start(self.settings.clone()).await;
        let sockets = tempfile::tempdir().expect("a folder for sockets");
        let mut envoys = Vec::new();
        for number in 0..self.envoys {
            let socket = sockets.path().join(number.to_string());
            let socket = socket.to_str().expect("UTF-8");
            let builder = self.builder(&fake, redis.address(), socket);
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
        let socket = socket.to_str().expect("UTF-8");
        let builder = self.builder(&other.fake, other.redis.address(), socket);
        builder.start().await
    }

    fn builder(
        &self,
        fake: &FakeWeChat,
        redis: SocketAddr,
        socket: &str,
    ) -> support::envoy::Builder {
        let mut fragment = Config::load("envoy/redis.yaml");
        let listener = "static_resources.listeners[name=wechat_redis].address.pipe.path";
        *fragment.at(listener) = socket.into();
        let endpoint = "static_resources.clusters[name=wechat_redis].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path";
        *fragment.at(endpoint) = socket.into();
        fragment.cluster_to("redis", redis, true);
        let mut plan = plan(self.setting);
        plan.document = self.document.clone();
        plan.config.add(&fragment);
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

    /// Waits until all Envoys send the same token, and returns it.
    pub(crate) async fn agree(&self, within: Duration) -> String {
        let token = support::wait::within(within, || async {
            let tokens = self.tokens().await;
            let first = tokens.first()?.clone();
            tokens.iter().all(|token| *token == first).then_some(first)
        });
        token.await.expect("the Envoys agree on a token")
    }

    /// The token that Redis has.
    pub(crate) fn stored(&self) -> Option<String> {
        let record = format!("wechat-token:{{{APPID}}}:token");
        self.redis.run(&["HGET", &record, "token"])
    }

    /// Token calls that made a token.
    pub(crate) fn made(&self) -> Vec<TokenCall> {
        let mut calls = self.fake.report().token_log;
        calls.retain(|call| call.outcome == Outcome::Made);
        calls
    }

    /// Waits until this many tokens were made.
    pub(crate) async fn wait_until_made(&self, count: usize) {
        until(LONG, "token calls", || self.made().len() >= count).await;
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
