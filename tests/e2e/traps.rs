//! Virtual machines that trap: the plugin is built with the feature `trap` for these.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::client::Answer;
use support::envoy::workspace;
use support::wait::until_some;

use crate::settings::{in_each_setting, in_settings_at_once, Setting};
use crate::world::{plan, Plan, World, APPID, MANAGER, SOON};

/// Which virtual machine is to trap.
const TRAP: &str = "x-wechat-token-trap";
/// The dead holder's lease is taken within 3 s; the rest is for a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(6);

fn trapping(setting: Setting) -> Plan {
    let mut plan = plan(setting);
    let wasm = workspace().join("target/variants/wechat-token-trap.wasm");
    assert!(
        wasm.is_file(),
        "no {}: tools/build-variants.sh",
        wasm.display()
    );
    plan.config.wasm_file(&wasm);
    plan
}

/// Tells a virtual machine to trap, by a call that takes no token and so never waits for one.
async fn trap(world: &World, whose: &str) {
    let path = "/sns/jscode2session?js_code=1";
    world.get(path, &[(TRAP, whose)]).await;
}

/// One caller without a pause until it is told to stop: its calls, and the answers that were not good.
async fn load(world: &World, stop: &AtomicBool) -> (u64, Vec<Answer>) {
    let (mut calls, mut bad) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let answer = world.get("/cgi-bin/echo", &[]).await;
        calls += 1;
        if answer.errcode() != Some(0) {
            bad.push(answer);
        }
    }
    (calls, bad)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_singleton_that_traps_is_replaced_and_no_call_fails() {
    in_settings_at_once(2, |setting| async move {
        let mut plan = trapping(setting);
        plan.settings = plan
            .settings
            .with_token_lifetime(Duration::from_secs(12))
            .with_overlap(Duration::from_secs(4));
        let world = Arc::new(plan.start().await);
        world.ready().await;
        let stop = Arc::new(AtomicBool::new(false));
        let caller = tokio::spawn({
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            async move { load(&world, &stop).await }
        });
        trap(&world, "refresher").await;
        let taken = format!("event=lease_taken app={APPID}");
        world.envoy.wait_for_log(&taken, TAKEN_OVER).await;
        // Whoever took over also renews.
        let made = world.fake.report().app(APPID).tokens_made;
        until_some(Duration::from_secs(40), "two more tokens", || async {
            (world.fake.report().app(APPID).tokens_made >= made + 2).then_some(())
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        let (calls, bad) = caller.await.unwrap();
        assert!(calls > 20 && bad.is_empty(), "{calls} calls, {bad:?}");
        let report = world.fake.report();
        assert_eq!(report.app(APPID).in_flight_max, 1);
        report.assert_clean();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_heir_traps_too_another_one_takes_over() {
    in_settings_at_once(2, |setting| async move {
        let mut plan = trapping(setting);
        plan.settings = plan
            .settings
            .with_token_lifetime(Duration::from_secs(16))
            .with_overlap(Duration::from_secs(8));
        let world = plan.start().await;
        world.ready().await;
        let taken = format!("event=lease_taken app={APPID}");
        let times = || world.envoy.logs().matches(&taken).count();
        trap(&world, "refresher").await;
        until_some(TAKEN_OVER, "an heir", || async {
            (times() == 1).then_some(())
        })
        .await;
        trap(&world, "holder").await;
        until_some(TAKEN_OVER, "an heir of the heir", || async {
            (times() == 2).then_some(())
        })
        .await;
        let made = world.fake.report().app(APPID).tokens_made;
        until_some(
            Duration::from_secs(40),
            "two more tokens, and calls that get them",
            || async {
                let answer = world.get("/cgi-bin/echo", &[]).await;
                let is_renewed = world.fake.report().app(APPID).tokens_made >= made + 2;
                (is_renewed && answer.errcode() == Some(0)).then_some(())
            },
        )
        .await;
        let report = world.fake.report();
        assert_eq!(report.app(APPID).in_flight_max, 1);
        report.assert_clean();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_traps_is_loaded_again_and_serves_from_shared_data() {
    in_each_setting(|mut setting| async move {
        setting.concurrency = 1;
        let world = trapping(setting).start().await;
        world.ready().await;
        let trapped = world.call("/cgi-bin/echo", &[(TRAP, "injector")]).await;
        assert!(trapped.call.is_none(), "{trapped:?}");
        assert!(trapped.answer.status >= 500, "{trapped:?}");
        until_some(SOON, "the worker serves again", || async {
            let exchange = world.call("/cgi-bin/echo", &[]).await;
            let is_good = exchange.answer.errcode() == Some(0);
            assert!(is_good || exchange.call.is_none(), "{exchange:?}");
            is_good.then_some(())
        })
        .await;
        let report = world.fake.report();
        assert_eq!(report.token_calls, 1);
        report.assert_clean();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_a_worker_that_traps_is_ended_by_a_timeout_of_envoys() {
    in_each_setting(|mut setting| async move {
        setting.concurrency = 1;
        let mut plan = trapping(setting);
        plan.document["wait"] = json!({"timeout": "60s"});
        // The shipped 60 s, shortened.
        let timeout = format!("{MANAGER}.stream_idle_timeout");
        plan.config.set(&timeout, "3s");
        let world = Arc::new(plan.start_cold().await);
        let waiting = tokio::spawn({
            let world = Arc::clone(&world);
            async move { world.call("/cgi-bin/echo", &[]).await }
        });
        world.parked(1).await;
        world.get("/cgi-bin/echo", &[(TRAP, "injector")]).await;
        let exchange = waiting.await.unwrap();
        assert!(exchange.call.is_none(), "{exchange:?}");
        assert!(
            exchange.answer.status >= 500 || exchange.answer.status == 408,
            "{exchange:?}"
        );
        println!(
            "{setting:?}: {} {:?}",
            exchange.answer.status, exchange.answer.elapsed
        );
        world.fake.release();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heir_of_a_refresher_that_traps_during_its_call_waits_until_that_is_over() {
    in_settings_at_once(2, |setting| async move {
        let mut plan = trapping(setting);
        plan.document["weixin"] = json!({"timeout": "6s"});
        let world = Arc::new(plan.start_cold().await);
        let waiting = tokio::spawn({
            let world = Arc::clone(&world);
            async move { world.get("/cgi-bin/echo", &[]).await }
        });
        world.parked(1).await;
        trap(&world, "refresher").await;
        let taken = format!("event=lease_taken app={APPID}");
        world.envoy.wait_for_log(&taken, SOON).await;
        world.fake.release();
        let answer = waiting.await.unwrap();
        assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
        let report = world.fake.report();
        let calls: Vec<u64> = report.token_log.iter().map(|call| call.at_ms).collect();
        assert_eq!(calls.len(), 2, "{:?}", report.token_log);
        // Millisecond clocks of three parties.
        assert!(calls[1] - calls[0] >= 5_990, "{:?}", report.token_log);
        assert_eq!(report.app(APPID).in_flight_max, 1);
        report.assert_clean();
    })
    .await;
}
