//! Wrong configurations: Envoy does not start, and one line says why.

use serde_json::{json, Value};
use support::wechat::FakeWeChat;

use crate::world::{plan, APPID, NEWEST, SECRET};

#[tokio::test(flavor = "multi_thread")]
async fn envoy_refuses_wrong_configurations_and_says_why() {
    let app = |extra: Value| {
        let mut app = json!({"appid": APPID, "secret": {"env": "WECHAT_SECRET"}});
        for (key, value) in extra.as_object().unwrap() {
            app[key] = value.clone();
        }
        json!({"apps": [app]})
    };
    let good = app(json!({}));
    let with = |key: &str, value: Value| {
        let mut document = good.clone();
        document[key] = value;
        document
    };
    for (document, field) in [
        (json!({}), "apps"),
        (with("no_such_field", json!(1)), "no_such_field"),
        (app(json!({"appid": ""})), "apps[0].appid"),
        (
            json!({"apps": [good["apps"][0], good["apps"][0]]}),
            "apps[1].appid",
        ),
        (with("default_app", json!("wxother")), "default_app"),
        (
            app(json!({"secret": {"env": "NOT_SET_ANYWHERE"}})),
            "NOT_SET_ANYWHERE",
        ),
        (
            app(json!({"secret": {"env": "WECHAT_SECRET", "value": "x"}})),
            "apps[0].secret",
        ),
        (app(json!({"token_api": "classic"})), "sole_refresher"),
        (app(json!({"kind": "wecom"})), "reserved"),
        (
            with("wait", json!({"timeout": "5 minutes"})),
            "wait.timeout",
        ),
        (
            with("wait", json!({"max_requests": 0})),
            "wait.max_requests",
        ),
        (
            with("weixin", json!({"hosts": ["https://api.weixin.qq.com/"]})),
            "weixin.hosts[0]",
        ),
        (with("redis", json!({"cluster": "r"})), "redis"),
    ] {
        let mut plan = plan(NEWEST);
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        plan.document = document.clone();
        let ended = plan.builder(&fake).expect_refused().await;
        assert!(!ended.status.success(), "{document}");
        let lines: Vec<_> = ended
            .log
            .lines()
            .filter(|line| line.contains("event=config_refused"))
            .collect();
        assert_eq!(lines.len(), 1, "{document}: {}", ended.log);
        assert!(lines[0].contains(field), "{document}: {}", lines[0]);
        assert!(!ended.log.contains(SECRET), "{document}");
        assert_eq!(fake.report().requests, 0, "{document}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_root_id_is_refused() {
    let mut plan = plan(NEWEST);
    plan.config.set(
        "bootstrap_extensions[0].typed_config.config.root_id",
        "refrsher",
    );
    let fake = FakeWeChat::start(plan.settings.clone()).await;
    let ended = plan.builder(&fake).expect_refused().await;
    assert!(
        ended
            .log
            .contains("root_id: \"refrsher\" is unknown; allowed: refresher, injector"),
        "{}",
        ended.log
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_app_is_skipped_where_the_configuration_says_so() {
    let mut plan = plan(NEWEST);
    plan.document = json!({
        "apps": [
            {"appid": "wxbad", "secret": {"env": "NOT_SET_ANYWHERE"}},
            {"appid": APPID, "secret": {"env": "WECHAT_SECRET"}},
        ],
        "default_app": APPID,
        "on_bad_app": "skip",
    });
    let world = plan.start().await;
    world.ready().await;
    assert!(
        world.envoy.logs().contains("event=app_skipped"),
        "{}",
        world.envoy.logs()
    );
    let answer = world
        .get("/cgi-bin/echo", &[("x-wechat-appid", "wxbad")])
        .await;
    assert_eq!(answer.header("x-wechat-token-error"), Some("unknown_app"));
}
