//! Every scripted fault, as the caller meets it; and the control API, which arms them from outside.

#[path = "common/world.rs"]
mod common;

use std::io::ErrorKind;
use std::time::Duration;

use common::{setup, World, APPID, SECRET};
use serde_json::{json, Value};
use support::client::{raw::Raw, Answer, Client, ClientError};
use support::wechat::{Action, Fault, Outcome, Scope};

/// A business call over a connection of its own.
async fn open(world: &World) -> Raw {
    let mut raw = Raw::connect(world.fake.address()).await.unwrap();
    raw.send_head("GET", "/cgi-bin/user/get", &[("host", "api.weixin.qq.com")])
        .await
        .unwrap();
    raw
}

/// What a business call meets when this goes wrong once.
async fn with_fault(world: &World, action: Action) -> Result<Answer, ClientError> {
    world.fake.arm(Fault::on_business(action).times(1));
    world.client.get(&world.fake.url("/cgi-bin/user/get")).await
}

#[tokio::test]
async fn latency_delays_the_right_reply() {
    let world = setup();
    let answer = with_fault(&world, Action::Latency { ms: 300 })
        .await
        .unwrap();
    assert_eq!(answer.errcode(), Some(41001));
    assert!(
        answer.elapsed >= Duration::from_millis(300),
        "{:?}",
        answer.elapsed
    );
}

#[tokio::test]
async fn a_hang_lasts_until_the_caller_gives_up() {
    let world = setup();
    world.fake.arm(Fault::on_token(Action::Hang).times(1));
    let patience = Duration::from_millis(200);
    let error = Client::with_timeout(patience)
        .get(&world.classic_url())
        .await
        .unwrap_err();
    assert_eq!(error, ClientError::Timeout(patience));
    let outcome = || world.fake.report().token_log[0].outcome.clone();
    support::wait::until(Duration::from_secs(10), "the call's end", || {
        outcome() == Outcome::Abandoned
    })
    .await;
    assert_eq!(world.fake.report().faults["hang"], 1);
    world.classic().await;
    world.fake.report().assert_clean();
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_close_is_a_close() {
    let world = setup();
    world.fake.arm(Fault::on_business(Action::Reset).times(1));
    let error = open(&world).await.read_to_end().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    world.fake.arm(Fault::on_business(Action::Close).times(1));
    assert!(open(&world).await.read_to_end().await.unwrap().is_empty());
    assert_eq!(
        open(&world).await.read_answer().await.unwrap().errcode(),
        Some(41001)
    );
}

#[tokio::test]
async fn garbage_is_no_http() {
    let world = setup();
    world.fake.arm(Fault::on_business(Action::Garbage).times(2));
    let bytes = open(&world).await.read_to_end().await.unwrap();
    assert!(
        !bytes.is_empty() && !bytes.starts_with(b"HTTP"),
        "{bytes:?}"
    );
    assert!(matches!(
        world.client.get(&world.fake.url("/wxa/x")).await,
        Err(ClientError::Broken(_))
    ));
}

#[tokio::test]
async fn pages_statuses_and_bodies_replace_the_reply() {
    let world = setup();
    let page = with_fault(&world, Action::TextHtml).await.unwrap();
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=gbk"))
    );
    assert!(std::str::from_utf8(&page.body).is_err(), "GBK is no UTF-8");
    let empty = with_fault(&world, Action::Empty).await.unwrap();
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    for code in [500, 502] {
        assert_eq!(
            with_fault(&world, Action::Status { code })
                .await
                .unwrap()
                .status,
            code
        );
    }
    let body = with_fault(
        &world,
        Action::Body {
            text: "{\"access_token\":".to_owned(),
        },
    )
    .await
    .unwrap();
    assert_eq!(body.text(), "{\"access_token\":");
    for code in [-1, 40001, 45009, 89503] {
        let answer = with_fault(&world, Action::Errcode { code }).await.unwrap();
        assert_eq!((answer.status, answer.errcode()), (200, Some(code)));
        assert_eq!(world.fake.report().errcode(code), 1);
    }
    let report = world.fake.report();
    assert_eq!(
        (
            report.count("/cgi-bin/user/get", "fault:status"),
            report.faults["status"]
        ),
        (2, 2)
    );
}

#[tokio::test]
async fn half_a_body_breaks_off() {
    let world = setup();
    assert!(matches!(
        with_fault(&world, Action::HalfBody).await,
        Err(ClientError::Broken(_))
    ));
    world
        .fake
        .arm(Fault::on_business(Action::HalfBody).times(1));
    let error = open(&world).await.read_answer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    world
        .fake
        .arm(Fault::on_business(Action::HalfBody).times(1));
    let bytes = open(&world).await.read_to_end().await.unwrap();
    assert!(
        bytes.starts_with(b"HTTP/1.1 200") && bytes.ends_with(b"\"errmsg\":\"access_token "),
        "{bytes:?}"
    );
}

