//! Request targets that no proper client sends: what Envoy makes of them, and that none of them gets a token where none
//! belongs.

use support::client::raw::Raw;

use crate::settings::in_each_setting;
use crate::world::{plan, Exchange, World, HOST, MARK};

/// Refused by Envoy before the plugin sees it.
const REFUSED: [(&str, &str, u16); 27] = [
    // A fragment, wherever it stands: what is behind it could be read in two ways.
    ("GET", "/cgi-bin/echo#fragment", 400),
    ("GET", "/cgi-bin/echo?a=1#access_token=x", 400),
    ("GET", "/cgi-bin/echo#?access_token=x", 400),
    ("GET", "/sns#/../cgi-bin/echo", 400),
    ("GET", "/#", 400),
    ("GET", "#", 400),
    ("GET", "http://api.weixin.qq.com/sns/auth#x", 400),
    // Not a path, nor the URL of a proxy's client.
    ("GET", "", 400),
    ("GET", "*", 400),
    ("GET", "cgi-bin/echo", 400),
    ("GET", "?a=1", 400),
    ("GET", "api.weixin.qq.com:80", 400),
    ("GET", "ftp://api.weixin.qq.com/cgi-bin/echo", 400),
    ("GET", "https://api.weixin.qq.com/cgi-bin/echo", 403),
    ("GET", "http://api.weixin.qq.com?a=1", 404),
    ("OPTIONS", "*", 404),
    ("CONNECT", "api.weixin.qq.com:80", 404),
    ("GET", "http://other.example/cgi-bin/echo", 421),
    // Slashes in disguise: path_with_escaped_slashes_action.
    ("GET", "/sns%2Fuserinfo", 400),
    ("GET", "/cgi-bin%5Cecho", 400),
    // Bytes that do not belong into a target.
    ("GET", "/cgi-bin/echo?a= b", 400),
    ("GET", "/cgi-bin/echo?a=\tb", 400),
    ("GET", "/cgi-bin/echo?a=\0", 400),
    ("GET", "/cgi-bin/echo%00", 400),
    ("GET", "/cgi-bin/echo?a=\u{7f}", 400),
    ("GET", "/cgi-bin/echo?a=你", 400),
    ("GET", "/cgi-bin/echo?a=\"<>^`{|}", 400),
];

/// Comes to WeChat like this; `T` is our token.
const ARRIVING: [(&str, &str); 26] = [
    // What an HTTP proxy's client sends.
    (
        "http://api.weixin.qq.com/cgi-bin/echo?a=1",
        "/cgi-bin/echo?a=1&access_token=T",
    ),
    (
        "http://user@api.weixin.qq.com/cgi-bin/echo",
        "/cgi-bin/echo?access_token=T",
    ),
    ("http://api.weixin.qq.com", "/?access_token=T"),
    ("http://api.weixin.qq.com/sns/auth", "/sns/auth"),
    // One spelling for each path: normalize_path and merge_slashes.
    ("//cgi-bin//echo", "/cgi-bin/echo?access_token=T"),
    ("/cgi-bin/./echo", "/cgi-bin/echo?access_token=T"),
    ("/cgi-bin/x/../echo", "/cgi-bin/echo?access_token=T"),
    ("/cgi-bin\\echo", "/cgi-bin/echo?access_token=T"),
    (
        "//api.weixin.qq.com/cgi-bin/echo",
        "/api.weixin.qq.com/cgi-bin/echo?access_token=T",
    ),
    (
        "/cgi-bin/echo/\"<>{}",
        "/cgi-bin/echo/%22%3C%3E%7B%7D?access_token=T",
    ),
    // Behind which no user's path can hide.
    ("//sns//userinfo", "/sns/userinfo"),
    ("/cgi-bin/../sns/userinfo", "/sns/userinfo"),
    ("/cgi-bin/%2e%2e/sns/userinfo", "/sns/userinfo"),
    ("/../../sns/userinfo", "/sns/userinfo"),
    ("/sns\\userinfo", "/sns/userinfo"),
    ("/%73ns/userinfo", "/sns/userinfo"),
    ("/%2573ns/userinfo", "/%2573ns/userinfo"),
    ("/sns;x=1/userinfo", "/sns;x=1/userinfo"),
    ("/SNS/userinfo", "/SNS/userinfo"),
    ("/cgi-bin/token/", "/cgi-bin/token/"),
    // The first ? begins the query, and a # that is escaped begins no fragment.
    ("/cgi-bin/echo??a=1", "/cgi-bin/echo??a=1&access_token=T"),
    (
        "/cgi-bin/echo?a=1?access_token=x",
        "/cgi-bin/echo?a=1?access_token=x&access_token=T",
    ),
    (
        "/cgi-bin/echo?a=1%23x",
        "/cgi-bin/echo?a=1%23x&access_token=T",
    ),
    (
        "/cgi-bin/echo;a=1?b=2",
        "/cgi-bin/echo;a=1?b=2&access_token=T",
    ),
    // Escapes that are none, and an escaped NUL in the query.
    ("/cgi-bin/echo%?a=%", "/cgi-bin/echo%?a=%&access_token=T"),
    ("/cgi-bin/echo?a=%00", "/cgi-bin/echo?a=%00&access_token=T"),
];

async fn send(world: &World, method: &str, target: &str) -> Exchange {
    let mark = world.next_mark();
    let address = world.envoy.address("wechat");
    let mut raw = Raw::connect(address).await.unwrap();
    let headers = [("host", HOST), (MARK, mark.as_str())];
    raw.send_head(method, target, &headers).await.unwrap();
    let answer = raw.read_answer().await;
    Exchange {
        answer: answer.unwrap_or_else(|error| panic!("{target:?}: {error}")),
        call: world.marked(&mark),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_target_is_refused_or_arrives_in_its_usual_spelling() {
    in_each_setting(|setting| async move {
        let world = plan(setting).start().await;
        world.ready().await;
        for (method, target, status) in REFUSED {
            let exchange = send(&world, method, target).await;
            assert_eq!(exchange.answer.status, status, "{target:?}: {exchange:?}");
            assert!(exchange.call.is_none(), "{target:?}: {exchange:?}");
        }
        for (target, arrives) in ARRIVING {
            let exchange = send(&world, "GET", target).await;
            let arrives = arrives.replace("=T", &format!("={}", world.token()));
            assert_eq!(exchange.target(), arrives, "{target:?}");
        }
        // It is sent back as it came, by whoever answers it.
        let trace = send(&world, "TRACE", "/cgi-bin/echo").await;
        assert_eq!(trace.target(), "/cgi-bin/echo");
        world.finish().await;
    })
    .await;
}
