//! A Redis that refuses: what its code is, the log says in words, and no caller notices.

use std::time::Duration;

use serde_json::json;
use support::redis::Redis;
use support::wait::until;

use crate::mesh::{busy, LONG, PASSWORD, RECORD};
use crate::settings::in_settings_at_once;
use crate::world::APPID;

fn refused(code: &str) -> String {
    format!("event=redis_failed app={APPID} redis_error={code} meaning=")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_refuses_is_told_by_its_code_and_no_caller_notices() {
    // Nearly all of it is waiting for tokens to age.
    in_settings_at_once(4, |setting| async move {
        let mut plan = busy(setting);
        plan.document["redis"] = json!({});
        let mesh = plan
            .start_with(Redis::start(&["--requirepass", PASSWORD]))
            .await;
        let run = |words: &[&str]| mesh.redis.run::<()>(words);
        let no_password_needed = || run(&["ACL", "SETUSER", "default", "nopass"]);
        mesh.endure_begun(&refused("NOAUTH"), no_password_needed)
            .await;
        let taken = || {
            run(&["DEL", RECORD]);
            run(&["SET", RECORD, "something else"]);
        };
        mesh.endure(&refused("WRONGTYPE"), taken, || run(&["DEL", RECORD]))
            .await;
        let memory = |bytes| run(&["CONFIG", "SET", "maxmemory", bytes]);
        mesh.endure(&refused("OOM"), || memory("1"), || memory("0"))
            .await;
        let replica = || run(&["REPLICAOF", "127.0.0.1", "1"]);
        let master = || run(&["REPLICAOF", "NO", "ONE"]);
        mesh.endure(&refused("READONLY"), replica, master).await;
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_redis_does_not_take_is_told_by_its_code_and_no_caller_notices() {
    in_settings_at_once(4, |setting| async move {
        let mut plan = busy(setting);
        plan.document["redis"]["username"] = json!({"value": "wechat-token"});
        let mesh = plan.start().await;
        let run = |words: &[&str]| mesh.redis.run::<()>(words);
        // There is none of this name, until the line of the documentation makes one.
        let document = include_str!("../../docs/redis.md");
        let line = document
            .lines()
            .find(|line| line.trim_start().starts_with("ACL SETUSER "))
            .unwrap()
            .replace("PASSWORD", PASSWORD);
        let made = || run(&line.split_whitespace().collect::<Vec<_>>());
        mesh.endure_begun(&refused("WRONGPASS"), made).await;
        let user = |rule: &str| run(&["ACL", "SETUSER", "wechat-token", rule]);
        mesh.endure(&refused("NOPERM"), || user("-eval"), || user("+eval"))
            .await;
        let others = || {
            user("resetpass");
            user(">another-password");
        };
        let ours = || user(&format!(">{PASSWORD}"));
        mesh.endure(&refused("WRONGPASS"), others, ours).await;
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_without_our_keys_is_told_and_no_caller_notices() {
    in_settings_at_once(4, |setting| async move {
        let args = ["--cluster-enabled", "yes", "--requirepass", PASSWORD];
        let [redis, other] = [Redis::start(&args), Redis::start(&args)];
        let slot: u16 = redis.run(&["CLUSTER", "KEYSLOT", RECORD]);
        let slot = slot.to_string();
        other.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        let [port, bus] = [other.address().port(), other.bus_port()].map(|port| port.to_string());
        redis.run::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        until(LONG, "the keys are elsewhere", || {
            let error = redis.try_run::<()>(&["GET", RECORD]).unwrap_err();
            error.code() == Some("MOVED")
        })
        .await;
        let mesh = busy(setting).start_with(redis).await;
        let id: String = mesh.redis.run(&["CLUSTER", "MYID"]);
        let moved_here = || {
            for node in [&other, &mesh.redis] {
                node.run::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
            }
        };
        mesh.endure_begun(&refused("MOVED"), moved_here).await;
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_loads_its_data_is_told_and_no_caller_notices() {
    in_settings_at_once(4, |setting| async move {
        // Loads a key in 20 ms, and answers meanwhile.
        let redis = Redis::start(&[
            "--requirepass",
            PASSWORD,
            "--key-load-delay",
            "20000",
            "--loading-process-events-interval-bytes",
            "1024",
        ]);
        let fill = "for n = 1, 3000 do redis.call('SET', 'n' .. n, string.rep('x', 2000)) end";
        redis.run::<()>(&["EVAL", fill, "0"]);
        let mut mesh = busy(setting).start_with(redis).await;
        mesh.agree(Duration::from_secs(20)).await;
        mesh.redis.run::<()>(&["SAVE"]);
        mesh.redis.kill();
        mesh.redis.restart();
        let run = |words: &[&str]| mesh.redis.run::<()>(words);
        let faster = || run(&["CONFIG", "SET", "key-load-delay", "0"]);
        mesh.endure_begun(&refused("LOADING"), faster).await;
        mesh.finish_unnoticed().await;
    })
    .await;
}
