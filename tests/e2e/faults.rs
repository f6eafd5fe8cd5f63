//! A token endpoint in trouble: what callers see, and that it recovers.

use std::time::Duration;

use serde_json::json;
use support::wechat::{Action, FakeWeChat, Fault};

use crate::world::{plan, APPID, NEWEST, SECRET, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn after_each_transient_fault_the_waiting_caller_gets_its_answer() {
    for action in [
        Action::Reset,
        Action::Close,
        Action::Garbage,
        Action::TextHtml,
        Action::Empty,
        Action::HalfBody,
        Action::Status { code: 500 },
        Action::Status { code: 502 },
        Action::Body {
            text: "{\"access_token\":7}".to_owned(),
        },
        Action::Errcode { code: -1 },
    ] {
        let mut plan = plan(NEWEST);
        plan.document["refresh"] = json!({"backoff": {"initial": "100ms", "max": "1s"}});
        let name = format!("{action:?}");
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        fake.arm(Fault::on_token(action).times(2));
        let world = plan.start_with(fake).await;
        let answer = world.get("/cgi-bin/echo", &[]).await;
        assert_eq!(
            answer.errcode(),
            Some(0),
            "{name}: {}\n{}",
            answer.text(),
            world.envoy.logs()
        );
        world.envoy.wait_for_log("event=refresh_failed", SOON).await;
        world.fake.report().assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_call_that_hangs_ends_at_its_timeout() {
    let mut plan = plan(NEWEST);
    plan.document["weixin"] = json!({"timeout": "500ms"});
    plan.document["refresh"] = json!({"backoff": {"initial": "100ms", "max": "1s"}});
    let fake = FakeWeChat::start(plan.settings.clone()).await;
    fake.arm(Fault::on_token(Action::Hang).times(1));
    let world = plan.start_with(fake).await;
    world.ready().await;
    assert!(
        world.envoy.logs().contains("no answer in time"),
        "{}",
        world.envoy.logs()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_errcode_answers_waiting_callers_at_once_with_its_reason() {
    for code in [40164, 40013, 40125, 50004] {
        let plan = plan(NEWEST);
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        fake.arm(Fault::on_token(Action::Errcode { code }));
        let world = plan.start_with(fake).await;
        let answer = world.get("/cgi-bin/echo", &[]).await;
        assert_eq!(answer.status, 503, "{code}: {}", answer.text());
        assert_eq!(
            answer.header("x-wechat-token-error"),
            Some("refused"),
            "{code}"
        );
        assert!(
            answer.text().contains(&code.to_string()),
            "{code}: {}",
            answer.text()
        );
        assert!(
            answer.elapsed < Duration::from_secs(3),
            "{code}: {:?}",
            answer.elapsed
        );
        assert_eq!(world.fake.report().business_calls, 0, "{code}");
        // The workers are told before the line is written.
        let line = format!("event=refresh_failed app={APPID} errcode={code}");
        world.envoy.wait_for_log(&line, SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_on_unavailable_pass_the_request_goes_on_without_a_token() {
    let mut plan = plan(NEWEST);
    plan.document["on_unavailable"] = json!({"action": "pass"});
    let fake = FakeWeChat::start(plan.settings.clone()).await;
    fake.arm(Fault::on_token(Action::Errcode { code: 40013 }));
    let world = plan.start_with(fake).await;
    let answer = world
        .get(&format!("/cgi-bin/echo?from_appid={APPID}"), &[])
        .await;
    assert_eq!(answer.errcode(), Some(41001), "{}", answer.text());
    assert_eq!(world.last_target(), "/cgi-bin/echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_token_serves_while_refreshing_fails() {
    let mut plan = plan(NEWEST);
    plan.settings = plan
        .settings
        .with_token_lifetime(Duration::from_secs(8))
        .with_overlap(Duration::from_secs(2));
    let world = plan.start().await;
    world.ready().await;
    world.fake.arm(Fault::on_token(Action::Reset).times(2));
    world
        .envoy
        .wait_for_log("event=refresh_failed", Duration::from_secs(20))
        .await;
    world.ready().await;
    world
        .envoy
        .wait_for_log("generation=2", Duration::from_secs(20))
        .await;
    world.ready().await;
    assert!(!world.envoy.logs().contains(SECRET));
    world.fake.report().assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_takes_no_call_leaves_it_to_the_next_upstream() {
    for first in ["no_such_cluster", "no_host"] {
        let mut plan = plan(NEWEST);
        let empty = json!({"name": "no_host", "type": "STATIC", "connect_timeout": "1s"});
        plan.config
            .at("static_resources.clusters")
            .as_sequence_mut()
            .unwrap()
            .push(serde_norway::to_value(empty).unwrap());
        plan.document["weixin"] = json!({
            "upstreams": [{"cluster": first}, {"cluster": "wechat_token"}],
        });
        plan.document["wait"] = json!({"timeout": "20s"});
        let world = plan.start().await;
        world.ready().await;
        assert!(
            world.envoy.logs().contains("event=calls_not_sent"),
            "{first}: {}",
            world.envoy.logs()
        );
    }
}
