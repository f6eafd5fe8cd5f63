//! Services beside the mesh that keep the token in keys of Redis; `tests/interop` has them with their real libraries.

use std::time::Duration;

use serde_json::json;
use support::wait::{until, within};
use support::wechat::TokenApi;

use crate::mesh::{mesh, LONG};
use crate::settings::in_settings_at_once;
use crate::world::APPID;

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_reads_our_token_and_is_followed_when_it_makes_its_own() {
    // It takes as long as the keys are read seldom: 30 to 60 s, in which nothing else happens.
    in_settings_at_once(6, |setting| async move {
        // A neighbour's token beside one of ours that is younger than a sixteenth of its life would be a matter of doubt.
        let mut plan = mesh(setting, 2).with_tokens(320, 160);
        let plain = format!("wechat:access_token:{APPID}");
        plan.document["redis"]["mirror"] =
            json!(["wechat:access_token:{appid}", {"key": "json", "format": "json"}]);
        plan.document["redis"]["adopt"] = json!(true);
        let mesh = plan.start().await;
        let ours = mesh.agree(Duration::from_secs(20)).await;
        let has = |key: &str, value: &str| {
            mesh.redis.run::<Option<String>>(&["GET", key]).as_deref() == Some(value)
        };
        until(LONG, "the neighbours have it", || {
            has(&plain, &ours) && has("json", &format!("\"{ours}\""))
        })
        .await;
        let theirs = mesh.fake.issue_elsewhere(APPID, TokenApi::Classic);
        mesh.redis
            .run::<()>(&["SET", &plain, &theirs, "PX", "320000"]);
        let stored = within(2 * LONG, || async {
            mesh.stored().filter(|stored| *stored == theirs)
        });
        assert_eq!(stored.await.as_ref(), Some(&theirs));
        assert_eq!(mesh.agree(2 * LONG).await, theirs);
        until(LONG, "the other key has it", || {
            has("json", &format!("\"{theirs}\""))
        })
        .await;
        assert_eq!(mesh.made().len(), 1);
        assert_eq!(mesh.fake.report().errcode(40001), 0);
        let said = |envoy: &support::envoy::Envoy| envoy.logs().contains("event=neighbour_seen");
        assert!(mesh.envoys.iter().any(said));
        mesh.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_written_is_told_and_nothing_else_suffers() {
    in_settings_at_once(2, |setting| async move {
        let mut plan = mesh(setting, 1);
        plan.document["redis"]["mirror"] = json!(["taken"]);
        let redis = crate::mesh::Mesh::redis();
        redis.run::<()>(&["HSET", "taken", "field", "value"]);
        let mesh = plan.start_with(redis).await;
        mesh.agree(Duration::from_secs(20)).await;
        let line = "event=mirror_failed app=wx0123456789abcdef redis_error=WRONGTYPE";
        mesh.envoys[0].wait_for_log(line, LONG).await;
        assert!(mesh.stored().is_some());
        let kept: String = mesh.redis.run(&["HGET", "taken", "field"]);
        assert_eq!(kept, "value");
        mesh.finish().await;
    })
    .await;
}
