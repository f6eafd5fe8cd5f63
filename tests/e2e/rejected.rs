//! Tokens that WeChat rejects before their time.

use serde_json::json;
use support::client::concurrent;
use support::wait::until_some;
use support::wechat::{Action, Fault};
use tokio::time::Instant;

use crate::settings::{in_each_setting, Placement};
use crate::world::{plan, World, HOST, SOON};

/// Calls in a row that are all rejected, and how many of them at once.
const CALLS: usize = 1_000;
const AT_ONCE: usize = 50;

/// WeChat's ways to reject a token, each with an app of its own: one refresh by rejection is allowed in a while.
const CODES: [(i64, &str); 3] = [
    (40001, "wx40001aaaaaaaaaa"),
    (40014, "wx40014aaaaaaaaaa"),
    (42001, "wx42001aaaaaaaaaa"),
];

async fn post(world: &World, appid: &str, size: usize) -> crate::world::Exchange {
    let headers = [("x-wechat-appid", appid), ("x-expect-appid", appid)];
    world
        .send("POST", "/cgi-bin/echo?a=1", &headers, vec![b'x'; size])
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_renewed_and_the_call_sent_again_where_envoy_can() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting).with_apps(&CODES.map(|(_, appid)| appid));
        plan.document["wait"] = json!({"timeout": "25s"});
        let world = plan.start().await;
        for (code, appid) in CODES {
            let exchange = post(&world, appid, 1).await;
            assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
            world.fake.revoke(appid, code);
            let exchange = post(&world, appid, 500_000).await;
            if setting.placement == Placement::Upstream {
                assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
                assert_eq!(exchange.answer.json()["body_bytes"], 500_000);
                assert_eq!(exchange.answer.header("x-wechat-token-retry"), None);
                let call = exchange.arrived();
                let token = world.token();
                let target = format!("/cgi-bin/echo?a=1&access_token={token}");
                assert_eq!(call.target, target, "the second attempt's");
            } else {
                assert_eq!(exchange.answer.errcode(), Some(code), "{exchange:?}");
                let mark = exchange.answer.header("x-wechat-token-retry");
                assert_eq!(mark, Some("1"), "{exchange:?}");
                until_some(SOON, "the token is renewed", || async {
                    let exchange = post(&world, appid, 1).await;
                    (exchange.answer.errcode() == Some(0)).then_some(())
                })
                .await;
            }
            let made = world.fake.report().app(appid).tokens_made;
            assert_eq!(made, 2, "{code}");
            assert!(world.fake.report().errcode(code) >= 1, "{code}");
            // Again, too soon: a new token is evidently not the cure, so the caller sees what WeChat says.
            world.fake.revoke(appid, code);
            let exchange = post(&world, appid, 1).await;
            assert_eq!(exchange.answer.errcode(), Some(code), "{exchange:?}");
            let calls = world.fake.report().app(appid).token_calls;
            assert_eq!(calls, 2, "{code}");
        }
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_sent_again_gets_wechats_error_and_the_token_is_renewed() {
    in_each_setting(|setting| async move {
        let (_, appid) = CODES[0];
        let world = plan(setting).with_apps(&[appid]).start().await;
        let exchange = post(&world, appid, 1).await;
        assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
        world.fake.revoke(appid, 40001);
        // The shipped route keeps 4 MiB.
        let exchange = post(&world, appid, 5_000_000).await;
        assert_eq!(exchange.answer.errcode(), Some(40001), "{exchange:?}");
        assert_eq!(exchange.arrived().body_bytes, 5_000_000);
        until_some(SOON, "the token is renewed", || async {
            let exchange = post(&world, appid, 1).await;
            (exchange.answer.errcode() == Some(0)).then_some(())
        })
        .await;
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_errcodes_are_the_callers_matter_and_renew_nothing() {
    in_each_setting(|setting| async move {
        let (_, appid) = CODES[0];
        let world = plan(setting).with_apps(&[appid]).start().await;
        for code in [-1, 40164, 41001, 45009, 45011, 48001, 61007] {
            let fault = Fault::on_business(Action::Errcode { code }).times(1);
            world.fake.arm(fault);
            let exchange = post(&world, appid, 1).await;
            assert_eq!(exchange.answer.errcode(), Some(code), "{exchange:?}");
            let mark = exchange.answer.header("x-wechat-token-retry");
            assert_eq!(mark, None, "{code}");
        }
        let report = world.fake.report();
        assert_eq!((report.business_calls, report.token_calls), (7, 1));
        // 41001: something on the way took the token out.
        world
            .wait_until_counted("wechat_token_missing_total", 1)
            .await;
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_rejections_cause_at_most_two_token_calls_and_every_caller_sees_wechats_error() {
    in_each_setting(|setting| async move {
        for api in ["stable", "classic"] {
            let (code, appid) = CODES[0];
            let mut plan = plan(setting).with_apps(&[appid]);
            plan.document["apps"][0]["token_api"] = json!(api);
            plan.document["apps"][0]["sole_refresher"] = json!(true);
            let world = plan.start().await;
            let exchange = post(&world, appid, 1).await;
            assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
            world.fake.arm(Fault::on_business(Action::Errcode { code }));
            let begun = Instant::now();
            for _ in 0..CALLS / AT_ONCE {
                let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
                let answers = concurrent(AT_ONCE, move |_| {
                    let (client, url) = (client.clone(), url.clone());
                    async move { client.get_with(&url, &[("host", HOST)]).await.unwrap() }
                });
                for answer in answers.await {
                    assert_eq!(answer.errcode(), Some(code), "{api}: {}", answer.text());
                }
            }
            let took = begun.elapsed();
            let minutes = took.as_secs() / 60 + 1;
            let report = world.fake.report();
            assert!(
                report.token_calls <= 2 * minutes,
                "{api}: {} in {took:?}",
                report.token_calls
            );
            assert!(report.errcode(code) >= CALLS as u64, "{api}");
            world.finish().await;
        }
    })
    .await;
}
