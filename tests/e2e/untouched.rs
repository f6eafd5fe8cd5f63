//! Calls that take no token of ours arrive byte for byte as they were sent, and with them no secret gets into a log.

use serde_json::json;
use support::wechat::crc32;

use crate::settings::in_each_setting;
use crate::world::{plan, Plan, APPID, HOST, MANAGER};

/// What arrives as it was sent: the path, and how `x-envoy-original-path` shows it where a log must not have the whole.
const UNTOUCHED: [(&str, Option<&str>); 21] = [
    (
        "/cgi-bin/token?grant_type=client_credential&appid=wx1&secret=callers-secret-1",
        Some("/cgi-bin/token?grant_type=client_credential&appid=wx1&secret="),
    ),
    ("/cgi-bin/token?appid=wx1", None),
    ("/cgi-bin/stable_token", None),
    ("/cgi-bin/component/api_component_token", None),
    (
        "/cgi-bin/clear_quota/v2?appid=wx1&appsecret=callers-secret-2",
        Some("/cgi-bin/clear_quota/v2?appid=wx1&appsecret="),
    ),
    (
        "/sns/jscode2session?appid=wx1&secret=callers-secret-3&js_code=c&grant_type=authorization_code",
        Some("/sns/jscode2session?appid=wx1&secret=&js_code=c&grant_type=authorization_code"),
    ),
    (
        "/sns/oauth2/access_token?appid=wx1&s%65cret=callers-secret-4&code=c%20d",
        Some("/sns/oauth2/access_token?appid=wx1&s%65cret=&code=c%20d"),
    ),
    (
        "/sns/oauth2/refresh_token?appid=wx1&refresh_token=callers-token-1",
        Some("/sns/oauth2/refresh_token?appid=wx1&refresh_token="),
    ),
    (
        "/sns/userinfo?access_token=callers-token-2&openid=o&lang=zh_CN",
        Some("/sns/userinfo?access_token=&openid=o&lang=zh_CN"),
    ),
    (
        "/sns/auth?openid=o&access_token=callers-token-3",
        Some("/sns/auth?openid=o&access_token="),
    ),
    ("/sns/auth?openid=o", None),
    ("/sns", None),
    ("/SNS/userinfo?openid=o", None),
    ("/cgi-bin/mine?x=1&&y=%2f+", None),
    (
        "/cgi-bin/mine?access_token=callers-token-4",
        Some("/cgi-bin/mine?access_token="),
    ),
    (
        "/cgi-bin/component/api_create_preauthcode?component_access_token=callers-token-5",
        Some("/cgi-bin/component/api_create_preauthcode?component_access_token="),
    ),
    (
        "/cgi-bin/service/get_permanent_code?suite_access_token=callers-token-6&a=1",
        Some("/cgi-bin/service/get_permanent_code?suite_access_token=&a=1"),
    ),
    (
        "/cgi-bin/service/get_login_info?a=1&provider_access_token=callers-token-7",
        Some("/cgi-bin/service/get_login_info?a=1&provider_access_token="),
    ),
    (
        "/cgi-bin/echo?component_access_token=callers-token-8&access_token=callers-token-9",
        Some("/cgi-bin/echo?component_access_token=&access_token="),
    ),
    ("/cgi-bin/echo?component_access_token=", None),
    (
        "/cgi-bin/echo?b=2&&access_token=callers-token-10&a=%20+",
        Some("/cgi-bin/echo?b=2&&access_token=&a=%20+"),
    ),
];

