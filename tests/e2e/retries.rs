//! Routes that retry for reasons of their own, besides a rejected token.

use serde_json::json;
use support::wechat::{Action, Fault};

use crate::settings::in_each_setting;
use crate::world::{plan, APPID, MANAGER};

const OTHER: &str = "wxbbbbbbbbbbbbbbbb";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_route_retries_never_gets_the_default_apps_token() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting).with_apps(&[APPID]);
        plan.settings = plan.settings.with_app(OTHER, "another-secret");
        let retry_on = "route_config.virtual_hosts[0].routes[0].route.retry_policy.retry_on";
        plan.config
            .set(&format!("{MANAGER}.{retry_on}"), "5xx,retriable-headers");
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
            let exchange = world.call(path, &named).await;
            assert!(world.fake.report().requests >= before + 2, "{path}");
            assert_eq!(exchange.answer.errcode(), Some(41001), "{exchange:?}");
            assert_eq!(exchange.target(), "/cgi-bin/echo");
        }
        world.finish().await;
    })
    .await;
}
