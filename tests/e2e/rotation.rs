//! Tokens that live for seconds: rotation under load, on both token endpoints.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::wait::until;
use support::wechat::{Outcome, TokenApi};

use crate::settings::in_settings_at_once;
use crate::world::{plan, World, HOST};

const STABLE: &str = "wxstable000000000";
const CLASSIC: &str = "wxclassic00000000";
const CALLERS: usize = 8;

#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    calls: AtomicU64,
}

/// Calls without a pause, by several callers for both apps, until `done`; returns the number of calls.
async fn load_until(world: &World, done: impl FnMut() -> bool) -> u64 {
    let load = Arc::new(Load::default());
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
            let (load, appid) = (Arc::clone(&load), [STABLE, CLASSIC][number % 2]);
            tokio::spawn(async move {
                let named = ("x-wechat-appid", appid);
                let headers = [("host", HOST), named, ("x-expect-appid", appid)];
                while !load.is_over.load(Ordering::Relaxed) {
                    let answer = client.get_with(&url, &headers).await.unwrap();
                    assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
                    load.calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until(Duration::from_secs(60), "the tokens rotate", done).await;
    load.is_over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    load.calls.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_across_rotations_under_load_on_either_endpoint() {
    in_settings_at_once(2, |setting| async move {
        let mut plan = plan(setting).with_apps(&[STABLE, CLASSIC]);
        plan.document["apps"][1]["token_api"] = json!("classic");
        plan.document["apps"][1]["sole_refresher"] = json!(true);
        // A token is renewed in the third quarter of its life, and then both work for as long as the last half lasts.
        plan.settings = plan
            .settings
            .with_token_lifetime(Duration::from_secs(8))
            .with_overlap(Duration::from_secs(4));
        let world = plan.start().await;
        let rotated = |appid: &str| world.fake.report().app(appid).tokens_made >= 4;
        let calls = load_until(&world, || rotated(STABLE) && rotated(CLASSIC)).await;
        assert!(calls > 100, "{calls}");
        let report = world.fake.report();
        assert_eq!(report.business_ok, calls, "{:?}", report.business_errcodes);
        for (appid, api) in [(STABLE, TokenApi::Stable), (CLASSIC, TokenApi::Classic)] {
            let mut calls = report.token_log.iter().filter(|call| call.appid == appid);
            assert!(calls.all(|call| call.api == api), "{appid}");
            let made = report.token_log.iter().filter(|call| {
                // With the classic endpoint each call makes one, so a needless call would show here.
                call.appid == appid && call.outcome == Outcome::Made
            });
            assert!(
                (4..=6).contains(&made.count()),
                "{appid}: {:?}",
                report.token_log
            );
        }
        world.finish().await;
    })
    .await;
}
