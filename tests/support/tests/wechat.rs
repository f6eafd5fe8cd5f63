//! The fake WeChat over real sockets: what it answers and what it counts.

#[path = "common/world.rs"]
mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::{setup, setup_with, APPID, SECRET};
use serde_json::json;
use support::client::{concurrent, raw::Raw};
use support::wechat::{crc32, ErrcodeStyle, ErrorStyle, FakeWeChat, Outcome, Settings, TokenApi};

#[tokio::test]
async fn a_business_call_with_a_live_token_says_what_arrived() {
    let world = setup();
    let token = world.stable().await;
    let path = format!("/cgi-bin/echo?b=2&access_token={token}&a=%20x");
    let headers = [("host", "api.weixin.qq.com:80"), ("x-own", "kept")];
    let answer = world
        .client
        .post(&world.fake.url(&path), &headers, "hello")
        .await
        .unwrap();
    let got = answer.json();
    assert!(
        answer.text().starts_with(r#"{"errcode":0,"errmsg":"ok","#),
        "{}",
        answer.text()
    );
    assert_eq!(got["appid"], APPID);
    assert_eq!(got["host"], "api.weixin.qq.com");
    assert_eq!(got["body"], "hello");
    assert_eq!(got["body_bytes"], 5);
    assert_eq!(got["body_crc32"], crc32(b"hello"));
    assert_eq!(
        got["query"],
        format!("b=2&access_token={}...&a=%20x", &token[..6])
    );
    assert!(
        got["headers"]
            .as_array()
            .unwrap()
            .contains(&json!(["x-own", "kept"])),
        "{got}"
    );
    let (shown, raw) = (
        world.fake.calls(1).remove(0),
        world.fake.raw_calls(1).remove(0),
    );
    assert!(!shown.target.contains(&token), "{shown:?}");
    assert_eq!(
        (raw.target.as_str(), raw.header("x-own")),
        (path.as_str(), Some("kept"))
    );
    assert_eq!(raw.body_crc32, crc32(b"hello"));
    let report = world.fake.report();
    report.assert_clean();
    assert_eq!(
        (
            report.business_calls,
            report.business_ok,
            report.count("/cgi-bin/echo", "0")
        ),
        (1, 1, 1)
    );
    assert_eq!(report.hosts["api.weixin.qq.com"], 1);
    assert_eq!(report.app(APPID).business_live, 1);
}

#[tokio::test]
async fn a_replaced_classic_token_is_not_latest() {
    let world = setup_with(Settings::default().with_overlap(Duration::ZERO));
    let first = world.classic().await;
    let elsewhere = world.fake.issue_elsewhere(APPID, TokenApi::Classic);
    assert_eq!(world.business(&first).await, 40001);
    assert_eq!(world.business(&elsewhere).await, 0);
    assert_eq!(
        world.fake.report().token_calls,
        1,
        "calls from elsewhere are not in the report"
    );
}

#[tokio::test]
async fn wrong_token_calls_have_their_errcodes() {
    let world = setup();
    let classic = |query: &str| world.fake.url(&format!("/cgi-bin/token?{query}"));
    let table = [
        ("grant_type=client_credential&appid=wx-none&secret=s", 40013),
        (
            "grant_type=client_credential&appid=wx0123456789abcdef&secret=wrong",
            40001,
        ),
        ("grant_type=client_credential&secret=s", 41002),
        (
            "grant_type=client_credential&appid=wx0123456789abcdef",
            41004,
        ),
        ("appid=wx0123456789abcdef&secret=s", 40002),
    ];
    for (query, errcode) in table {
        let answer = world.client.get(&classic(query)).await.unwrap();
        assert_eq!(
            (answer.status, answer.errcode()),
            (200, Some(errcode)),
            "{query}"
        );
    }
    let stable = world.fake.url("/cgi-bin/stable_token");
    let table = [
        (
            json!({"grant_type": "client_credential", "appid": "wx-none", "secret": "s"}),
            40013,
        ),
        (
            json!({"grant_type": "client_credential", "appid": APPID, "secret": "wrong"}),
            40001,
        ),
        (
            json!({"grant_type": "client_credential", "secret": "s"}),
            41002,
        ),
        (
            json!({"grant_type": "client_credential", "appid": APPID}),
            41004,
        ),
        (json!({"appid": APPID, "secret": SECRET}), 40002),
        (
            json!({"grant_type": "client_credential", "appid": APPID, "secret": SECRET, "typo": 1}),
            47001,
        ),
        (json!("text"), 47001),
    ];
    for (body, errcode) in table {
        let answer = world
            .client
            .post(&stable, &[], body.to_string())
            .await
            .unwrap();
        assert_eq!(
            (answer.status, answer.errcode()),
            (200, Some(errcode)),
            "{body}"
        );
    }
    assert_eq!(
        world.client.get(&stable).await.unwrap().errcode(),
        Some(43002)
    );
    assert_eq!(
        world
            .client
            .post(&classic(""), &[], "")
            .await
            .unwrap()
            .errcode(),
        Some(43001)
    );
    let report = world.fake.report();
    assert_eq!(report.app(APPID).tokens_made, 0);
    assert_eq!(report.token_log[0].outcome, Outcome::Refused(40013));
    report.assert_clean();
}

#[tokio::test]
async fn secrets_can_be_several_and_change() {
    let world = setup();
    world
        .fake
        .set_secrets(APPID, &["the-first-secret", "the-second-secret"]);
    for (secret, errcode) in [
        ("the-first-secret", None),
        ("the-second-secret", None),
        (SECRET, Some(40001)),
    ] {
        let query =
            format!("/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={secret}");
        assert_eq!(
            world
                .client
                .get(&world.fake.url(&query))
                .await
                .unwrap()
                .errcode(),
            errcode,
            "{secret}"
        );
    }
    let leaks = world.fake.leaks();
    for secret in [SECRET, "the-first-secret", "the-second-secret"] {
        assert!(leaks.iter().any(|leak| leak == secret), "{secret}");
    }
}

#[tokio::test]
async fn errors_come_in_each_shape_and_end_with_a_rid() {
    let world = setup();
    for (text_plain, errcode) in [
        (false, ErrcodeStyle::Number),
        (true, ErrcodeStyle::Text),
        (false, ErrcodeStyle::BaseResp),
    ] {
        world.fake.set_error_style(ErrorStyle {
            text_plain,
            errcode,
        });
        let answer = world.client.get(&world.fake.url("/wxa/x")).await.unwrap();
        let body = answer.json();
        assert_eq!((answer.status, answer.errcode()), (200, Some(41001)));
        let content_type = if text_plain {
            "text/plain"
        } else {
            "application/json; encoding=utf-8"
        };
        assert_eq!(answer.header("content-type"), Some(content_type));
        assert_eq!(body["errcode"].is_string(), errcode == ErrcodeStyle::Text);
        assert_eq!(
            body["base_resp"].is_object(),
            errcode == ErrcodeStyle::BaseResp
        );
        let text = answer.text();
        let (_, rid) = text.split_once("rid: ").expect("a rid");
        let rid = rid.trim_end_matches(['"', '}']);
        assert_eq!(
            rid.split('-').map(str::len).collect::<Vec<_>>(),
            [8, 8, 8],
            "{rid}"
        );
    }
}

#[tokio::test]
async fn a_caller_off_the_whitelist_is_told_its_address() {
    let world = setup();
    let token = world.classic().await;
    world
        .fake
        .set_ip_whitelist(APPID, &[Ipv4Addr::new(10, 0, 0, 1).into()]);
    let path = format!("/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={SECRET}");
    let answer = world.client.get(&world.fake.url(&path)).await.unwrap();
    assert_eq!(answer.errcode(), Some(40164));
    assert!(answer
        .text()
        .contains("invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist rid: "));
    assert_eq!(world.business(&token).await, 40164);
    world
        .fake
        .set_ip_whitelist(APPID, &[Ipv4Addr::LOCALHOST.into()]);
    assert_eq!(world.business(&token).await, 0);
}

#[tokio::test]
async fn a_post_without_content_length_gets_a_412_with_an_empty_body() {
    let world = setup();
    let token = world.stable().await;
    for target in [
        format!("/cgi-bin/x?access_token={token}"),
        "/cgi-bin/stable_token".to_owned(),
    ] {
        let mut raw = Raw::connect(world.fake.address()).await.unwrap();
        let headers = [
            ("host", "api.weixin.qq.com"),
            ("transfer-encoding", "chunked"),
        ];
        raw.send_head("POST", &target, &headers).await.unwrap();
        raw.send_chunk(b"{\"a\":").await.unwrap();
        raw.send_chunk(b"1}").await.unwrap();
        raw.finish_chunks().await.unwrap();
        let answer = raw.read_answer().await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (412, 0), "{target}");
    }
    let mut raw = Raw::connect(world.fake.address()).await.unwrap();
    raw.send_head("POST", "/cgi-bin/x", &[("host", "api.weixin.qq.com")])
        .await
        .unwrap();
    assert_eq!(raw.read_answer().await.unwrap().status, 412);
    let report = world.fake.report();
    assert_eq!(report.count("/cgi-bin/x", "412"), 2);
    assert_eq!(report.token_log.last().unwrap().outcome, Outcome::NoLength);
}

