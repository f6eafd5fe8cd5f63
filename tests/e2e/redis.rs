//! Envoys that share one Redis agree on one token.

use std::time::Duration;

use serde_json::json;
use support::wait::until;

use crate::mesh::{mesh, LONG};
use crate::settings::in_settings_at_once;

#[tokio::test(flavor = "multi_thread")]
async fn envoys_that_share_a_redis_make_one_token_call() {
    in_settings_at_once(2, |setting| async move {
        let mesh = mesh(setting, 2).start().await;
        let token = mesh.agree(Duration::from_secs(20)).await;
        assert_eq!(mesh.stored().as_ref(), Some(&token));
        assert_eq!(mesh.made().len(), 1);
        mesh.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_two_envoys_rotate_one_classic_token() {
    in_settings_at_once(2, |setting| async move {
        let mut plan = mesh(setting, 2).with_tokens(12, 6);
        plan.document["refresh"] = json!({"lead": "6s", "jitter": "1s"});
        let mesh = plan.start().await;
        let before = mesh.fake.report().business_ok;
        let mut calls = 0;
        while mesh.made().len() < 4 {
            calls += mesh.tokens().await.len() as u64;
        }
        mesh.agree_with_redis(Duration::from_secs(5)).await;
        let report = mesh.fake.report();
        assert!(report.business_ok >= before + calls, "{calls}");
        assert_eq!(
            report.errcode(40001) + report.errcode(42001),
            0,
            "{:?}",
            report.business_errcodes
        );
        mesh.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_in_redis_is_taken_over_without_a_call() {
    in_settings_at_once(2, |setting| async move {
        let first = mesh(setting, 1).start().await;
        let token = first.agree(Duration::from_secs(20)).await;
        let second = mesh(setting, 1);
        // Another process with the same Redis and WeChat.
        let second = second.join(&first).await;
        assert_eq!(first.through(&second).await, token);
        assert_eq!(first.made().len(), 1);
        assert!(
            second.logs().contains("event=token_adopted"),
            "{}",
            second.logs()
        );
        first.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_renewed_once_for_all() {
    in_settings_at_once(2, |setting| async move {
        let mesh = mesh(setting, 2).start().await;
        let old = mesh.agree(Duration::from_secs(20)).await;
        mesh.fake.revoke(crate::world::APPID, 40001);
        // The first caller meets the dead token and causes the refresh; Envoy sends its call again where it can.
        mesh.call(0).await;
        mesh.wait_until_made(2).await;
        // The other one reads Redis before anything else. In downstream placement its caller sees the rejection.
        support::wait::until_some(LONG, "a good call through each", || async {
            let codes = [mesh.call(0).await.errcode(), mesh.call(1).await.errcode()];
            (codes == [Some(0); 2]).then_some(())
        })
        .await;
        let new = mesh.agree(LONG).await;
        assert_ne!(new, old);
        until(LONG, "the store has it", || {
            mesh.stored().as_ref() == Some(&new)
        })
        .await;
        assert_eq!(mesh.made().len(), 2);
        mesh.finish().await;
    })
    .await;
}
