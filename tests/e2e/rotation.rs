//! Tokens that live for seconds: rotation under load, rejected tokens, many apps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::wait::until_some;

use crate::world::{plan, settings, Placement, World, APPID, HOST, NEWEST, SECRET};

/// Calls without a pause until `tokens` tokens were made; returns the number of calls and of bad answers.
async fn load_until(world: &World, tokens: u64) -> (u64, u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let (calls, bad) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
            let (stop, calls, bad) = (Arc::clone(&stop), Arc::clone(&calls), Arc::clone(&bad));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.get_with(&url, &[("host", HOST)]).await;
                    calls.fetch_add(1, Ordering::Relaxed);
                    if answer.as_ref().ok().and_then(|answer| answer.errcode()) != Some(0) {
                        bad.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    until_some(Duration::from_secs(60), "the tokens rotate", || async {
        (world.fake.report().app(APPID).tokens_made >= tokens).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    (calls.load(Ordering::Relaxed), bad.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_across_rotations_under_load() {
    for setting in settings() {
        let mut plan = plan(setting);
        plan.settings = plan
            .settings
            .with_token_lifetime(Duration::from_secs(6))
            .with_overlap(Duration::from_secs(2));
        let world = plan.start().await;
        let (calls, bad) = load_until(&world, 4).await;
        assert!(calls > 100, "{setting:?}: {calls}");
        assert_eq!(
            bad,
            0,
            "{setting:?}: of {calls}: {:?}",
            world.fake.report().business_errcodes
        );
        world.fake.report().assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_renewed_and_the_caller_sees_only_the_good_answer() {
    for setting in settings()
        .into_iter()
        .filter(|setting| setting.placement == Placement::Upstream)
    {
        let world = plan(setting).start().await;
        world.ready().await;
        world.fake.revoke(APPID, 40001);
        let answer = world.get("/cgi-bin/echo?a=1", &[]).await;
        assert_eq!(
            answer.errcode(),
            Some(0),
            "{setting:?}: {}\n{}",
            answer.text(),
            world.envoy.logs()
        );
        assert_eq!(world.fake.report().app(APPID).tokens_made, 2, "{setting:?}");
        assert_eq!(world.fake.report().errcode(40001), 1, "{setting:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_apps_get_their_tokens_with_at_most_32_calls_at_once() {
    let mut plan = plan(NEWEST);
    let mut apps = Vec::new();
    for n in 0..1_000 {
        let appid = format!("wx{n:016}");
        plan.settings = plan.settings.with_app(&appid, SECRET);
        apps.push(json!({"appid": appid, "secret": {"env": "WECHAT_SECRET"}}));
    }
    plan.document = json!({"apps": apps, "default_app": "wx0000000000000000"});
    let world = plan.start().await;
    until_some(Duration::from_secs(60), "all tokens are there", || async {
        (world.fake.report().token_calls >= 1_000).then_some(())
    })
    .await;
    for n in [0, 1, 500, 999] {
        let appid = format!("wx{n:016}");
        let answer = world
            .get(
                "/cgi-bin/echo",
                &[("x-wechat-appid", &appid), ("x-expect-appid", &appid)],
            )
            .await;
        assert_eq!(answer.json()["appid"], appid.as_str());
    }
    let peak = world
        .envoy
        .stat("cluster.wechat_token.upstream_cx_total")
        .await;
    assert!(peak <= 40, "{peak} connections for token calls");
    assert_eq!(world.fake.report().token_calls, 1_000);
    world.fake.report().assert_clean();
}
