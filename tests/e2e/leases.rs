//! Who keeps the tokens where the refresher is missing.

use std::time::Duration;

use serde_json::json;
use support::client::Client;
use support::wait::{until, until_some};
use support::wechat::FakeWeChat;

use crate::dynamic::Dynamic;
use crate::remote::CodeServer;
use crate::settings::{in_each_setting, setting, Placement};
use crate::world::{app, plan, World, APPID, HOST, SOON};

/// An app that an update brings.
const LATER: &str = "wxlater0000000000";

#[tokio::test(flavor = "multi_thread")]
async fn without_a_refresher_one_injector_keeps_the_tokens_of_all_workers() {
    for version in ["1.37.0", "1.40.0"] {
        let mut plan = plan(setting(version, 4, Placement::Upstream));
        plan.config.remove("bootstrap_extensions");
        plan.settings = plan
            .settings
            .with_token_lifetime(Duration::from_secs(8))
            .with_overlap(Duration::from_secs(2));
        let world = plan.start().await;
        for _ in 0..8 {
            world.ready().await;
        }
        let renewed =
            |generation: u32| format!("event=token_renewed app={APPID} generation={generation} ");
        let envoy = &world.envoy;
        envoy
            .wait_for_log(&renewed(2), Duration::from_secs(20))
            .await;
        let log = envoy.logs();
        // A second holder would count anew.
        for generation in 1..=2 {
            let times = log.matches(&renewed(generation)).count();
            assert_eq!(times, 1, "{version}, generation {generation}: {log}");
        }
        assert!(!log.contains("event=lease_"), "{version}: {log}");
        let report = world.fake.report();
        report.assert_clean();
        assert_eq!(report.token_calls_in_flight_max, 1, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_an_update_brings_is_kept_by_an_injector() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting).with_apps(&[APPID, LATER]);
        plan.document["apps"] = json!([app(APPID)]);
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        let (mut dynamic, setting, config) = Dynamic::of(plan, &fake);
        let envoy = setting.builder(config).start().await;
        let mut world = World::new(setting, fake, envoy);
        world.ready().await;
        world
            .call("/cgi-bin/echo", &[("x-wechat-appid", LATER)])
            .await
            .assert_refused(400, "unknown_app");
        // The refresher's configuration is the bootstrap's: it cannot learn of the app.
        dynamic.document = json!({"apps": [app(APPID), app(LATER)]});
        dynamic.update(&world.envoy).await;
        // A connection that the old listener took stays with it while it drains.
        until_some(SOON, "a connection to the new listener", || async {
            let (client, url) = (Client::new(), world.url("/cgi-bin/echo"));
            let headers = [("host", HOST), ("x-wechat-appid", LATER)];
            let answer = client.get_with(&url, &headers).await.unwrap();
            (answer.errcode() == Some(0)).then_some(())
        })
        .await;
        world.client = Client::new();
        for _ in 0..20 {
            for appid in [APPID, LATER] {
                let headers = [("x-wechat-appid", appid), ("x-expect-appid", appid)];
                let answer = world.get("/cgi-bin/echo", &headers).await;
                assert_eq!(answer.errcode(), Some(0), "{appid}: {}", answer.text());
            }
        }
        let report = world.fake.report();
        for appid in [APPID, LATER] {
            assert_eq!(report.app(appid).token_calls, 1, "{appid}");
        }
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresher_that_comes_late_takes_over_without_a_second_token_call() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        // Envoy fetches the refresher's code; until it has it there is none, and the injectors' roots tick already.
        let code = CodeServer::start(&mut plan.config).await;
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        let starting = tokio::spawn(plan.builder(&fake).start());
        until(SOON, "an injector's root has a token", || {
            fake.report().app(APPID).tokens_made == 1
        })
        .await;
        code.release();
        let world = World::new(setting, fake, starting.await.unwrap());
        let taken = format!("event=lease_taken app={APPID}");
        world.envoy.wait_for_log(&taken, SOON).await;
        world.ready().await;
        assert_eq!(world.fake.report().token_calls, 1);
        world.finish().await;
    })
    .await;
}
