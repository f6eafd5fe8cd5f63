//! A WeChat that compresses its answers for those who accept gzip: what the watch cannot see, and what makes it see again.

use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::json;
use support::client::Answer;
use support::wait::until_some;

use crate::settings::{in_each_setting, versions_and_placements, Placement, Setting};
use crate::world::{plan, Plan, World, APPID, MANAGER, SOON};

/// What most HTTP clients send by themselves.
const ACCEPTS: [(&str, &str); 1] = [("accept-encoding", "gzip, deflate")];

/// WeChat compresses, and the shipped route lets callers ask for it or not.
fn compressing(setting: Setting, is_asked: bool) -> Plan {
    let mut plan = plan(setting);
    plan.settings.gzip = true;
    let route = format!("{MANAGER}.route_config.virtual_hosts[name=wechat].routes[0]");
    let removed = plan
        .config
        .at(&format!("{route}.request_headers_to_remove"));
    let removed = removed.as_sequence_mut().unwrap();
    assert_eq!(removed.pop(), Some("accept-encoding".into()));
    if !is_asked {
        removed.push("accept-encoding".into());
    }
    plan
}

fn unpacked(answer: &Answer) -> Answer {
    let mut body = Vec::new();
    let mut gzip = GzDecoder::new(answer.body.as_ref());
    gzip.read_to_end(&mut body).unwrap();
    Answer {
        body: body.into(),
        ..answer.clone()
    }
}

fn made(world: &World) -> u64 {
    world.fake.report().app(APPID).tokens_made
}

/// A caller that accepts gzip meets a rejected token: upstream it sees the second answer, downstream the error; the token is
/// renewed in both.
async fn assert_watched(world: World, is_asked: bool) {
    world.ready().await;
    world.fake.revoke(APPID, 40001);
    let exchange = world.call("/cgi-bin/echo", &ACCEPTS).await;
    let asked = exchange.arrived().header("accept-encoding");
    assert_eq!(
        asked.is_some(),
        is_asked,
        "WeChat compresses where it is asked to"
    );
    let answer = exchange.answer;
    assert_eq!(answer.header("content-encoding"), None);
    let errcode = match world.setting.placement {
        Placement::Upstream => 0,
        Placement::Downstream => 40001,
    };
    assert_eq!(answer.errcode(), Some(errcode), "{}", answer.text());
    until_some(SOON, "the new token serves", || async {
        let answer = world.get("/cgi-bin/echo", &ACCEPTS).await;
        (answer.errcode() == Some(0)).then_some(())
    })
    .await;
    assert_eq!(made(&world), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_rejection_passes_as_it_is_until_one_comes_plain() {
    in_each_setting(|setting| async move {
        let world = compressing(setting, true).start().await;
        world.ready().await;
        world.fake.revoke(APPID, 40001);
        for _ in 0..3 {
            let answer = world.get("/cgi-bin/echo", &ACCEPTS).await;
            assert_eq!(answer.header("content-encoding"), Some("gzip"));
            assert_eq!(answer.header("x-wechat-token-retry"), None);
            assert_eq!(unpacked(&answer).errcode(), Some(40001));
        }
        assert_eq!(made(&world), 1, "nobody noticed");
        until_some(SOON, "a plain answer is looked at", || async {
            let answer = world.get("/cgi-bin/echo", &[]).await;
            (answer.errcode() == Some(0)).then_some(())
        })
        .await;
        assert_eq!(made(&world), 2);
        let answer = world.get("/cgi-bin/echo", &ACCEPTS).await;
        assert_eq!(unpacked(&answer).errcode(), Some(0));
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_route_asks_for_no_compression_so_rejections_are_seen() {
    in_each_setting(|setting| async move {
        assert_watched(compressing(setting, false).start().await, false).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_decompressor_compressed_rejections_are_seen() {
    // Envoy has none for clusters.
    let settings = versions_and_placements();
    let downstream = |setting: &Setting| setting.placement == Placement::Downstream;
    for setting in settings.into_iter().filter(downstream) {
        let mut plan = compressing(setting, true);
        let library = "type.googleapis.com/envoy.extensions.compression.gzip.decompressor.v3.Gzip";
        let filter =
            "type.googleapis.com/envoy.extensions.filters.http.decompressor.v3.Decompressor";
        let filter = json!({
            "name": "envoy.filters.http.decompressor",
            "typed_config": {
                "@type": filter,
                "decompressor_library": {"name": "gzip", "typed_config": {"@type": library}},
            },
        });
        // Answers meet the filters in reverse order.
        plan.filters()
            .insert(1, serde_norway::to_value(filter).unwrap());
        assert_watched(plan.start().await, true).await;
    }
}
