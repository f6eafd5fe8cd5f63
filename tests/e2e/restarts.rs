//! Envoys that drain, end, start again, hand over to another one, or only look at their configuration; and filters that are newer than the refresher.

use std::sync::Arc;

use serde_json::json;
use support::client::Answer;
use support::envoy::workspace;
use support::wait::until;
use support::wechat::FakeWeChat;
use tokio::task::JoinHandle;

use crate::dynamic::{free_port, Dynamic};
use crate::load::Load;
use crate::settings::{in_each_setting, versions_and_placements};
use crate::world::{plan, World, APPID, HOST, SECRET, SOON};

const WAITING: usize = 10;

/// Calls that wait for a token, each over a connection of its own.
async fn waiting(world: &Arc<World>) -> Vec<JoinHandle<Option<Answer>>> {
    let calls = (0..WAITING).map(|_| {
        let url = world.url("/cgi-bin/echo");
        tokio::spawn(async move {
            let client = support::client::Client::new();
            client.get_with(&url, &[("host", HOST)]).await.ok()
        })
    });
    let calls = calls.collect();
    world.parked(WAITING as u64).await;
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn while_envoy_drains_those_who_wait_get_their_answers() {
    in_each_setting(|setting| async move {
        let world = Arc::new(plan(setting).start_cold().await);
        let waiting = waiting(&world).await;
        for page in ["/healthcheck/fail", "/drain_listeners?graceful"] {
            world.envoy.admin_post(page).await;
        }
        world.fake.release();
        for call in waiting {
            let answer = call.await.unwrap().expect("an answer");
            assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
        }
        assert_eq!(world.fake.report().token_calls, 1);
        Arc::into_inner(world).unwrap().finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_envoy_is_told_to_end_those_who_wait_are_cut_off_and_nothing_leaves() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        // The call ends with Envoy. The next upstream would be called at once, which Envoy does not survive by then.
        let upstream = |authority| json!({"cluster": "wechat_token", "authority": authority});
        plan.document["weixin"]["upstreams"] =
            json!([upstream(HOST), upstream("api2.weixin.qq.com")]);
        let world = Arc::new(plan.start_cold().await);
        let waiting = waiting(&world).await;
        let World { envoy, fake, .. } = Arc::into_inner(world).unwrap();
        let ended = tokio::task::block_in_place(|| envoy.terminate());
        assert!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
        for call in waiting {
            let answer = call.await.unwrap();
            assert!(answer.is_none_or(|answer| answer.status == 503));
        }
        fake.release();
        assert_eq!(fake.report().business_calls, 0);
        fake.report().assert_clean();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_starts_again_asks_once_and_goes_on_with_the_same_token() {
    for setting in versions_and_placements() {
        let fake = FakeWeChat::start(plan(setting).settings).await;
        for starts in 1..=2 {
            let envoy = plan(setting).builder(&fake).start().await;
            for _ in 0..20 {
                let url = envoy.url("wechat", "/cgi-bin/echo");
                let answer = support::client::Client::new()
                    .get_with(&url, &[("host", HOST)])
                    .await;
                assert_eq!(answer.unwrap().errcode(), Some(0));
            }
            let report = fake.report();
            assert_eq!(
                (report.token_calls, report.app(APPID).tokens_made),
                (starts, 1)
            );
            tokio::task::block_in_place(|| envoy.terminate());
        }
        fake.report().assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_takes_over_from_another_one_loses_no_request() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        // The sockets are handed over by their addresses, so these must be known before.
        for listener in ["wechat", "metrics"] {
            let port = free_port();
            let place =
                format!("static_resources.listeners[name={listener}].address.socket_address");
            plan.config.set(&format!("{place}.port_value"), port);
        }
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        let builder = plan.builder(&fake);
        let first = builder.clone().start().await;
        let builder = builder.taking_over_from(&first);
        let mut world = World::new(setting, fake, first);
        world.ready().await;
        let load = Load::start(&world);
        let times = ["--drain-time-s", "1", "--parent-shutdown-time-s", "3"];
        let builder = times
            .iter()
            .fold(builder, |builder, word| builder.arg(word));
        let second = builder.start().await;
        let mut first = std::mem::replace(&mut world.envoy, second);
        until(SOON, "the first one's end", || !first.is_running()).await;
        load.end().await;
        // Each process has its own shared data, and asked once; the stable endpoint gave both the same token.
        let report = world.fake.report();
        assert_eq!((report.token_calls, report.app(APPID).tokens_made), (2, 1));
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn validating_a_configuration_calls_nobody() {
    for setting in versions_and_placements() {
        let fake = FakeWeChat::start(plan(setting).settings).await;
        let builder = plan(setting).builder(&fake);
        let ended = tokio::task::block_in_place(|| builder.validate());
        assert!(ended.status.success(), "{}", ended.log);
        assert!(!ended.log.contains("event="), "{}", ended.log);
        let mut wrong = plan(setting);
        wrong.document["wait"] = json!({"timeout": "1h"});
        let builder = wrong.builder(&fake);
        let ended = tokio::task::block_in_place(|| builder.validate());
        assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
        assert!(ended.log.contains("event=config_refused"), "{}", ended.log);
        assert!(!ended.log.contains(SECRET), "{}", ended.log);
        let report = fake.report();
        assert_eq!((report.requests, report.connections), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_a_later_version_keep_the_tokens_themselves() {
    in_each_setting(|setting| async move {
        let plan = plan(setting);
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        let (mut dynamic, setting, config) = Dynamic::of(plan, &fake);
        let world = World::new(setting, fake, setting.builder(config).start().await);
        world.ready().await;
        let later = workspace().join("target/variants/wechat-token-skew.wasm");
        assert!(
            later.is_file(),
            "no {}: tools/build-variants.sh",
            later.display()
        );
        dynamic.resource().wasm_file(&later);
        dynamic.update(&world.envoy).await;
        for _ in 0..20 {
            world.ready().await;
        }
        // The refresher keeps its record, which they cannot read; one of them makes another, with the same token in it.
        let renewed = format!("event=token_renewed app={APPID} generation=1 ");
        until(SOON, "both holders", || {
            world.envoy.logs().matches(&renewed).count() == 2
        })
        .await;
        let report = world.fake.report();
        assert_eq!((report.token_calls, report.app(APPID).tokens_made), (2, 1));
        let log = world.envoy.logs();
        for trouble in ["message_ignored", "record_replaced", "lease_"] {
            assert!(!log.contains(trouble), "{log}");
        }
        world.finish().await;
    })
    .await;
}
