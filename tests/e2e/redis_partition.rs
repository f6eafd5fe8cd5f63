//! Redis is slow, stands still, dies, or is cut off from a part of the mesh: no caller notices, and afterwards all agree.

use std::time::Duration;

use support::passage::{Mode, Passage};
use support::wechat::TokenApi;

use crate::mesh::{busy, Mesh};
use crate::settings::in_settings_at_once;

const NO_ANSWER: &str =
    "event=redis_failed app=wx0123456789abcdef unreachable=\"no answer in time\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_is_waited_for_and_one_that_is_too_slow_or_stands_still_is_gone_round() {
    in_settings_at_once(4, |setting| async move {
        let redis = Mesh::redis();
        let way = Passage::to(redis.address()).await.unwrap();
        way.set(Mode::Slow(Duration::from_millis(200)));
        let mesh = busy(setting).start_through(redis, &[&way, &way]).await;
        mesh.serve_until("a renewal", |mesh| mesh.made().len() >= 2)
            .await;
        assert_eq!(mesh.made_by(TokenApi::Stable), 0);
        for envoy in &mesh.envoys {
            assert!(!envoy.logs().contains("event=redis_failed"));
        }
        let too_slow = || way.set(Mode::Slow(Duration::from_secs(2)));
        mesh.endure(NO_ANSWER, too_slow, || way.set(Mode::Open))
            .await;
        mesh.endure(NO_ANSWER, || mesh.redis.freeze(), || mesh.redis.thaw())
            .await;
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_redis_dies_during_a_token_call_the_token_serves_and_is_published_later() {
    in_settings_at_once(4, |setting| async move {
        let mut mesh = busy(setting).start().await;
        mesh.agree(Duration::from_secs(20)).await;
        mesh.fake.hold_token_calls();
        mesh.serve_until("a token call", |mesh| mesh.fake.held() > 0)
            .await;
        mesh.redis.kill();
        let made = mesh.made_by(TokenApi::Classic);
        mesh.fake.release();
        mesh.serve_until("both have noticed", |mesh| {
            let has_noticed = |log: String| log.contains("unreachable=\"no connection\"");
            mesh.envoys.iter().all(|envoy| has_noticed(envoy.logs()))
        })
        .await;
        assert_eq!(mesh.made_by(TokenApi::Classic), made + 1);
        mesh.redis.restart();
        mesh.recover().await;
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_cut_off_from_redis_goes_round_it_and_the_others_go_on() {
    in_settings_at_once(4, |setting| async move {
        let redis = Mesh::redis();
        let ways = [
            Passage::to(redis.address()).await.unwrap(),
            Passage::to(redis.address()).await.unwrap(),
        ];
        let mesh = busy(setting)
            .start_through(redis, &[&ways[0], &ways[1]])
            .await;
        mesh.agree(Duration::from_secs(20)).await;
        ways[1].set(Mode::Cut);
        mesh.serve_until("it is cut off", |mesh| {
            mesh.envoys[1].logs().contains(NO_ANSWER)
        })
        .await;
        // Each side renews by its own way: how many calls of its endpoint there were, and how often it was granted a token.
        let calls = |mesh: &Mesh| {
            let renewed =
                |envoy: usize| mesh.envoys[envoy].logs().matches("=token_renewed").count();
            [
                (mesh.made_by(TokenApi::Classic), renewed(0)),
                (mesh.made_by(TokenApi::Stable), renewed(1)),
            ]
        };
        let before = calls(&mesh);
        mesh.serve_until("both sides renew", |mesh| {
            let mut sides = calls(mesh).into_iter().zip(before);
            // One may be on its way, now or when they were counted first.
            sides.all(|((calls, renewed), (calls_before, renewed_before))| {
                let made = calls - calls_before;
                made > 1 && made.abs_diff(renewed - renewed_before) <= 1
            })
        })
        .await;
        assert!(!mesh.envoys[0].logs().contains("event=redis_failed"));
        ways[1].set(Mode::Open);
        mesh.recover().await;
        mesh.finish_unnoticed().await;
    })
    .await;
}
