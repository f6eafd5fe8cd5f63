//! What the fake WeChat calls a violation, and what it does not; token calls held and left.

#[path = "common/world.rs"]
mod common;

use std::time::Duration;

use common::{setup, setup_with, APPID, SECRET};
use support::client::{concurrent, raw::Raw, Client};
use support::wechat::{App, Outcome, Rule, Settings};

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn each_wrong_token_has_its_errcode() {
    let world = setup_with(Settings::default().with_token_lifetime(Duration::from_secs(2)));
    let url = |token: &str| {
        world
            .fake
            .url(&format!("/cgi-bin/user/get?access_token={token}"))
    };
    let world = &world;
    let errcode = |url: String| async move { world.client.get(&url).await.unwrap().errcode() };
    assert_eq!(
        errcode(world.fake.url("/cgi-bin/user/get")).await,
        Some(41001)
    );
    assert_eq!(errcode(url("")).await, Some(40014));
    assert_eq!(errcode(url("82_unknown")).await, Some(40014));
    let token = world.stable().await;
    assert_eq!(errcode(url(&token)).await, Some(0));
    assert_eq!(
        errcode(format!("{}&access_token=x", url(&token))).await,
        Some(40014)
    );
    assert_eq!(
        errcode(format!("{}&access%5Ftoken=x", url(&token))).await,
        Some(40014)
    );
    support::wait::until_some(DEADLINE, "the token's end", || async {
        (errcode(url(&token)).await == Some(42001)).then_some(())
    })
    .await;
    let report = world.fake.report();
    assert_eq!((report.errcode(41001), report.errcode(40014)), (1, 4));
    let rules: Vec<_> = report
        .violations
        .iter()
        .map(|violation| violation.rule)
        .collect();
    assert_eq!(
        rules,
        [Rule::TwoTokens, Rule::TwoTokens, Rule::ExpiredToken]
    );
    assert!(report.violations[2].late_ms.is_some());
    assert_eq!(
        report.violations_beyond(60_000).len(),
        2,
        "an expired token is tolerated, two are not"
    );
}

#[tokio::test]
async fn endpoints_without_the_apps_token_answer_and_notice_ours() {
    let world = setup();
    let token = world.stable().await;
    let get = |path: String| async move { world_get(&path).await };
    async fn world_get(url: &str) -> Option<i64> {
        Client::new().get(url).await.unwrap().errcode()
    }
    for path in [
        "/sns/jscode2session?appid=a&secret=b&js_code=c",
        "/sns/oauth2/access_token?appid=a",
        "/cgi-bin/component/api_component_token",
        "/cgi-bin/component/api_create_preauthcode?component_access_token=c",
        "/cgi-bin/clear_quota/v2",
        "/sns/userinfo?access_token=the-users-own&openid=o",
    ] {
        let errcode = get(world.fake.url(path)).await;
        assert!(matches!(errcode, None | Some(0)), "{path}: {errcode:?}");
    }
    world.fake.report().assert_clean();
    assert_eq!(get(world.fake.url("/sns/userinfo")).await, Some(41001));
    for (path, rule) in [
        (
            format!("/sns/jscode2session?access_token={token}"),
            Rule::TokenOnTokenFreePath,
        ),
        (
            format!("/sns/userinfo?access_token={token}"),
            Rule::TokenOnTokenFreePath,
        ),
        (
            format!("/cgi-bin/component/x?component_access_token=c&access_token={token}"),
            Rule::TokenBesideForeignToken,
        ),
        (
            format!("/cgi-bin/x?secret={SECRET}&access_token={token}"),
            Rule::SecretInTarget,
        ),
    ] {
        world.fake.reset();
        get(world.fake.url(&path)).await;
        let report = world.fake.report();
        assert_eq!(
            report.violations.iter().map(|v| v.rule).collect::<Vec<_>>(),
            [rule],
            "{path}"
        );
    }
    world.fake.reset();
    let answer = world
        .client
        .get(&world.fake.url("/nothing/of/wechat"))
        .await
        .unwrap();
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn another_apps_token_a_leak_in_a_header_and_a_foreign_host_are_violations() {
    let world = setup_with(Settings {
        hosts: vec!["api.weixin.qq.com".to_owned()],
        ..Settings::default()
    });
    world.fake.put_app(App::new("wx-other", "the-other-secret"));
    let token = world.stable().await;
    world.fake.reset();
    let url = world.fake.url(&format!("/cgi-bin/x?access_token={token}"));
    let original = format!("/cgi-bin/x?access_token={token}");
    let wechat = ("host", "api.weixin.qq.com");
    for (headers, rule) in [
        (vec![wechat, ("x-expect-appid", APPID)], None),
        (
            vec![wechat, ("x-expect-appid", "wx-other")],
            Some(Rule::WrongApp),
        ),
        (
            vec![wechat, ("x-envoy-original-path", original.as_str())],
            Some(Rule::LeakInHeader),
        ),
        (vec![wechat, ("x-note", SECRET)], Some(Rule::LeakInHeader)),
        (
            vec![("host", "api.weixin.qq.com.evil.example")],
            Some(Rule::WrongHost),
        ),
    ] {
        world.fake.reset();
        world.client.get_with(&url, &headers).await.unwrap();
        let report = world.fake.report();
        let rules: Vec<_> = report
            .violations
            .iter()
            .map(|violation| violation.rule)
            .collect();
        assert_eq!(rules, rule.into_iter().collect::<Vec<_>>(), "{headers:?}");
        let shown = format!("{report:?}{:?}", world.fake.calls(10));
        assert!(
            !shown.contains(&token) && !shown.contains(SECRET),
            "report and calls show no secret"
        );
    }
}

#[tokio::test]
async fn held_token_calls_wait_for_their_release_and_two_at_once_are_a_violation() {
    let world = setup();
    world.fake.hold_token_calls();
    let url = world.classic_url();
    let calls = tokio::spawn(concurrent(2, move |_| {
        let url = url.clone();
        async move { Client::new().get(&url).await.unwrap().status }
    }));
    world.fake.wait_for_held(2, DEADLINE).await;
    assert_eq!(world.fake.report().app(APPID).tokens_made, 0);
    world.fake.release();
    assert_eq!(calls.await.unwrap(), [200, 200]);
    let report = world.fake.report();
    assert_eq!(
        (
            report.token_calls_in_flight_max,
            report.token_calls_at_once_max,
            report.token_calls_held
        ),
        (2, 2, 0)
    );
    assert_eq!(
        report.violations.iter().map(|v| v.rule).collect::<Vec<_>>(),
        [Rule::ParallelTokenCalls]
    );
    world.fake.reset();
    for _ in 0..3 {
        world.classic().await;
    }
    let report = world.fake.report();
    assert_eq!(report.app(APPID).in_flight_max, 1, "one after the other");
    report.assert_clean();
}

#[tokio::test]
async fn a_token_call_whose_caller_hangs_up_is_over() {
    let world = setup();
    world.fake.hold_token_calls();
    let mut raw = Raw::connect(world.fake.address()).await.unwrap();
    let target = world.classic_url();
    let target = target
        .split_once(&world.fake.address().to_string())
        .unwrap()
        .1;
    raw.send_head("GET", target, &[("host", "api.weixin.qq.com")])
        .await
        .unwrap();
    world.fake.wait_for_held(1, DEADLINE).await;
    raw.hang_up().await;
    let outcome = || world.fake.report().token_log[0].outcome.clone();
    support::wait::until(DEADLINE, "the call's end", || {
        outcome() == Outcome::Abandoned
    })
    .await;
    world.fake.release();
    world.classic().await;
    world.fake.report().assert_clean();
}
