//! Calls that come before there is a token: one, and a thousand at once.

use support::client::concurrent;

use crate::settings::in_each_setting;
use crate::world::{plan, APPID, HOST};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_waits_for_the_only_token_call_and_goes_through() {
    in_each_setting(|setting| async move {
        let world = plan(setting).start_cold().await;
        let (exchange, ()) = tokio::join!(world.call("/cgi-bin/echo?a=1&b=%20x", &[]), async {
            world.parked(1).await;
            assert_eq!(world.fake.report().business_calls, 0);
            world.fake.release();
        });
        assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
        let token = world.token();
        let sent = "/cgi-bin/echo?a=1&b=%20x";
        let call = exchange.arrived();
        assert_eq!(call.target, format!("{sent}&access_token={token}"));
        assert_eq!(call.header("x-envoy-original-path"), Some(sent));
        world.ready().await;
        let report = world.fake.report();
        assert_eq!((report.business_calls, report.token_calls), (2, 1));
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_first_calls_cause_one_token_call() {
    in_each_setting(|setting| async move {
        let world = plan(setting).start_cold().await;
        let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
        let herd = concurrent(1_000, move |_| {
            let (client, url) = (client.clone(), url.clone());
            async move {
                let answer = client.get_with(&url, &[("host", HOST)]).await;
                answer.map(|answer| answer.errcode())
            }
        });
        let (answers, ()) = tokio::join!(herd, async {
            world.parked(1_000).await;
            assert_eq!(world.fake.report().business_calls, 0);
            world.fake.release();
        });
        let bad: Vec<_> = answers.iter().filter(|it| **it != Ok(Some(0))).collect();
        assert!(bad.is_empty(), "{}: {:?}", bad.len(), bad[0]);
        let report = world.fake.report();
        assert_eq!(
            (report.business_ok, report.app(APPID).token_calls),
            (1_000, 1)
        );
        world.finish().await;
    })
    .await;
}
