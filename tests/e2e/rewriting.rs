//! Routes that rewrite path and host.

use serde_json::json;
use support::wechat::{Rule, Violation};

use crate::settings::{in_each_setting, Placement, Setting};
use crate::world::{plan, World, HOST, MANAGER};

/// The shipped route, which writes WeChat's host, also takes a prefix off the path.
async fn start(setting: Setting) -> World {
    let mut plan = plan(setting);
    let route = format!("{MANAGER}.route_config.virtual_hosts[name=wechat].routes[0]");
    plan.config
        .set(&format!("{route}.match.prefix"), "/wechat/")
        .set(&format!("{route}.route.prefix_rewrite"), "/");
    let host = format!("{route}.route.host_rewrite_literal");
    let host = plan.config.find(&host).and_then(|host| host.as_str());
    assert_eq!(host, Some(HOST));
    // Downstream the plugin sees the host that the caller sent.
    if setting.placement == Placement::Downstream {
        plan.document["weixin"] = json!({"hosts": [HOST, "localhost"]});
    }
    plan.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_rewrites_path_and_host_keeps_the_token() {
    in_each_setting(|setting| async move {
        let world = start(setting).await;
        for host in ["localhost", HOST] {
            let headers = [("host", host)];
            for (sent, arrives) in [
                ("/wechat/cgi-bin/echo", "/cgi-bin/echo?access_token="),
                (
                    "/wechat/cgi-bin/echo?a=%20&b",
                    "/cgi-bin/echo?a=%20&b&access_token=",
                ),
            ] {
                let exchange = world.send("POST", sent, &headers, "body").await;
                assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
                let call = exchange.arrived();
                assert_eq!(call.target, format!("{arrives}{}", world.token()));
                assert_eq!(call.header("host"), Some(HOST));
                // Downstream the router overwrites what the plugin wrote for the access log: docs/operations.md.
                if setting.placement == Placement::Upstream {
                    assert_eq!(call.header("x-envoy-original-path"), Some(sent));
                }
            }
            let own = "/wechat/cgi-bin/echo?access_token=callers-token";
            let exchange = world.call(own, &headers).await;
            let arrives = "/cgi-bin/echo?access_token=callers-token";
            assert_eq!(exchange.target(), arrives);
        }
        match setting.placement {
            Placement::Upstream => world.finish_hiding(&["callers-token"]).await,
            // The token is in that header, which WeChat gets; nothing else is wrong.
            Placement::Downstream => {
                let violations = world.fake.report().violations;
                let is_known = |it: &Violation| it.rule == Rule::LeakInHeader;
                assert!(violations.iter().all(is_known), "{violations:?}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_makes_a_path_without_a_token_gets_none() {
    in_each_setting(|setting| async move {
        let world = start(setting).await;
        world.get("/wechat/cgi-bin/echo", &[]).await;
        for (sent, arrives, original) in [
            (
                "/wechat/sns/userinfo?access_token=callers-token&openid=o",
                "/sns/userinfo?access_token=callers-token&openid=o",
                "/wechat/sns/userinfo?access_token=&openid=o",
            ),
            (
                "/wechat/sns/jscode2session?secret=callers-secret",
                "/sns/jscode2session?secret=callers-secret",
                "/wechat/sns/jscode2session?secret=",
            ),
            (
                "/wechat/sns/userinfo?openid=o",
                "/sns/userinfo?openid=o",
                "/wechat/sns/userinfo?openid=o",
            ),
            (
                "/wechat/cgi-bin/token?appid=a",
                "/cgi-bin/token?appid=a",
                "/wechat/cgi-bin/token?appid=a",
            ),
            (
                "/wechat/cgi-bin/stable_token",
                "/cgi-bin/stable_token",
                "/wechat/cgi-bin/stable_token",
            ),
        ] {
            let exchange = world.call(sent, &[("host", "localhost")]).await;
            assert_eq!(exchange.target(), arrives);
            // Downstream the router overwrites what the plugin wrote for the access log: docs/operations.md.
            if setting.placement == Placement::Upstream {
                let shown = exchange.arrived().header("x-envoy-original-path");
                assert_eq!(shown, Some(original));
            }
        }
        if setting.placement == Placement::Upstream {
            world.finish_hiding(&["callers-"]).await;
        }
    })
    .await;
}
