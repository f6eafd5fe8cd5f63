//! Redis in trouble: what callers notice of it, and how the Envoys agree again.

use std::time::Duration;

use serde_json::json;
use support::passage::{Mode, Passage};
use support::wait::until;
use support::wechat::TokenApi;

use crate::mesh::{busy, mesh, Mesh, LONG};
use crate::settings::in_settings_at_once;

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_down_at_the_start_the_stable_endpoint_serves_and_later_all_agree() {
    in_settings_at_once(2, |setting| async move {
        let mut redis = Mesh::redis();
        redis.kill();
        let mut plan = mesh(setting, 2);
        plan.settings.parallel_token_calls = 2;
        let mut mesh = plan.start_with(redis).await;
        mesh.agree(Duration::from_secs(20)).await;
        let apis = || mesh.made().iter().map(|call| call.api).collect::<Vec<_>>();
        assert_eq!(apis(), [TokenApi::Stable]);
        for envoy in &mesh.envoys {
            envoy.wait_for_log("event=redis_failed", LONG).await;
        }
        mesh.redis.restart();
        let stored = support::wait::within(LONG, || async { mesh.stored() }).await;
        let token = mesh.agree(LONG).await;
        assert_eq!(stored, Some(token));
        for envoy in &mesh.envoys {
            envoy.wait_for_log("event=redis_back", LONG).await;
        }
        mesh.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_and_without_a_detour_callers_are_told_so() {
    in_settings_at_once(2, |setting| async move {
        let mut redis = Mesh::redis();
        redis.kill();
        let mut plan = mesh(setting, 1);
        plan.document["redis"]["when_down"] = json!("hold");
        plan.document["wait"] = json!({"timeout": "1s"});
        let mut mesh = plan.start_with(redis).await;
        let answer = mesh.call(0).await;
        assert_eq!(
            (answer.status, answer.errcode()),
            (503, Some(-1)),
            "{}",
            answer.text()
        );
        assert_eq!(mesh.made().len(), 0);
        mesh.redis.restart();
        support::wait::until_some(LONG, "a good call", || async {
            (mesh.call(0).await.errcode() == Some(0)).then_some(())
        })
        .await;
        assert_eq!(mesh.made().len(), 1);
        mesh.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_flushed_redis_has_lost_is_published_again_without_a_call() {
    // It takes as long as the store is read seldom: 30 to 60 s, in which nothing else happens.
    in_settings_at_once(6, |setting| async move {
        let mesh = mesh(setting, 2).start().await;
        let token = mesh.agree(Duration::from_secs(20)).await;
        mesh.redis.run::<()>(&["FLUSHALL"]);
        let again = support::wait::within(2 * LONG, || async { mesh.stored() }).await;
        assert_eq!(again, Some(token.clone()));
        assert_eq!(mesh.made().len(), 1);
        mesh.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_told_to_end_while_redis_is_asked_ends_in_good_order() {
    in_settings_at_once(2, |setting| async move {
        let redis = Mesh::redis();
        let way = Passage::to(redis.address()).await.unwrap();
        let mesh = busy(setting).start_through(redis, &[&way, &way]).await;
        mesh.agree(Duration::from_secs(20)).await;
        // Without an answer a call to WeChat would be next.
        way.set(Mode::KeepsRequests("lock"));
        until(LONG, "both ask for the lock", || way.kept() == 2).await;
        mesh.finish().await;
    })
    .await;
}
