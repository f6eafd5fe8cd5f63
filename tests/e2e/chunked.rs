//! Bodies whose length is not told: in chunks over HTTP/1.1, and over HTTP/2 without Content-Length. WeChat refuses them; the
//! shipped route collects them first. Those whose length is told stream past, see also `large.rs`.
//!
//! A stream belongs to one worker, so nothing here can depend on their number.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use support::client::raw::Raw;
use support::client::Answer;
use support::wechat::{crc32, Call};

use crate::settings::{versions_and_placements, Placement, Setting};
use crate::waiting::body;
use crate::world::{plan, World, APPID, HOST, MARK, SOON};

const MB: usize = 1_000_000;
/// What is taken of a body without length: `max_request_bytes` of the shipped file.
const LIMIT: usize = 21 * 1024 * 1024;
/// `request_body_buffer_limit` of the shipped route.
const RESENDABLE: usize = 4 * 1024 * 1024;
/// A body is sent in pieces of this size.
const PIECE: usize = 100_000;
const PATH: &str = "/cgi-bin/echo?a=1";

#[derive(Clone, Copy, Debug)]
enum Way {
    Chunks,
    Http2,
}

/// Begins a request in chunks.
async fn begin(world: &World, mark: &str) -> Raw {
    let mut raw = Raw::connect(world.envoy.address("wechat")).await.unwrap();
    let headers = [
        ("host", HOST),
        (MARK, mark),
        ("transfer-encoding", "chunked"),
    ];
    raw.send_head("POST", PATH, &headers).await.unwrap();
    raw
}

async fn in_chunks(world: &World, mark: &str, body: &[u8]) -> Answer {
    let mut raw = begin(world, mark).await;
    for piece in body.chunks(PIECE) {
        // Who is refused need not be listened to any more.
        if raw.send_chunk(piece).await.is_err() {
            return raw.read_answer().await.unwrap();
        }
    }
    // As above.
    let _ = raw.finish_chunks().await;
    raw.read_answer().await.unwrap()
}

/// Status and body of the answer.
async fn over_http2(world: &World, mark: &str, body: &[u8]) -> (u16, Bytes) {
    let mut sender = world.http2().await;
    let pieces: Vec<_> = body.chunks(PIECE).map(Bytes::copy_from_slice).collect();
    let frames = pieces
        .into_iter()
        .map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let request = Request::post(format!("http://{HOST}{PATH}"))
        .header(MARK, mark)
        .body(StreamBody::new(stream::iter(frames)))
        .unwrap();
    let answer = tokio::time::timeout(SOON, sender.send_request(request));
    let (head, body) = answer.await.unwrap().unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), body)
}

/// Sends a body without length; status and body of the answer, and what WeChat got.
async fn send(world: &World, way: Way, body: &[u8]) -> (u16, Bytes, Option<Call>) {
    let mark = world.next_mark();
    let (status, answer) = match way {
        Way::Chunks => {
            let answer = in_chunks(world, &mark, body).await;
            (answer.status, answer.body)
        }
        Way::Http2 => over_http2(world, &mark, body).await,
    };
    (status, answer, world.marked(&mark))
}