#[tokio::test]
async fn cuts_make_one_chunk_each() {
    let world = setup();
    world.fake.arm(
        Fault::on_business(Action::Cuts {
            at: vec![1, 2, 9, 9, 100_000],
        })
        .times(2),
    );
    let mut raw = Raw::connect(world.fake.address()).await.unwrap();
    let headers = [("host", "api.weixin.qq.com"), ("connection", "close")];
    raw.send_head("GET", "/cgi-bin/user/get", &headers)
        .await
        .unwrap();
    let text = String::from_utf8(raw.read_to_end().await.unwrap()).unwrap();
    assert!(text.contains("transfer-encoding: chunked"), "{text}");
    assert!(
        text.contains("\r\n\r\n1\r\n{\r\n1\r\n\"\r\n7\r\nerrcode\r\n"),
        "{text}"
    );
    let answer = open(&world).await.read_answer().await.unwrap();
    assert_eq!(answer.errcode(), Some(41001));
}

#[tokio::test]
async fn a_keepalive_close_comes_after_the_right_reply_without_a_word() {
    let world = setup();
    world
        .fake
        .arm(Fault::on_business(Action::KeepaliveClose).times(1));
    let mut raw = open(&world).await;
    let answer = raw.read_answer().await.unwrap();
    assert_eq!(
        (answer.errcode(), answer.header("connection")),
        (Some(41001), None)
    );
    assert!(raw.read_to_end().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_processed_fault_loses_only_the_reply() {
    let world = setup();
    let before = world.classic().await;
    world
        .fake
        .arm(Fault::on_token(Action::Reset).times(1).processed());
    assert!(world.client.get(&world.classic_url()).await.is_err());
    world.fake.arm(Fault::on_token(Action::Reset).times(1));
    assert!(world.client.get(&world.classic_url()).await.is_err());
    let report = world.fake.report();
    assert_eq!((report.app(APPID).tokens_made, report.token_calls), (2, 3));
    assert_eq!(
        report.token_log[1].outcome,
        Outcome::Fault("reset".to_owned())
    );
    assert_eq!(report.token_log[1].token, Some(2));
    assert_eq!(
        world.business(&before).await,
        0,
        "the replaced token overlaps"
    );
}

#[tokio::test]
async fn faults_hit_their_scope_and_app_only() {
    let world = setup();
    world
        .fake
        .arm(Fault::on_token(Action::Status { code: 500 }).of("wx-other"));
    world
        .fake
        .arm(Fault::new(Scope::Any, Action::Status { code: 503 }).at("/wxa/"));
    let token = world.classic().await;
    assert_eq!(world.business(&token).await, 0);
    assert_eq!(
        world
            .client
            .get(&world.fake.url("/wxa/x"))
            .await
            .unwrap()
            .status,
        503
    );
    world.fake.clear_faults();
    assert_eq!(
        world
            .client
            .get(&world.fake.url("/wxa/x"))
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test]
async fn the_control_api_does_what_the_methods_do() {
    let world = setup();
    let get = |path: &'static str| async { world.client.get(&world.control(path)).await.unwrap() };
    let world = &world;
    let post = |path: &'static str, body: Value| async move {
        let answer = world
            .client
            .post(&world.control(path), &[], body.to_string())
            .await
            .unwrap();
        (answer.status, answer.json())
    };
    assert_eq!(get("health").await.json(), json!({"ok": true}));
    let faults = json!([{"on": "token", "action": {"errcode": {"code": -1}}, "times": 1}]);
    assert_eq!(
        post("faults", faults.clone()).await,
        (200, json!({"armed": 1}))
    );
    assert_eq!(get("faults").await.json()[0]["times"], 1);
    assert_eq!(
        world
            .client
            .get(&world.classic_url())
            .await
            .unwrap()
            .errcode(),
        Some(-1)
    );
    let token = world.classic().await;
    assert_eq!(world.business(&token).await, 0);
    let report: support::wechat::Report =
        serde_json::from_value(get("report").await.json()).unwrap();
    assert_eq!((report.token_calls, report.business_ok), (2, 1));
    let calls = get("calls?tail=1").await.json();
    assert_eq!(
        calls[0]["target"],
        format!("/cgi-bin/user/get?access_token={}...", &token[..6])
    );
    let leaks = get("secrets").await.json()["leaks"].to_string();
    assert!(leaks.contains(&token) && leaks.contains(SECRET));
    post("revoke", json!({"appid": APPID, "errcode": 40001})).await;
    assert_eq!(world.business(&token).await, 40001);
    post("gate", json!({"hold": true})).await;
    let url = world.classic_url();
    let held = tokio::spawn(async move { Client::new().get(&url).await.unwrap().status });
    world.fake.wait_for_held(1, Duration::from_secs(10)).await;
    post("gate", json!({"hold": false})).await;
    assert_eq!(held.await.unwrap(), 200);
    post(
        "app",
        json!({"appid": "wx-new", "secrets": ["the-new-secret"]}),
    )
    .await;
    assert!(get("secrets").await.text().contains("the-new-secret"));
    post("reset", json!({})).await;
    assert_eq!(get("report").await.json()["token_calls"], 0);
    assert_eq!(post("gate", json!({"open": true})).await.0, 400);
    let wrong = post("faults", json!({"on": "token", "action": "explode"})).await;
    assert!(
        wrong.0 == 400 && wrong.1["error"].as_str().unwrap().contains("explode"),
        "{wrong:?}"
    );
    assert_eq!(get("nothing").await.status, 404);
    assert_eq!(
        world
            .client
            .get(&world.fake.url("/control/report"))
            .await
            .unwrap()
            .status,
        404
    );
}
