//! Headers and queries of callers that mean harm, or do not know what they send.

use serde_json::json;
use support::client::raw::Raw;
use support::wechat::{Action, Fault};

use crate::settings::{in_each_setting, Placement};
use crate::world::{plan, Exchange, World, APPID, HOST, MARK};

/// A call with these lines in its head, byte for byte.
async fn send(world: &World, target: &str, lines: &[u8]) -> Exchange {
    let mark = world.next_mark();
    let mut raw = Raw::connect(world.envoy.address("wechat")).await.unwrap();
    let mut head = format!("GET {target} HTTP/1.1\r\n{MARK}: {mark}\r\n").into_bytes();
    head.extend_from_slice(lines);
    head.extend_from_slice(b"\r\n");
    raw.send(&head).await.unwrap();
    let answer = raw.read_answer().await;
    Exchange {
        answer: answer.unwrap_or_else(|error| panic!("{}: {error}", lines.escape_ascii())),
        call: world.marked(&mark),
    }
}

/// As [`send`], to WeChat's name.
async fn send_home(world: &World, target: &str, line: &[u8]) -> Exchange {
    let mut lines = format!("host: {HOST}\r\n").into_bytes();
    lines.extend_from_slice(line);
    send(world, target, &lines).await
}

/// What becomes of a call for an authority.
enum Fate {
    /// Envoy answers with this status.
    Refused(u16),
    /// It goes to WeChat, under WeChat's own name and with the token.
    Ours,
    /// The same, but downstream the plugin sees what the caller wrote, which is not WeChat's name: no token.
    OursForEnvoy,
}