#[tokio::test]
async fn large_bodies_arrive_whole_both_ways() {
    let world = setup();
    let token = world.stable().await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let url = world
        .fake
        .url(&format!("/cgi-bin/media/upload?access_token={token}"));
    let got = world
        .client
        .post(&url, &[], body.clone())
        .await
        .unwrap()
        .json();
    assert_eq!(
        (got["body_bytes"].as_u64(), got["body_crc32"].as_str()),
        (Some(3_000_000), Some(&*crc32(&body)))
    );
    for (query, size) in [("", 3 * 1024 * 1024), ("&size=1000", 1000)] {
        let url = world.fake.url(&format!(
            "/wxa/getwxacodeunlimit?access_token={token}{query}"
        ));
        let answer = world.client.get(&url).await.unwrap();
        assert_eq!(
            (answer.header("content-type"), answer.body.len()),
            (Some("image/png"), size)
        );
        assert!(answer.body.starts_with(b"\x89PNG"));
    }
    let refused = world
        .client
        .get(&world.fake.url("/wxa/getwxacodeunlimit"))
        .await
        .unwrap();
    assert_eq!(refused.errcode(), Some(41001));
}

#[tokio::test]
async fn a_thousand_connections_at_once_are_served() {
    let world = setup();
    let token = world.stable().await;
    let url = world.fake.url(&format!("/cgi-bin/x?access_token={token}"));
    let client = world.client.clone();
    let results = concurrent(1_000, move |_| {
        let (client, url) = (client.clone(), url.clone());
        async move { client.get(&url).await.map(|answer| answer.errcode()) }
    });
    assert!(results.await.iter().all(|result| *result == Ok(Some(0))));
    assert_eq!(world.fake.report().business_ok, 1_000);
}

