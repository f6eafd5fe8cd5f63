//! What a call looks like that gets our token.

use crate::settings::in_each_setting;
use crate::world::{plan, APPID};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_added_and_nothing_else_of_the_call_changes() {
    in_each_setting(|setting| async move {
        let world = plan(setting).start().await;
        world.ready().await;
        let token = world.token();
        for (sent, arrives) in [
            ("/cgi-bin/echo", "/cgi-bin/echo?"),
            ("/cgi-bin/echo?", "/cgi-bin/echo?"),
            ("/cgi-bin/echo?a=1&b=%20x", "/cgi-bin/echo?a=1&b=%20x&"),
            ("/cgi-bin/echo?a=1&", "/cgi-bin/echo?a=1&"),
            ("/cgi-bin/echo?&&a=+%2F&b", "/cgi-bin/echo?&&a=+%2F&b&"),
            (
                "/cgi-bin/echo?url=http%3A%2F%2Fx%3Faccess_token%3Dy",
                "/cgi-bin/echo?url=http%3A%2F%2Fx%3Faccess_token%3Dy&",
            ),
            (
                "/cgi-bin/echo?Access_Token=another-name",
                "/cgi-bin/echo?Access_Token=another-name&",
            ),
            ("/wxa/msg_sec_check?v=2", "/wxa/msg_sec_check?v=2&"),
        ] {
            let body = r#"{"text":"你好"}"#;
            let headers = [
                ("content-type", "application/json"),
                ("x-own", "kept"),
                ("x-envoy-original-path", "/forged"),
            ];
            let exchange = world.send("POST", sent, &headers, body).await;
            assert_eq!(exchange.answer.errcode(), Some(0), "{sent}: {exchange:?}");
            let call = exchange.arrived();
            assert_eq!(call.target, format!("{arrives}access_token={token}"));
            assert_eq!(call.header("x-envoy-original-path"), Some(sent));
            assert_eq!(call.header("x-own"), Some("kept"), "{sent}");
            assert_eq!(call.header("content-type"), Some("application/json"));
            assert_eq!(call.body_crc32, support::wechat::crc32(body.as_bytes()));
        }
        // WeChat's name in other spellings; Envoy writes it as the route says.
        for host in ["API.WEIXIN.QQ.COM", "api.weixin.qq.com:80"] {
            let exchange = world.call("/cgi-bin/echo", &[("host", host)]).await;
            assert_eq!(exchange.answer.errcode(), Some(0), "{host}: {exchange:?}");
            assert_eq!(exchange.arrived().header("host"), Some("api.weixin.qq.com"));
        }
        let report = world.fake.report();
        assert_eq!(report.app(APPID).token_calls, 1);
        world.finish().await;
    })
    .await;
}