/// The call came whole, with its length and its token.
fn assert_whole(world: &World, call: Option<Call>, sent: &[u8], what: &str) {
    let call = call.unwrap_or_else(|| panic!("{what}: WeChat got nothing"));
    let length = sent.len().to_string();
    assert_eq!(call.header("content-length"), Some(&*length), "{what}");
    assert_eq!(call.header("transfer-encoding"), None, "{what}");
    assert_eq!(call.body_bytes, sent.len() as u64, "{what}");
    assert_eq!(call.body_crc32, crc32(sent), "{what}");
    let target = format!("{PATH}&access_token={}", world.token());
    assert_eq!(call.target, target, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_length_gets_one_for_without_it_wechat_refuses_the_call() {
    for setting in versions_and_placements() {
        for has_buffer in [false, true] {
            let mut plan = plan(setting);
            if !has_buffer {
                plan.without_buffer();
            }
            let world = plan.start().await;
            world.ready().await;
            for way in [Way::Chunks, Way::Http2] {
                for size in [1, 3 * MB] {
                    let what = format!("{way:?}, {size}, {has_buffer}");
                    let sent = body(size);
                    let (status, answer, call) = send(&world, way, &sent).await;
                    if has_buffer {
                        assert_eq!(status, 200, "{what}: {answer:?}");
                        assert_whole(&world, call, &sent, &what);
                    } else {
                        assert_eq!((status, answer.len()), (412, 0), "{what}");
                        let call = call.unwrap();
                        assert_eq!(call.header("content-length"), None, "{what}");
                    }
                }
            }
            // In chunks of which there are none.
            let (status, _, call) = send(&world, Way::Chunks, b"").await;
            if has_buffer {
                assert_eq!(status, 200);
                assert_whole(&world, call, b"", "empty");
            } else {
                assert_eq!(status, 412);
            }
            world.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_limit_the_caller_gets_a_413_and_wechat_nothing() {
    for setting in versions_and_placements() {
        let world = plan(setting).start().await;
        world.ready().await;
        // The largest that is taken is larger than what can be sent again.
        let largest = body(LIMIT);
        let (status, answer, call) = send(&world, Way::Chunks, &largest).await;
        assert_eq!(status, 200, "{answer:?}");
        assert_whole(&world, call, &largest, "the largest");
        let larger = body(LIMIT + 1);
        for way in [Way::Chunks, Way::Http2] {
            let (status, answer, call) = send(&world, way, &larger).await;
            assert_eq!((status, &answer[..]), (413, &b"Payload Too Large"[..]));
            assert!(call.is_none(), "{way:?}: {call:?}");
        }
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_length_that_waits_for_a_token_arrives_whole() {
    for setting in versions_and_placements() {
        let world = plan(setting).start_cold().await;
        let waits = |size| {
            let world = &world;
            async move {
                let sent = body(size);
                let (status, answer, call) = send(world, Way::Chunks, &sent).await;
                assert_eq!(status, 200, "{size}: {answer:?}");
                assert_whole(world, call, &sent, "waited");
            }
        };
        tokio::join!(waits(1), waits(3 * MB), waits(20 * MB), async {
            world.parked(3).await;
            assert_eq!(world.fake.report().business_calls, 0);
            world.fake.release();
        });
        world.finish().await;
    }
}

/// A body that ends after its request was let go.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_there_yet_when_the_token_comes_arrives_whole() {
    for setting in versions_and_placements() {
        let world = plan(setting).start_cold().await;
        let mark = world.next_mark();
        let mut raw = begin(&world, &mark).await;
        raw.send_chunk(b"first, ").await.unwrap();
        match setting.placement {
            // The plugin comes before the buffer: the head alone waits.
            Placement::Downstream => world.parked(1).await,
            // It comes behind it: there is no request yet.
            Placement::Upstream => {
                let begun = "http.wechat.downstream_rq_active";
                world.envoy.wait_for_stat(begun, 1, SOON).await;
            }
        }
        world.fake.release();
        world.ready().await;
        assert!(world.marked(&mark).is_none());
        raw.send_chunk(b"second").await.unwrap();
        raw.finish_chunks().await.unwrap();
        let answer = raw.read_answer().await.unwrap();
        assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
        assert_whole(&world, world.marked(&mark), b"first, second", "late");
        world.finish().await;
    }
}

/// The largest body without length that is sent again. For an older Envoy's limit such a one counts twice: where it was collected, and
/// where it is kept for a second attempt.
fn resendable(setting: Setting) -> usize {
    match setting.version {
        "1.37.0" => RESENDABLE / 2,
        _ => RESENDABLE,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_length_is_sent_again_after_a_rejection() {
    for setting in versions_and_placements() {
        if setting.placement == Placement::Downstream {
            continue;
        }
        let mut plan = plan(setting);
        plan.document["wait"] = json!({"timeout": "25s"});
        let world = plan.start().await;
        world.ready().await;
        world.fake.revoke(APPID, 40001);
        let sent = body(resendable(setting));
        let (status, answer, call) = send(&world, Way::Chunks, &sent).await;
        assert_eq!(status, 200, "{answer:?}");
        assert_whole(&world, call, &sent, "sent again");
        assert_eq!(world.fake.report().errcode(40001), 1);
        world
            .wait_until_counted("wechat_token_resent_total", 1)
            .await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_its_length_goes_on_before_its_end_has_come() {
    for setting in versions_and_placements() {
        let world = plan(setting).start().await;
        world.ready().await;
        let mark = world.next_mark();
        let mut raw = Raw::connect(world.envoy.address("wechat")).await.unwrap();
        let headers = [("host", HOST), (MARK, &*mark), ("content-length", "8")];
        raw.send_head("POST", PATH, &headers).await.unwrap();
        raw.send(b"half").await.unwrap();
        let begun = "cluster.wechat_api.upstream_rq_active";
        world.envoy.wait_for_stat(begun, 1, SOON).await;
        raw.send(b"half").await.unwrap();
        let answer = raw.read_answer().await.unwrap();
        assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
        assert_whole(&world, world.marked(&mark), b"halfhalf", "streamed");
        world.finish().await;
    }
}
