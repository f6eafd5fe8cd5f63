//! Callers that bring an `access_token` of their own: kept or replaced, as the configuration says for all or for one app.

use serde_json::json;

use crate::settings::{in_each_setting, Setting};
use crate::world::{plan, World};

const KEEPS: &str = "wxkeeps0000000000";
const REPLACES: &str = "wxreplaces0000000";

/// What a caller sends, and what arrives where its token is kept and where it is replaced; `T` is our token.
const CASES: [(&str, &str, &str); 9] = [
    (
        "/cgi-bin/echo?access_token=callers-token-1&a=1",
        "/cgi-bin/echo?access_token=callers-token-1&a=1",
        "/cgi-bin/echo?access_token=T&a=1",
    ),
    (
        "/cgi-bin/echo?a=%20&access_token=callers-token-2",
        "/cgi-bin/echo?a=%20&access_token=callers-token-2",
        "/cgi-bin/echo?a=%20&access_token=T",
    ),
    (
        "/cgi-bin/echo?access%5Ftoken=callers-token-3",
        "/cgi-bin/echo?access%5Ftoken=callers-token-3",
        "/cgi-bin/echo?access_token=T",
    ),
    (
        "/cgi-bin/echo?access_token=",
        "/cgi-bin/echo?access_token=T",
        "/cgi-bin/echo?access_token=T",
    ),
    (
        "/cgi-bin/echo?b=1&access_token&a=1",
        "/cgi-bin/echo?b=1&access_token=T&a=1",
        "/cgi-bin/echo?b=1&access_token=T&a=1",
    ),
    (
        "/cgi-bin/echo?access_token=&a=1&access%5ftoken=",
        "/cgi-bin/echo?access_token=T&a=1",
        "/cgi-bin/echo?access_token=T&a=1",
    ),
    // Ours, which the caller saw somewhere: it is not the caller's own.
    (
        "/cgi-bin/echo?access_token=T&a=1",
        "/cgi-bin/echo?access_token=T&a=1",
        "/cgi-bin/echo?access_token=T&a=1",
    ),
    (
        "/cgi-bin/echo?a=1&access_token=callers-token-4&b=2&access_token=callers-token-5&access%5Ftoken=",
        "/cgi-bin/echo?a=1&access_token=callers-token-4&b=2&access_token=callers-token-5&access%5Ftoken=",
        "/cgi-bin/echo?a=1&access_token=T&b=2",
    ),
    (
        "/cgi-bin/echo?access_token=&access_token=callers-token-6",
        "/cgi-bin/echo?access_token=&access_token=callers-token-6",
        "/cgi-bin/echo?access_token=T",
    ),
];

/// Two apps, of which one does not do what the configuration says for all.
async fn start(setting: Setting, for_all: Option<&str>, other: (&str, &str)) -> World {
    let mut plan = plan(setting).with_apps(&[KEEPS, REPLACES]);
    if let Some(for_all) = for_all {
        plan.document["caller_token"] = json!(for_all);
    }
    let apps = plan.document["apps"].as_array_mut().unwrap();
    let app = apps.iter_mut().find(|app| app["appid"] == other.0).unwrap();
    app["caller_token"] = json!(other.1);
    plan.start().await
}

async fn assert_cases(world: World) {
    for appid in [KEEPS, REPLACES] {
        let named = [("x-wechat-appid", appid)];
        let call = world.call("/cgi-bin/echo", &named).await;
        let token = call.target().rsplit_once('=').unwrap().1.to_owned();
        for (sent, kept, replaced) in CASES {
            let arrives = if appid == KEEPS { kept } else { replaced };
            let ours = |path: &str| path.replace("=T", &format!("={token}"));
            let exchange = world.call(&ours(sent), &named).await;
            assert_eq!(exchange.target(), ours(arrives), "{appid}: {sent}");
            let is_ours = arrives.contains("=T");
            assert_eq!(
                exchange.answer.errcode(),
                Some(if is_ours { 0 } else { 40014 })
            );
            let original = exchange.arrived().header("x-envoy-original-path");
            let shown = original.expect("the caller's path without its token");
            assert!(!shown.contains("callers-token"), "{sent}: {shown}");
        }
    }
    let report = world.fake.report();
    // The fake minds more than one token in a call, also where it was the caller who sent them.
    assert_eq!(report.violations_total, 2, "{:?}", report.violations);
    world.fake.reset();
    world.finish_hiding(&["callers-token"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_token_is_kept_unless_its_app_says_otherwise() {
    in_each_setting(|setting| async move {
        assert_cases(start(setting, None, (REPLACES, "replace")).await).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_token_is_replaced_unless_its_app_says_otherwise() {
    in_each_setting(|setting| async move {
        assert_cases(start(setting, Some("replace"), (KEEPS, "keep")).await).await;
    })
    .await;
}
