//! Envoy 1.36, on which an answer that a filter held must not be retried: everything but resending works without the retry
//! policy (README.md, "What it needs").

use support::client::concurrent;
use support::wait::until_some;

use crate::settings::{setting, Placement};
use crate::world::{plan, APPID, HOST, MANAGER, SOON};

/// Not one of the settings: what their tests ask for does not hold here.
const VERSION: &str = "1.36.4";

#[tokio::test(flavor = "multi_thread")]
async fn on_envoy_1_36_without_the_retry_policy_only_the_resending_is_missing() {
    for placement in [Placement::Upstream, Placement::Downstream] {
        for concurrency in [1, 4] {
            injects_renews_and_never_hangs(placement, concurrency).await;
        }
    }
}

async fn injects_renews_and_never_hangs(placement: Placement, concurrency: u32) {
    let mut plan = plan(setting(VERSION, concurrency, placement));
    let route = format!("{MANAGER}.route_config.virtual_hosts[name=wechat].routes[0]");
    let policy = format!("{route}.route.retry_policy");
    assert!(plan.config.find(&policy).is_some());
    plan.config.remove(&policy);
    let world = plan.start_cold().await;
    let sizes = [0, 1, 500_000, 3_000_000];
    let post = |size: usize| {
        let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo?a=1"));
        async move {
            let answer = client.post(&url, &[("host", HOST)], vec![b'x'; size]).await;
            answer.unwrap_or_else(|error| panic!("{size}: {error}"))
        }
    };
    let (answers, ()) = tokio::join!(concurrent(4, |number| post(sizes[number])), async {
        world.parked(4).await;
        assert_eq!(world.fake.report().business_calls, 0);
        world.fake.release();
    });
    for (answer, size) in answers.iter().zip(sizes) {
        assert_eq!(answer.errcode(), Some(0), "{size}: {}", answer.text());
        assert_eq!(answer.json()["body_bytes"], size);
    }
    // Rejected: each caller gets WeChat's own words, in time, until there is another token.
    world.fake.revoke(APPID, 40001);
    let answers = concurrent(100, |number| post(number * 100)).await;
    let rejected = answers.iter().filter(|it| it.errcode() == Some(40001));
    let marked = rejected.map(|answer| answer.header("x-wechat-token-retry"));
    let marked: Vec<_> = marked.collect();
    assert!(!marked.is_empty(), "somebody meets the rejected token");
    assert!(marked.iter().all(|mark| *mark == Some("1")), "{marked:?}");
    for answer in &answers {
        let errcode = answer.errcode();
        assert!(matches!(errcode, Some(0 | 40001)), "{}", answer.text());
    }
    until_some(SOON, "the token is renewed", || async {
        let exchange = world.call("/cgi-bin/echo", &[]).await;
        (exchange.answer.errcode() == Some(0)).then_some(())
    })
    .await;
    let report = world.fake.report();
    assert_eq!(report.app(APPID).tokens_made, 2);
    world.finish().await;
}
