//! Large bodies: they stream through, and Envoy's memory does not grow by them, also while an upload waits for a token.

use support::wechat::{crc32, Action, Fault};

use crate::settings::versions_and_placements;
use crate::waiting::body;
use crate::world::{plan, World};

const MB: usize = 1_000_000;
/// WeChat's own limit is 20 MB; what is kept would hide in memory that Envoy's start needed and its allocator keeps (13 MB).
const UPLOAD: usize = 60 * MB;
/// What Envoy may need for buffers: the route's for a second attempt (4 MiB), the connections'.
const BUFFERS: u64 = 24 * MB as u64;

/// Asserts that Envoy never had so much more memory than when `before` was measured.
fn assert_not_kept(world: &World, before: u64, what: &str) {
    let grown = world.envoy.peak().saturating_sub(before);
    println!("{:?}, {what}: {} KB", world.setting, grown / 1_000);
    assert!(grown < BUFFERS, "{what}: {grown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_streams_and_one_that_waits_is_kept_by_nobody() {
    let sent = body(MB).repeat(UPLOAD / MB);
    for setting in versions_and_placements() {
        let world = plan(setting).start_cold().await;
        let sent = &sent;
        let before = world.envoy.forget_peak();
        let (parked, ()) = tokio::join!(
            world.send("POST", "/cgi-bin/echo", &[], sent.clone()),
            async {
                world.parked(1).await;
                assert_not_kept(&world, before, "waiting");
                assert_eq!(world.fake.report().business_calls, 0);
                world.fake.release();
            }
        );
        let at_once = world.send("POST", "/cgi-bin/echo", &[], sent.clone()).await;
        assert_not_kept(&world, before, "uploads");
        for exchange in [parked, at_once] {
            assert_eq!(exchange.answer.errcode(), Some(0), "{:?}", exchange.answer);
            let call = exchange.arrived();
            assert_eq!(call.body_bytes, sent.len() as u64);
            assert_eq!(call.body_crc32, crc32(sent));
        }
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_of_100_mb_streams_also_where_its_first_bytes_are_looked_at() {
    for setting in versions_and_placements() {
        let mut plan = plan(setting);
        plan.settings.png_bytes = 100 * MB;
        let world = plan.start().await;
        world.ready().await;
        let before = world.envoy.forget_peak();
        let picture = world.get("/wxa/getwxacode", &[]).await;
        assert_not_kept(&world, before, "a picture");
        assert_eq!(picture.body.len(), 100 * MB);
        assert!(picture.body[8..] == vec![0x5a; 100 * MB - 8]);
        // A text in chunks could be an error, until its beginning is seen.
        let text = format!(r#"{{"list":"{}"}}"#, "x".repeat(100 * MB));
        let body = Action::Body { text: text.clone() };
        world.fake.arm(Fault::on_business(body));
        world
            .fake
            .arm(Fault::on_business(Action::Cuts { at: vec![1, 100] }));
        let before = world.envoy.forget_peak();
        let list = world.get("/cgi-bin/user/get", &[]).await;
        assert_not_kept(&world, before, "a text");
        assert_eq!(list.header("content-length"), None, "in chunks");
        assert!(list.body == text, "{} bytes", list.body.len());
        world.finish().await;
    }
}