const AUTHORITIES: [(&[u8], Fate); 30] = [
    (b"host: api.weixin.qq.com\r\n", Fate::Ours),
    (b"host: API.WeiXin.QQ.com\r\n", Fate::Ours),
    (b"host:   api.weixin.qq.com  \r\n", Fate::Ours),
    (b"host: api.weixin.qq.com:80\r\n", Fate::Ours),
    (b"host: api.weixin.qq.com:443\r\n", Fate::Ours),
    (b"host: api.weixin.qq.com:99999\r\n", Fate::Ours),
    (b"host: localhost\r\n", Fate::OursForEnvoy),
    (b"host: api.weixin.qq.com:\r\n", Fate::OursForEnvoy),
    (b"host: api.weixin.qq.com:x\r\n", Fate::OursForEnvoy),
    (
        b"host: api.weixin.qq.com:80@evil.example\r\n",
        Fate::OursForEnvoy,
    ),
    (b"host: api.weixin.qq.com:80:80\r\n", Fate::Refused(421)),
    (b"host: api.weixin.qq.com.\r\n", Fate::Refused(421)),
    (b"host: user@api.weixin.qq.com\r\n", Fate::Refused(421)),
    (
        b"host: api.weixin.qq.com@evil.example\r\n",
        Fate::Refused(421),
    ),
    (
        b"host: evil.example:80@api.weixin.qq.com\r\n",
        Fate::Refused(421),
    ),
    (b"host: api.weixin.qq.com%00\r\n", Fate::Refused(421)),
    (b"host: xn--api-weixin.qq.com\r\n", Fate::Refused(421)),
    (b"host: [::1]\r\n", Fate::Refused(421)),
    (b"host: \r\n", Fate::Refused(421)),
    (
        b"host: evil.example\r\nhost: api.weixin.qq.com\r\n",
        Fate::Refused(421),
    ),
    (
        b"host: api.weixin.qq.com\r\nhost: evil.example\r\n",
        Fate::Refused(421),
    ),
    (
        b"host: api.weixin.qq.com\r\nhost: api.weixin.qq.com\r\n",
        Fate::Refused(421),
    ),
    (b"host: api.weixin.qq.com/evil\r\n", Fate::Refused(400)),
    (b"host: api.weixin.qq.com#evil\r\n", Fate::Refused(400)),
    (b"host: api.weixin.qq.com?evil\r\n", Fate::Refused(400)),
    (
        b"host: api.weixin.qq.com, evil.example\r\n",
        Fate::Refused(400),
    ),
    (
        b"host: api.weixin.qq.com evil.example\r\n",
        Fate::Refused(400),
    ),
    (b"host: api.weixin.qq.com\xff\r\n", Fate::Refused(400)),
    // The full stop of Chinese, which some resolvers take for a dot.
    (
        b"host: api\xe3\x80\x82weixin.qq.com\r\n",
        Fate::Refused(400),
    ),
    (b"", Fate::Refused(400)),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_confusing_authority_is_refused_or_the_call_goes_to_wechat_under_its_own_name() {
    in_each_setting(|setting| async move {
        let world = plan(setting).start().await;
        world.ready().await;
        let with_token = format!("/cgi-bin/echo?access_token={}", world.token());
        for (lines, fate) in AUTHORITIES {
            let exchange = send(&world, "/cgi-bin/echo", lines).await;
            let what = format!("{}: {:?}", lines.escape_ascii(), exchange.answer);
            let target = match fate {
                Fate::Refused(status) => {
                    assert_eq!(exchange.answer.status, status, "{what}");
                    assert!(exchange.call.is_none(), "{what}");
                    continue;
                }
                Fate::OursForEnvoy if setting.placement == Placement::Downstream => "/cgi-bin/echo",
                Fate::Ours | Fate::OursForEnvoy => &with_token,
            };
            assert_eq!(exchange.target(), target, "{what}");
            assert_eq!(exchange.arrived().header("host"), Some(HOST), "{what}");
        }
        world.finish().await;
    })
    .await;
}

/// Names of apps that are refused, in the query or in a header.
const NO_APPS: [(&str, &[u8], &str); 11] = [
    ("", b"x-wechat-appid: \xff\xfe\x80\r\n", "unknown_app"),
    (
        "",
        b"x-wechat-appid: wx0123456789abcdef\xff\r\n",
        "unknown_app",
    ),
    ("", b"x-wechat-appid:\r\n", "unknown_app"),
    ("?from_appid=%ff%fe", b"", "unknown_app"),
    ("?from_appid=wx0123456789abcdef%00", b"", "unknown_app"),
    // Line ends, which would begin a header of the caller's own where the name is put into one.
    (
        "?from_appid=wx0123456789abcdef%0d%0ax-evil:%201",
        b"",
        "unknown_app",
    ),
    (
        "?from_appid=wx0123456789abcdef%0ax-evil:%201",
        b"",
        "unknown_app",
    ),
    ("?from_appid=%0d%0a%0d%0a", b"", "unknown_app"),
    (
        "?access_token=callers-token&from_appid=wx0123456789abcdef%0d%0ax-evil:%201",
        b"",
        "unknown_app",
    ),
    (
        "?from_appid=wx0123456789abcdef&from%5fappid=wx2",
        b"",
        "app_conflict",
    ),
    (
        "?from%5Fappid=wx2",
        b"x-wechat-appid: wx0123456789abcdef\r\n",
        "app_conflict",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_and_line_ends_in_names_of_apps_get_nowhere() {
    in_each_setting(|setting| async move {
        // With several apps a name may be put into a header: `move_app_name`.
        let world = plan(setting).with_apps(&[APPID, "wx2"]).start().await;
        let named = format!("x-wechat-appid: {APPID}\r\n");
        let first = send_home(&world, "/cgi-bin/echo", named.as_bytes()).await;
        assert_eq!(first.answer.errcode(), Some(0), "{first:?}");
        for (query, line, reason) in NO_APPS {
            let exchange = send_home(&world, &format!("/cgi-bin/echo{query}"), line).await;
            exchange.assert_refused(400, reason);
            assert_eq!(exchange.answer.header("x-evil"), None, "{query}");
        }
        for line in [
            b"x-odd: \xff\xfe\x80\r\n".as_slice(),
            b"x-envoy-original-path: \xff\xfe\x80\r\n",
            b"accept: \xff\r\ncookie: \x80\r\n",
        ] {
            let lines = [named.as_bytes(), line].concat();
            let exchange = send_home(&world, "/cgi-bin/echo", &lines).await;
            assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
            let call = exchange.arrived();
            assert_eq!(call.header("x-envoy-original-path"), Some("/cgi-bin/echo"));
            assert_eq!(call.header("x-odd").is_some(), line.starts_with(b"x-odd"));
        }
        world.finish_hiding(&["callers-token"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_as_long_as_envoy_takes_and_a_thousand_parameters_get_the_token_once() {
    in_each_setting(|setting| async move {
        let world = plan(setting).start().await;
        world.ready().await;
        let token = world.token();
        let many = (0..1_000).map(|n| format!("p{n}={n}")).collect::<Vec<_>>();
        let (begin, end) = (many[..500].join("&"), many[500..].join("&"));
        let empty = ["access_token="; 1_000].join("&");
        // Envoy takes 60 KiB of headers; what the plugin adds does not count.
        let long = "x".repeat(60 * 1024 - 500);
        for (sent, arrives) in [
            (
                format!("{begin}&{end}"),
                format!("{begin}&{end}&access_token={token}"),
            ),
            (
                format!("{begin}&access%5Ftoken=&{end}&from%5Fappid={APPID}"),
                format!("{begin}&access_token={token}&{end}"),
            ),
            (empty, format!("access_token={token}")),
            (
                format!("a={long}"),
                format!("a={long}&access_token={token}"),
            ),
        ] {
            let exchange = send_home(&world, &format!("/cgi-bin/echo?{sent}"), b"").await;
            let arrives = format!("/cgi-bin/echo?{arrives}");
            assert!(exchange.target() == arrives, "{:.200}", exchange.target());
            assert_eq!(exchange.answer.errcode(), Some(0));
        }
        let exchange = send_home(&world, &format!("/cgi-bin/echo?b={long}{long}"), b"").await;
        assert_eq!(exchange.answer.status, 431);
        assert!(exchange.call.is_none());
        world.finish().await;
    })
    .await;
}

/// Spellings of the call that shows an earlier one, in all of which WeChat may take it for the same.
const RID_INFO: [&str; 9] = [
    "/cgi-bin/openapi/rid/get",
    "/cgi-bin/openapi/rid/get/",
    "/cgi-bin/openapi/rid/get?access_token=",
    "/CGI-BIN/OpenAPI/Rid/Get",
    "/cgi-bin//openapi/./rid/x/../get",
    "/cgi-bin/openapi/%72id/%67et",
    "/cgi-bin/openapi/rid/get;a=b",
    "/cgi-bin/openapi/rid/get/x",
    "/cgi-bin/openapi/rid/get%3Fa=/b?c=d",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_call_that_shows_the_token_of_an_earlier_one_is_refused_unless_it_is_allowed() {
    in_each_setting(|setting| async move {
        for allowed in [false, true] {
            let mut plan = plan(setting);
            if allowed {
                plan.document["paths"] = json!({"allow_rid_info": true});
            }
            let world = plan.start().await;
            world.ready().await;
            let limit = Action::Errcode { code: 45009 };
            world
                .fake
                .arm(Fault::on_business(limit).at("/cgi-bin/limited"));
            let refused = world.get("/cgi-bin/limited", &[]).await.text();
            let (_, rid) = refused.split_once("rid: ").expect("an rid");
            let asked = json!({"rid": rid.trim_end_matches(['"', '}'])}).to_string();
            if allowed {
                // So it is the plugin that closes this way, and nothing else.
                let shown = world.send("POST", RID_INFO[0], &[], asked.as_str()).await;
                assert!(shown.answer.text().contains(&world.token()), "{shown:?}");
            } else {
                for path in RID_INFO {
                    let exchange = world.send("POST", path, &[], asked.as_str()).await;
                    exchange.assert_refused(403, "shows_token");
                }
            }
            world.finish().await;
        }
    })
    .await;
}
