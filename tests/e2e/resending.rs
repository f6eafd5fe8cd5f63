//! What Envoy sends again after a rejection, and when it is not sent again or nothing is renewed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::wait::until_some;
use support::wechat::{Action, Fault};

use crate::settings::{in_each_setting, in_settings_at_once, Placement};
use crate::world::{plan, World, APPID, SOON};

/// The largest body that the shipped route can send again is 4 MiB; this is what the plugin promises.
const LARGEST: usize = 3 * 1024 * 1024;
/// Longer than anything here takes: who waits so long was not let go.
const WAIT: Duration = Duration::from_secs(25);

/// Waits until a call gets a good answer.
async fn well(world: &World, deadline: Duration) {
    until_some(deadline, "a good answer", || async {
        let answer = world.get("/cgi-bin/echo", &[]).await;
        (answer.errcode() == Some(0)).then_some(())
    })
    .await;
}

fn count(world: &World, line: &str) -> usize {
    world.envoy.logs().matches(line).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_again_arrives_whole_and_its_answer_is_all_that_is_seen() {
    in_each_setting(|setting| async move {
        if setting.placement == Placement::Downstream {
            return;
        }
        let mut plan = plan(setting);
        plan.document["wait"] = json!({"timeout": "25s"});
        let route =
            "static_resources.listeners[name=wechat].filter_chains[0].filters[0].typed_config\
            .route_config.virtual_hosts[name=wechat].routes[0]";
        plan.config
            .set(&format!("{route}.match.prefix"), "/wechat/")
            .set(&format!("{route}.route.prefix_rewrite"), "/");
        let world = plan.start().await;
        let good = world.get("/wechat/cgi-bin/echo", &[]).await;
        assert_eq!(good.errcode(), Some(0), "{}", good.text());
        // Both attempts are rewritten, and the error in JSON becomes a picture.
        world.fake.revoke(APPID, 42001);
        let sent = vec![b'x'; LARGEST];
        let path = "/wechat/wxa/getwxacodeunlimit?size=70000";
        let exchange = world
            .send("POST", path, &[("host", "localhost")], sent)
            .await;
        let answer = &exchange.answer;
        assert_eq!(
            answer.header("content-type"),
            Some("image/png"),
            "{}",
            answer.text()
        );
        assert_eq!((answer.status, answer.body.len()), (200, 70_000));
        let call = exchange.arrived();
        let token = world.token();
        assert_eq!(
            call.target,
            format!("/wxa/getwxacodeunlimit?size=70000&access_token={token}")
        );
        assert_eq!(
            (call.body_bytes, call.header("host")),
            (LARGEST as u64, Some("api.weixin.qq.com"))
        );
        let report = world.fake.report();
        assert_eq!((report.errcode(42001), report.token_calls), (1, 2));
        world
            .wait_until_counted("wechat_token_resent_total", 1)
            .await;
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_rejection_of_a_replaced_token_is_sent_again_and_renews_nothing() {
    in_each_setting(|setting| async move {
        let world = Arc::new(plan(setting).start().await);
        world.ready().await;
        for action in [
            Action::Latency { ms: 2_000 },
            Action::Errcode { code: 40001 },
        ] {
            world
                .fake
                .arm(Fault::on_business(action).at("/cgi-bin/late").times(1));
        }
        let before = world.fake.report().requests;
        let late = tokio::spawn({
            let world = Arc::clone(&world);
            async move { world.get("/cgi-bin/late", &[]).await }
        });
        until_some(SOON, "WeChat has the late call", || async {
            (world.fake.report().requests > before).then_some(())
        })
        .await;
        world.fake.revoke(APPID, 40001);
        well(&world, SOON).await;
        let answer = late.await.unwrap();
        let expected = match setting.placement {
            Placement::Upstream => 0,
            Placement::Downstream => 40001,
        };
        assert_eq!(answer.errcode(), Some(expected), "{}", answer.text());
        world
            .wait_until_counted("wechat_token_rejected_total", 2)
            .await;
        assert_eq!(world.fake.report().token_calls, 2);
        // The refresher was not even bothered: it would say that a limit keeps it from renewing once more.
        assert_eq!(
            count(&world, "event=token_rejected"),
            1,
            "{}",
            world.envoy.logs()
        );
        Arc::into_inner(world).unwrap().finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_token_back_after_a_rejection_ends_the_waiting() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        plan.document["wait"] = json!({"timeout": "25s"});
        let world = plan.start().await;
        world.ready().await;
        let attempts = match setting.placement {
            Placement::Upstream => 2,
            Placement::Downstream => 1,
        };
        // WeChat's token endpoint knows nothing of it and hands out the token that it gave before.
        world
            .fake
            .arm(Fault::on_business(Action::Errcode { code: 40001 }).times(attempts));
        let answer = world.get("/cgi-bin/echo", &[]).await;
        assert_eq!(answer.errcode(), Some(40001), "{}", answer.text());
        assert!(answer.elapsed < WAIT, "{:?}", answer.elapsed);
        world.envoy.wait_for_log("event=token_same", SOON).await;
        let report = world.fake.report();
        assert_eq!((report.token_calls, report.app(APPID).tokens_made), (2, 1));
        assert_eq!(report.errcode(40001), attempts);
        well(&world, SOON).await;
        assert_eq!(world.fake.report().token_calls, 2);
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_limit_on_refreshes_stopped_is_renewed_when_it_is_over() {
    in_settings_at_once(4, |setting| async move {
        let mut plan = plan(setting);
        plan.document["refresh"] = json!({"rejected_interval": "10s"});
        let world = plan.start().await;
        world.ready().await;
        world.fake.revoke(APPID, 40001);
        well(&world, SOON).await;
        world.fake.revoke(APPID, 40001);
        let answer = world.get("/cgi-bin/echo", &[]).await;
        assert_eq!(answer.errcode(), Some(40001), "{}", answer.text());
        world
            .envoy
            .wait_for_log("action=none reason=limit", SOON)
            .await;
        assert_eq!(world.fake.report().token_calls, 2);
        // A token that was rejected so soon doubles the limit.
        well(&world, Duration::from_secs(60)).await;
        assert_eq!(world.fake.report().token_calls, 3);
        assert_eq!(count(&world, "action=refresh"), 2, "{}", world.envoy.logs());
        world.finish().await;
    })
    .await;
}