/// What the shipped Envoy adds to a request by itself.
const ENVOYS: [&str; 4] = [
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-original-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Another virtual host that leads to the same cluster, without rewriting the host.
fn with_another_host(mut plan: Plan) -> Plan {
    plan.config.push(
        &format!("{MANAGER}.route_config.virtual_hosts"),
        json!({
            "name": "other", "domains": ["other.example"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "wechat_api"}}],
        }),
    );
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_no_token_of_ours_arrives_byte_for_byte_as_it_was_sent() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        plan.document["paths"] = json!({"exclude": ["/cgi-bin/mine"]});
        let world = plan.start().await;
        world.ready().await;
        for (path, original) in UNTOUCHED {
            for (method, body) in [("GET", ""), ("POST", r#"{"secret":"callers-secret-5"}"#)] {
                let own = [("x-own", "kept"), ("content-type", "text/plain")];
                let exchange = world.send(method, path, &own, body).await;
                let call = exchange.arrived();
                assert_eq!((call.method.as_str(), call.target.as_str()), (method, path));
                assert_eq!(call.header("x-envoy-original-path"), original, "{path}");
                assert_eq!(call.header("host"), Some(HOST), "{path}");
                assert_eq!(call.header("x-own"), Some("kept"), "{path}");
                assert_eq!(call.header("content-type"), Some("text/plain"), "{path}");
                assert_eq!(call.body_crc32, crc32(body.as_bytes()), "{path}");
                let known = [
                    "content-length",
                    "content-type",
                    "host",
                    "x-envoy-original-path",
                    "x-own",
                    "x-test-call",
                ];
                for (name, _) in &call.headers {
                    let name = name.as_str();
                    assert!(known.contains(&name) || ENVOYS.contains(&name), "{name}");
                }
            }
        }
        assert_eq!(
            world.fake.report().app(APPID).token_calls,
            1,
            "the plugin's"
        );
        world
            .finish_hiding(&["callers-token-", "callers-secret-"])
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_an_app_stays_where_no_token_of_ours_belongs_and_goes_with_the_callers_own() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        plan.document["paths"] = json!({"exclude": ["/cgi-bin/mine"]});
        let world = plan.start().await;
        for (sent, arrives, header) in [
            (
                "/sns/auth?from_appid=wx1&a=1",
                "/sns/auth?from_appid=wx1&a=1",
                Some("wx1"),
            ),
            (
                "/cgi-bin/mine?from_appid=wx1",
                "/cgi-bin/mine?from_appid=wx1",
                Some("wx1"),
            ),
            (
                "/cgi-bin/echo?suite_access_token=s&from_appid=wx1",
                "/cgi-bin/echo?suite_access_token=s&from_appid=wx1",
                Some("wx1"),
            ),
            (
                "/cgi-bin/echo?from_appid=wx0123456789abcdef&access_token=callers-token",
                "/cgi-bin/echo?access_token=callers-token",
                None,
            ),
        ] {
            let appid = header.unwrap_or(APPID);
            let exchange = world.call(sent, &[("x-wechat-appid", appid)]).await;
            assert_eq!(exchange.target(), arrives);
            assert_eq!(
                exchange.arrived().header("x-wechat-appid"),
                header,
                "{sent}"
            );
        }
        world.finish_hiding(&["callers-token"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_another_host_is_left_alone_and_one_to_no_host_of_this_envoy_goes_nowhere() {
    in_each_setting(|setting| async move {
        let world = with_another_host(plan(setting)).start().await;
        world.ready().await;
        for path in [
            "/cgi-bin/echo?a=1&from_appid=wx1",
            "/cgi-bin/echo?access_token=",
            "/sns/jscode2session?secret=b",
        ] {
            let headers = [("host", "other.example"), ("x-wechat-appid", "wx1")];
            let exchange = world.call(path, &headers).await;
            let call = exchange.arrived();
            assert_eq!(call.target, path);
            assert_eq!(call.header("host"), Some("other.example"), "{path}");
            assert_eq!(call.header("x-wechat-appid"), Some("wx1"), "{path}");
            assert_eq!(call.header("x-envoy-original-path"), None, "{path}");
        }
        for host in [
            "api.weixin.qq.com.other.example",
            "api.weixin.qq.com.",
            "xapi.weixin.qq.com",
        ] {
            let exchange = world.call("/cgi-bin/echo", &[("host", host)]).await;
            assert_eq!(exchange.answer.status, 421, "{host}");
            assert!(exchange.call.is_none(), "{host}: {:?}", exchange.call);
        }
        world.finish().await;
    })
    .await;
}
