//! Several apps behind one Envoy: which one a call means, and that their tokens are never mixed.

use serde_json::json;
use support::client::concurrent;

use crate::settings::{in_each_setting, Placement};
use crate::world::{plan, Plan, HOST, MANAGER};

const A: &str = "wxaaaaaaaaaaaaaaaa";
const B: &str = "wxbbbbbbbbbbbbbbbb";
const C: &str = "wxcccccccccccccccc";

/// Calls below `/cgi-bin/echo/routed` are given the name of an app by their route.
fn with_route_for(mut plan: Plan, appid: &str) -> Plan {
    let routes = format!("{MANAGER}.route_config.virtual_hosts[name=wechat].routes");
    let mut route = plan.config.at(&routes)[0].clone();
    route["match"]["prefix"] = "/cgi-bin/echo/routed".into();
    let header = json!([{
        "header": {"key": "x-wechat-appid", "value": appid},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }]);
    route["request_headers_to_add"] = serde_norway::to_value(header).unwrap();
    let routes = plan.config.at(&routes).as_sequence_mut().unwrap();
    routes.insert(0, route);
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_gets_the_token_of_the_app_that_it_names_or_is_refused() {
    in_each_setting(|setting| async move {
        let plan = with_route_for(plan(setting).with_apps(&[A, B, C]), B);
        let world = plan.start().await;
        let header = |appid| vec![("x-wechat-appid", appid)];
        let mut served = vec![
            ("/cgi-bin/echo", header(A), A),
            ("/cgi-bin/echo?k=v", header(C), C),
            ("/cgi-bin/echo?from_appid=wxbbbbbbbbbbbbbbbb&k=v", vec![], B),
            (
                "/cgi-bin/echo?k=v&from_appid=wxccccccccccccccc%63",
                vec![],
                C,
            ),
            ("/cgi-bin/echo?from_appid=wxbbbbbbbbbbbbbbbb", header(B), B),
            (
                "/cgi-bin/echo?from_appid=wxaaaaaaaaaaaaaaaa&k=v&from_appid=wxaaaaaaaaaaaaaaaa",
                header(A),
                A,
            ),
        ];
        let mut refused = vec![
            ("/cgi-bin/echo", header("wxunknown"), "unknown_app"),
            ("/cgi-bin/echo", header(""), "unknown_app"),
            ("/cgi-bin/echo?from_appid=wxunknown", vec![], "unknown_app"),
            ("/cgi-bin/echo?from_appid=", vec![], "unknown_app"),
            (
                "/cgi-bin/echo?from_appid=wxunknown",
                header("wxunknown"),
                "unknown_app",
            ),
            (
                "/cgi-bin/echo?from_appid=wxaaaaaaaaaaaaaaaa",
                header(B),
                "app_conflict",
            ),
            (
                "/cgi-bin/echo?from_appid=wxunknown",
                header(B),
                "app_conflict",
            ),
            (
                "/cgi-bin/echo?from_appid=wxaaaaaaaaaaaaaaaa&from_appid=wxbbbbbbbbbbbbbbbb",
                header(B),
                "app_conflict",
            ),
            ("/cgi-bin/echo", vec![], "app_missing"),
        ];
        // Downstream the router adds a route's headers after the filter has run.
        if setting.placement == Placement::Upstream {
            served.extend([
                ("/cgi-bin/echo/routed", vec![], B),
                ("/cgi-bin/echo/routed", header(A), B),
                (
                    "/cgi-bin/echo/routed?from_appid=wxbbbbbbbbbbbbbbbb",
                    vec![],
                    B,
                ),
            ]);
            refused.push((
                "/cgi-bin/echo/routed?from_appid=wxaaaaaaaaaaaaaaaa",
                vec![],
                "app_conflict",
            ));
        }
        for (path, mut headers, appid) in served {
            headers.push(("x-expect-appid", appid));
            let exchange = world.call(path, &headers).await;
            assert_eq!(
                exchange.answer.json()["appid"],
                appid,
                "{path}: {exchange:?}"
            );
            let call = exchange.arrived();
            assert!(!call.target.contains("from_appid"), "{}", call.target);
            assert_eq!(call.header("x-wechat-appid"), None, "{path}");
        }
        for (path, headers, reason) in refused {
            let exchange = world.call(path, &headers).await;
            exchange.assert_refused(400, reason);
            assert_eq!(exchange.answer.header("retry-after"), None, "{path}");
        }
        // A caller with a token of its own needs none of ours, whichever app it is for.
        let own = "/cgi-bin/echo?access_token=callers-token";
        assert_eq!(world.call(own, &[]).await.target(), own);
        world.finish_hiding(&["callers-token"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_apps_at_once_are_never_mixed() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting).with_apps(&[A, B, C]);
        plan.document["default_app"] = json!(A);
        let world = plan.start_cold().await;
        let call = |n: usize| {
            let appid = [A, B, C][n % 3];
            let (path, named) = match n % 6 {
                // The default's own calls need not name it.
                3 => ("/cgi-bin/echo?k=v".to_owned(), None),
                0 | 2 | 4 => (format!("/cgi-bin/echo?from_appid={appid}"), None),
                _ => ("/cgi-bin/echo".to_owned(), Some(("x-wechat-appid", appid))),
            };
            let (client, url) = (world.client.clone(), world.url(&path));
            async move {
                let mut headers = vec![("host", HOST), ("x-expect-appid", appid)];
                headers.extend(named);
                let answer = client.get_with(&url, &headers).await.unwrap();
                (answer.json()["appid"] == appid, answer.text())
            }
        };
        // All wait together, then the rest while tokens are there.
        let (first, ()) = tokio::join!(concurrent(120, &call), async {
            world.parked(120).await;
            world.fake.wait_for_held(3, crate::world::SOON).await;
            assert_eq!(world.fake.report().business_calls, 0);
            world.fake.release();
        });
        let second = concurrent(480, &call).await;
        for (is_right, text) in first.into_iter().chain(second) {
            assert!(is_right, "{text}");
        }
        let report = world.fake.report();
        for appid in [A, B, C] {
            let app = report.app(appid);
            assert_eq!((app.business_live, app.token_calls), (200, 1), "{appid}");
        }
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_headers_that_name_different_apps_are_a_conflict() {
    in_each_setting(|setting| async move {
        let world = plan(setting).with_apps(&["wxa", "wxb"]).start().await;
        let named = [("x-wechat-appid", "wxa"), ("x-wechat-appid", "wxb")];
        let exchange = world.call("/cgi-bin/echo", &named).await;
        exchange.assert_refused(400, "app_conflict");
        world.finish().await;
    })
    .await;
}
