//! Which requests get a token, and what they look like when they arrive.

use serde_json::json;

use support::wechat::{Action, Fault};

use crate::world::{plan, settings, APPID, NEWEST, SECRET};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_token_arrives_with_a_live_one() {
    for setting in settings() {
        let world = plan(setting).start().await;
        let answer = world.get("/cgi-bin/echo?a=1&b=%20x", &[]).await;
        assert_eq!(answer.errcode(), Some(0), "{setting:?}: {}", answer.text());
        let target = world.last_target();
        assert!(
            target.starts_with("/cgi-bin/echo?a=1&b=%20x&access_token="),
            "{setting:?}: {target}"
        );
        assert_eq!(world.fake.report().app(APPID).token_calls, 1, "{setting:?}");
        world.fake.report().assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_no_token_arrives_as_it_was_sent() {
    let mut plan = plan(NEWEST);
    plan.document["paths"] = json!({"exclude": ["/cgi-bin/mine"]});
    let world = plan.start().await;
    world.ready().await;
    for path in [
        "/sns/jscode2session?appid=a&secret=b",
        "/sns/userinfo?access_token=the-users-own&openid=o",
        "/cgi-bin/mine?x=1",
        "/cgi-bin/component/api_component_token",
        "/cgi-bin/echo?component_access_token=c",
        "/cgi-bin/echo?access_token=the-callers-own",
    ] {
        world.get(path, &[]).await;
        let target = world.last_target();
        let name = path.split('?').next().unwrap();
        assert!(target.starts_with(name), "{path} arrived as {target}");
        assert_eq!(
            target.matches('=').count(),
            path.matches('=').count(),
            "{path} arrived as {target}"
        );
    }
    let named = format!("/cgi-bin/echo?from_appid={APPID}&access_token=the-callers-own");
    world.get(&named, &[("x-wechat-appid", APPID)]).await;
    let call = world.fake.calls(1).pop().unwrap();
    assert!(!call.target.contains("from_appid"), "{}", call.target);
    assert!(
        call.headers
            .iter()
            .all(|(name, _)| name != "x-wechat-appid"),
        "{:?}",
        call.headers
    );
    let report = world.fake.report();
    assert_eq!(report.violations_total, 0, "{:?}", report.violations);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_token_is_replaced_where_the_configuration_says_so() {
    let mut plan = plan(NEWEST);
    plan.document["caller_token"] = json!("replace");
    let world = plan.start().await;
    for path in [
        "/cgi-bin/echo?access_token=old&a=1",
        "/cgi-bin/echo?access%5Ftoken=old&a=1&access_token=older",
        "/cgi-bin/echo?access_token=&a=1",
    ] {
        let answer = world.get(path, &[]).await;
        assert_eq!(answer.errcode(), Some(0), "{path}: {}", answer.text());
        let target = world.last_target();
        assert!(
            target.starts_with("/cgi-bin/echo?access_token=") && target.ends_with("&a=1"),
            "{path}: {target}"
        );
    }
    world.fake.report().assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_apps_at_once_are_never_mixed_and_an_unknown_one_is_refused() {
    for setting in settings() {
        let mut plan = plan(setting);
        let apps = [
            "wxaaaaaaaaaaaaaaaa",
            "wxbbbbbbbbbbbbbbbb",
            "wxcccccccccccccccc",
        ];
        let mut documents = Vec::new();
        for appid in apps {
            plan.settings = plan.settings.with_app(appid, SECRET);
            documents.push(json!({"appid": appid, "secret": {"env": "WECHAT_SECRET"}}));
        }
        plan.document = json!({"apps": documents, "default_app": apps[0]});
        let world = plan.start().await;
        for round in 0..30 {
            let appid = apps[round % 3];
            let expect = ("x-expect-appid", appid);
            let answer = if round % 2 == 0 {
                world
                    .get("/cgi-bin/echo", &[("x-wechat-appid", appid), expect])
                    .await
            } else {
                world
                    .get(&format!("/cgi-bin/echo?from_appid={appid}&k=v"), &[expect])
                    .await
            };
            assert_eq!(answer.errcode(), Some(0), "{setting:?}: {}", answer.text());
            assert_eq!(answer.json()["appid"], appid, "{setting:?}");
            let call = world.fake.calls(1).pop().unwrap();
            assert!(!call.target.contains("from_appid"), "{}", call.target);
            assert!(
                call.headers
                    .iter()
                    .all(|(name, _)| name != "x-wechat-appid"),
                "{:?}",
                call.headers
            );
        }
        let answer = world.get("/cgi-bin/echo", &[]).await;
        assert_eq!(answer.json()["appid"], apps[0], "the default");
        for (path, headers, reason) in [
            (
                "/cgi-bin/echo",
                vec![("x-wechat-appid", "wxunknown")],
                "unknown_app",
            ),
            ("/cgi-bin/echo?from_appid=wxunknown", vec![], "unknown_app"),
            (
                "/cgi-bin/echo?from_appid=wxaaaaaaaaaaaaaaaa",
                vec![("x-wechat-appid", "wxbbbbbbbbbbbbbbbb")],
                "app_conflict",
            ),
        ] {
            let answer = world.get(path, &headers).await;
            assert_eq!(answer.status, 400, "{setting:?} {path}");
            assert_eq!(
                answer.header("x-wechat-token-error"),
                Some(reason),
                "{setting:?} {path}"
            );
            assert_eq!(answer.errcode(), Some(-1), "{setting:?} {path}");
        }
        world.fake.report().assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_rewrites_path_and_host_keeps_the_token() {
    let mut plan = plan(NEWEST);
    plan.config.set(
        "static_resources.listeners[name=wechat].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].match.prefix",
        "/wechat/",
    );
    plan.config.set(
        "static_resources.listeners[name=wechat].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.prefix_rewrite",
        "/",
    );
    let world = plan.start().await;
    let url = world.url("/wechat/cgi-bin/echo?a=1");
    let answer = world
        .client
        .get_with(&url, &[("host", "localhost")])
        .await
        .unwrap();
    assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
    assert!(world
        .last_target()
        .starts_with("/cgi-bin/echo?a=1&access_token="));
    world.fake.report().assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_token_endpoints_and_a_list_of_secrets_work() {
    for api in ["stable", "classic"] {
        let mut plan = plan(NEWEST);
        plan.document = json!({"apps": [{
            "appid": APPID, "token_api": api, "sole_refresher": true,
            "secret": [{"value": "0000000000000000000000000000wrong"}, {"env": "WECHAT_SECRET"}],
        }]});
        let world = plan.start().await;
        world.ready().await;
        let path = if api == "stable" {
            "/cgi-bin/stable_token"
        } else {
            "/cgi-bin/token"
        };
        assert_eq!(
            world.fake.report().count(path, "0"),
            1,
            "{api}: {:?}",
            world.fake.report().endpoints
        );
        world.fake.report().assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_route_retries_never_gets_the_default_apps_token() {
    const RETRY_ON: &str =
        "static_resources.listeners[name=wechat].filter_chains[0].filters[0].typed_config.\
                            route_config.virtual_hosts[0].routes[0].route.retry_policy.retry_on";
    const OTHER: &str = "wxbbbbbbbbbbbbbbbb";
    let mut plan = plan(NEWEST);
    plan.settings = plan.settings.with_app(OTHER, "another-secret");
    plan.config.set(RETRY_ON, "5xx,retriable-headers");
    let secret = json!({"env": "WECHAT_SECRET"});
    plan.document = json!({
        "apps": [{"appid": APPID, "secret": secret}, {"appid": OTHER, "secret": secret}],
        "default_app": APPID,
        "on_unavailable": {"action": "pass"},
    });
    let world = plan.start().await;
    world.ready().await;
    let expect = ("x-expect-appid", OTHER);
    for (path, named) in [
        ("/cgi-bin/echo", vec![("x-wechat-appid", OTHER), expect]),
        ("/cgi-bin/echo?from_appid=wxbbbbbbbbbbbbbbbb", vec![expect]),
    ] {
        // WeChat refuses that app a token, so the first attempt goes without; it fails, and Envoy sends another.
        world.fake.arm(Fault::on_business(Action::Reset).times(1));
        let before = world.fake.report().requests;
        world.get(path, &named).await;
        let calls = world.fake.calls(2);
        assert!(world.fake.report().requests >= before + 2, "{path}");
        for call in calls {
            assert!(!call.target.contains("access_token"), "{}", call.target);
        }
    }
}