#[tokio::test]
async fn a_callers_own_token_can_be_taken_in_and_all_can_be_forgotten() {
    let world = setup();
    world.fake.accept_token(APPID, "99_the-callers-own-token");
    assert_eq!(world.business("99_the-callers-own-token").await, 0);
    let token = world.stable().await;
    world.fake.revoke(APPID, 42001);
    assert_eq!(world.business(&token).await, 42001);
    world.fake.reset_tokens();
    assert_eq!(world.business("99_the-callers-own-token").await, 40014);
    assert_eq!(world.fake.report().token_calls, 0);
}

#[tokio::test]
async fn tickets_and_callback_addresses_look_like_wechats() {
    let world = setup();
    let token = world.stable().await;
    let ticket = format!("/cgi-bin/ticket/getticket?type=jsapi&access_token={token}");
    let ticket = world
        .client
        .get(&world.fake.url(&ticket))
        .await
        .unwrap()
        .json();
    assert_eq!(
        (&ticket["errcode"], &ticket["expires_in"]),
        (&json!(0), &json!(7200))
    );
    assert!(ticket["ticket"].is_string());
    let addresses = format!("/cgi-bin/getcallbackip?access_token={token}");
    let addresses = world
        .client
        .get(&world.fake.url(&addresses))
        .await
        .unwrap()
        .json();
    assert!(addresses["ip_list"].is_array());
}

#[tokio::test]
async fn an_address_in_use_is_an_error_and_a_dropped_fake_frees_its_own() {
    let first = setup().fake;
    let listen = first.address();
    let again = || {
        FakeWeChat::try_start(Settings {
            listen,
            ..Settings::default()
        })
    };
    assert_eq!(again().unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(first);
    let deadline = std::time::Duration::from_secs(10);
    support::wait::until(deadline, "the address to be free", || again().is_ok()).await;
}
