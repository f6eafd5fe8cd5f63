//! What HTTP has besides requests with an answer of headers and body: answers without a body, interim ones, trailers, and
//! answers that break off.

use std::time::Duration;

use serde_json::json;
use support::client::raw::Raw;
use support::client::{Answer, ClientError};

use crate::settings::{in_each_setting, versions_and_placements, Placement, Setting};
use crate::upstream::Upstream;
use crate::world::{http_options, plan, World, HOST, MANAGER};

/// An answer is held for a second at most; the rest is for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

const GOOD: &str = r#"{"errcode":0,"errmsg":"ok"}"#;

/// An answer with these lines in its head; its body ends with the connection.
fn answer(lines: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("{lines}connection: close\r\n\r\n").into_bytes();
    answer.extend_from_slice(body);
    answer
}

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

/// Answers without a body, with interim ones before them, or with bytes that are no text, by the call's path.
fn odd(path: &str) -> Vec<u8> {
    let length = format!("{JSON}content-length: {}\r\n", GOOD.len());
    let interim = |line: &str| {
        let mut bytes = format!("HTTP/1.1 {line}\r\n\r\n").into_bytes();
        bytes.extend(answer(&length, GOOD.as_bytes()));
        bytes
    };
    match path {
        "head" => answer(&length, b""),
        "none" => answer("HTTP/1.1 204 No Content\r\n", b""),
        "same" => answer("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n", b""),
        "continue" => interim("100 Continue"),
        "hints" => interim("103 Early Hints\r\nlink: </a>; rel=preload"),
        "empty" => answer(&format!("{JSON}content-length: 0\r\n"), b""),
        "untold" => answer("HTTP/1.1 200 OK\r\n", GOOD.as_bytes()),
        "bytes" => {
            let mut bytes = b"HTTP/1.1 200 OK\r\nx-odd: \xff\xfe\x80\r\ncontent-type: application/json; \xe4\xbd\r\n".to_vec();
            bytes.extend(answer("", GOOD.as_bytes()));
            bytes
        }
        _ => answer(&length, GOOD.as_bytes()),
    }
}

