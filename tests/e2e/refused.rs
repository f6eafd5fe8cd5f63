//! Wrong configurations: Envoy does not start, and one line says why. It ends before it has workers, so their number cannot
//! matter.

use serde_json::{json, Value};
use support::wechat::FakeWeChat;

use crate::settings::{in_each_setting, settings, versions_and_placements, Setting};
use crate::world::{app, plan, APPID, SECRET};

/// Wrong documents, and what the line about each names.
fn wrong() -> Vec<(Value, &'static str)> {
    let with_app = |extra: Value| {
        let mut app = app(APPID);
        for (key, value) in extra.as_object().unwrap() {
            app[key] = value.clone();
        }
        json!({"apps": [app]})
    };
    let with = |key: &str, value: Value| {
        let mut document = json!({"apps": [app(APPID)]});
        document[key] = value;
        document
    };
    let url = "https://api.weixin.qq.com/";
    vec![
        (json!({}), "apps"),
        (with("no_such_field", json!(1)), "no_such_field"),
        (with_app(json!({"appid": ""})), "apps[0].appid"),
        (json!({"apps": [app(APPID), app(APPID)]}), "apps[1].appid"),
        (with("default_app", json!("wxother")), "default_app"),
        (
            with_app(json!({"secret": {"env": "NOT_SET_ANYWHERE"}})),
            "NOT_SET_ANYWHERE",
        ),
        (
            with_app(json!({"secret": {"env": "WECHAT_SECRET", "value": "x"}})),
            "apps[0].secret",
        ),
        (with_app(json!({"token_api": "classic"})), "sole_refresher"),
        (with_app(json!({"kind": "wecom"})), "reserved"),
        (
            with("wait", json!({"timeout": "5 minutes"})),
            "wait.timeout",
        ),
        (
            with("wait", json!({"max_requests": 0})),
            "wait.max_requests",
        ),
        (with("weixin", json!({"hosts": [url]})), "weixin.hosts[0]"),
        (with("redis", json!({"mirror": ["a b"]})), "redis.mirror[0]"),
    ]
}

/// Starts an Envoy with this document for these roles and the right one for the others; returns the lines that say why
/// the configuration was refused.
async fn refusals(setting: Setting, document: &Value, roles: &[&str]) -> Vec<String> {
    let plan = plan(setting);
    let fake = FakeWeChat::start(plan.settings.clone()).await;
    let good = plan.document.clone();
    let builder = plan.builder_with(&fake, fake.address(), |root, place| {
        let is_wrong = roles.contains(&root.root_id.as_str());
        *place = if is_wrong { document } else { &good }.clone();
    });
    let ended = builder.expect_refused().await;
    assert!(!ended.status.success(), "{setting:?} {document}");
    assert!(!ended.log.contains(SECRET), "{setting:?} {document}");
    assert_eq!(fake.report().requests, 0, "{setting:?} {document}");
    let lines = ended.log.lines();
    lines
        .filter(|line| line.contains("event=config_refused"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_refuses_wrong_configurations_and_says_why_in_one_line() {
    // What is wrong with a document is found by the plugin's own code; how it then ends is another test's matter.
    let setting = settings()[0];
    for (document, field) in wrong() {
        let lines = refusals(setting, &document, &["refresher", "injector"]).await;
        let is_named = lines.len() == 1 && lines[0].contains(field);
        assert!(is_named, "{document}: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_two_roles_refuses_by_itself() {
    let wrong = json!({"apps": [app(APPID)], "no_such_field": 1});
    for setting in versions_and_placements() {
        for role in ["refresher", "injector"] {
            let lines = refusals(setting, &wrong, &[role]).await;
            let line = format!("event=config_refused role={role} problem=\"no_such_field");
            let is_named = lines.len() == 1 && lines[0].contains(&line);
            assert!(is_named, "{setting:?}: {lines:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_root_id_is_refused() {
    for setting in versions_and_placements() {
        for is_refresher in [true, false] {
            let mut plan = plan(setting);
            let wrong = "refrsher";
            if is_refresher {
                let place = "bootstrap_extensions[0].typed_config.config.root_id";
                plan.config.set(place, wrong);
            } else {
                plan.injector()["typed_config"]["config"]["root_id"] = wrong.into();
            }
            let fake = FakeWeChat::start(plan.settings.clone()).await;
            let ended = plan.builder(&fake).expect_refused().await;
            let line = "root_id: \"refrsher\" is unknown; allowed: refresher, injector";
            assert!(ended.log.contains(line), "{setting:?}: {}", ended.log);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_app_is_skipped_where_the_configuration_says_so() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        plan.document = json!({
            "apps": [{"appid": "wxbad", "secret": {"env": "NOT_SET_ANYWHERE"}}, app(APPID)],
            "default_app": APPID,
            "on_bad_app": "skip",
        });
        let world = plan.start().await;
        world.ready().await;
        for role in ["refresher", "injector"] {
            let line = format!("event=app_skipped role={role} problem=\"apps[0].secret");
            assert!(world.envoy.logs().contains(&line), "{}", world.envoy.logs());
        }
        let bad = [("x-wechat-appid", "wxbad")];
        let exchange = world.call("/cgi-bin/echo", &bad).await;
        exchange.assert_refused(400, "unknown_app");
        world.finish().await;
    })
    .await;
}