/// The last part of a path in a request's head.
fn name(head: &str) -> &str {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

async fn call(world: &World, method: &str, name: &str) -> Result<Answer, ClientError> {
    let (client, url) = (&world.client, world.url(&format!("/cgi-bin/{name}")));
    let headers = [("host", HOST)];
    client
        .call(method, &url, &headers, Default::default())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_and_interim_ones_pass_at_once() {
    in_each_setting(|setting| async move {
        let upstream = Upstream::start(|head| odd(name(head))).await;
        let world = plan(setting).to(&upstream).start().await;
        for (method, name, status, body) in [
            ("HEAD", "head", 200, ""),
            ("GET", "none", 204, ""),
            ("GET", "same", 304, ""),
            ("GET", "continue", 200, GOOD),
            ("GET", "hints", 200, GOOD),
            ("GET", "empty", 200, ""),
            ("GET", "untold", 200, GOOD),
            ("GET", "bytes", 200, GOOD),
        ] {
            let answer = call(&world, method, name).await.unwrap();
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (status, body),
                "{name}"
            );
            assert!(answer.elapsed < AT_ONCE, "{name}: {:?}", answer.elapsed);
            let request = upstream.last().unwrap();
            let target = format!("/cgi-bin/{name}?access_token={}", world.token());
            assert_eq!(request.target(), target);
            if name == "head" {
                let length = GOOD.len().to_string();
                assert_eq!(answer.header("content-length"), Some(length.as_str()));
            }
            if name == "bytes" {
                assert_eq!(answer.headers["x-odd"].as_bytes(), b"\xff\xfe\x80");
            }
        }
        world.finish().await;
    })
    .await;
}

/// Answers that break off, by the call's path.
fn broken(path: &str) -> Vec<u8> {
    let long = "content-length: 1000\r\n";
    match path {
        "nothing" => Vec::new(),
        "head" => b"HTTP/1.1 200 OK\r\ncontent-ty".to_vec(),
        "json" => answer(&format!("{JSON}{long}"), b"{\"errc"),
        "beginning" => answer(&format!("{JSON}{long}"), b""),
        "chunk" => answer(
            &format!("{JSON}transfer-encoding: chunked\r\n"),
            b"100\r\n{\"errc",
        ),
        "size" => answer(
            &format!("{JSON}transfer-encoding: chunked\r\n"),
            b"zz\r\n{\"errc",
        ),
        "picture" => answer(
            &format!("HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n{long}"),
            b"\x89PNG",
        ),
        "rejected" => answer(&format!("{JSON}{long}"), b"{\"errcode\":40001,"),
        _ => odd(path),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_ends_the_call_at_once_and_nothing_else() {
    in_each_setting(|setting| async move {
        let upstream = Upstream::start(|head| broken(name(head))).await;
        let world = plan(setting).to(&upstream).start().await;
        for (name, status) in [
            ("nothing", Some(503)),
            ("head", Some(502)),
            // What was held has not begun for the caller: it gets a whole answer, if a bad one.
            ("json", Some(502)),
            ("beginning", Some(502)),
            ("chunk", Some(502)),
            ("size", Some(502)),
            ("picture", None),
            ("rejected", None),
        ] {
            let begun = tokio::time::Instant::now();
            let answer = call(&world, "GET", name).await;
            assert!(begun.elapsed() < AT_ONCE, "{name}: {answer:?}");
            match &answer {
                Ok(answer) => assert_eq!(Some(answer.status), status, "{name}: {answer:?}"),
                Err(ClientError::Broken(_)) => assert_eq!(status, None, "{name}"),
                Err(other) => panic!("{name}: {other}"),
            }
        }
        world
            .wait_until_counted("wechat_token_rejected_total", 1)
            .await;
        let answer = call(&world, "GET", "good").await.unwrap();
        assert_eq!(answer.text(), GOOD);
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_waits_for_100_continue_gets_it_and_its_body_arrives_with_the_token() {
    in_each_setting(|setting| async move {
        for is_wechats in [false, true] {
            let mut plan = plan(setting);
            plan.config
                .set(&format!("{MANAGER}.proxy_100_continue"), is_wechats);
            let world = plan.start_cold().await;
            let mut raw = Raw::connect(world.envoy.address("wechat")).await.unwrap();
            let headers = [
                ("host", HOST),
                ("expect", "100-continue"),
                ("content-length", "4"),
            ];
            raw.send_head("POST", "/cgi-bin/echo", &headers)
                .await
                .unwrap();
            world.parked(1).await;
            // Envoy's own comes at once, WeChat's when the request has its token.
            if is_wechats {
                world.fake.release();
            }
            assert_eq!(raw.read_interim().await.unwrap(), 100, "{is_wechats}");
            assert_eq!(world.fake.report().business_calls, 0);
            world.fake.release();
            raw.send(b"body").await.unwrap();
            let answer = raw.read_answer().await.unwrap();
            assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
            assert_eq!(answer.json()["body"], "body");
            world.finish().await;
        }
    })
    .await;
}

/// Answers in chunks with a trailer, by the call's path.
fn with_trailer(path: &str) -> Vec<u8> {
    let body = match path {
        "rejected" => r#"{"errcode":40001,"errmsg":"no"}"#,
        // Where no errcode has come, more could.
        "unfinished" => r#"{"list":["#,
        _ => GOOD,
    };
    let chunks = format!("{:x}\r\n{body}\r\n0\r\nx-sum: 7\r\n\r\n", body.len());
    let head = format!("{JSON}trailer: x-sum\r\ntransfer-encoding: chunked\r\n");
    answer(&head, chunks.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_in_both_directions_and_a_rejection_before_them_is_seen() {
    in_each_setting(|setting| async move {
        trailers_pass(setting, false).await;
    })
    .await;
    for setting in versions_and_placements() {
        trailers_pass(setting, true).await;
    }
}

/// A body that was collected, to get its length, loses its trailers.
async fn trailers_pass(setting: Setting, is_collected: bool) {
    let upstream = Upstream::start(|head| with_trailer(name(head))).await;
    let mut plan = plan(setting).to(&upstream);
    if !is_collected {
        plan.without_buffer();
    }
    let enabled = json!({"enable_trailers": true});
    plan.config
        .set(&format!("{MANAGER}.http_protocol_options"), &enabled);
    http_options(&mut plan.config)["explicit_http_config"]["http_protocol_options"] =
        serde_norway::to_value(enabled).unwrap();
    let world = plan.start().await;
    for name in ["good", "unfinished", "rejected"] {
        let mut raw = Raw::connect(world.envoy.address("wechat")).await.unwrap();
        let headers = [
            ("host", HOST),
            ("te", "trailers"),
            ("trailer", "x-sent"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
        ];
        let target = format!("/cgi-bin/{name}");
        raw.send_head("POST", &target, &headers).await.unwrap();
        raw.send_chunk(b"body").await.unwrap();
        raw.send(b"0\r\nx-sent: 5\r\n\r\n").await.unwrap();
        let begun = tokio::time::Instant::now();
        let answer = raw.read_to_end().await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(begun.elapsed() < AT_ONCE, "{name}");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{answer}");
        let request = upstream.last().unwrap();
        let body = match is_collected {
            true => "body",
            false => "4\r\nbody\r\n0\r\nx-sent: 5\r\n\r\n",
        };
        assert_eq!(request.body, body);
        let is_marked = answer.contains("x-wechat-token-retry: 1");
        let is_passed = world.setting.placement == Placement::Downstream;
        assert_eq!(is_marked, name == "rejected" && is_passed, "{answer}");
    }
    world
        .wait_until_counted("wechat_token_rejected_total", 1)
        .await;
    world.finish().await;
}
