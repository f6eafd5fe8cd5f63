//! The Envoy that has the lock stops, for longer than its lock holds or for ever: another one takes over, no caller
//! notices, and what the first one still does when it goes on changes nothing.

use std::time::Duration;

use serde_json::json;
use support::envoy::Envoy;
use support::passage::{Mode, Passage};
use support::wait::until;
use support::wechat::TokenApi;

use crate::mesh::{mesh, Mesh, MeshPlan, LONG};
use crate::settings::{in_settings_at_once, Setting};

/// An Envoy that renews its token after 15 s, under a lock of 8 s; the old token serves for 15 s beside the new one.
fn alone(setting: Setting) -> MeshPlan {
    let mut plan = mesh(setting, 1).with_tokens(30, 15);
    plan.document["refresh"] = json!({"lead": "15s", "jitter": "1s"});
    plan.document["weixin"] = json!({"timeout": "2s"});
    plan
}

/// The same with its first token, and its way to Redis. As it is alone, the next lock will be its own.
async fn start(setting: Setting) -> (Mesh, Passage) {
    let redis = Mesh::redis();
    let way = Passage::to(redis.address()).await.unwrap();
    let mesh = alone(setting).start_through(redis, &[&way]).await;
    mesh.agree(Duration::from_secs(20)).await;
    until(LONG, "the first token is in Redis", || mesh.has_newest()).await;
    (mesh, way)
}

/// The first one stops.
fn stop_first(mesh: &mut Mesh) -> Envoy {
    let first = mesh.envoys.remove(0);
    first.pause();
    first
}

/// Another Envoy takes over: it serves the old token until the lock ends, and then makes this one.
async fn take_over(mesh: &mut Mesh, setting: Setting, made: usize) {
    let heir = alone(setting).join(mesh).await;
    mesh.envoys.push(heir);
    mesh.serve_until("the heir's token", |mesh| {
        mesh.made().len() == made && mesh.has_newest()
    })
    .await;
}

/// The first one goes on: it takes over what the heir has made, and Redis has nothing else.
async fn go_on(mesh: &mut Mesh, first: Envoy) {
    let (token, version) = (mesh.stored(), mesh.version());
    first.resume();
    mesh.envoys.push(first);
    mesh.recover().await;
    assert_eq!((mesh.stored(), mesh.version()), (token, version));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_stops_between_its_lock_and_its_call_makes_none_when_it_goes_on() {
    in_settings_at_once(4, |setting| async move {
        let (mut mesh, way) = start(setting).await;
        way.set(Mode::KeepsAnswers("lock"));
        mesh.serve_until("the lock", |_| way.kept() == 1).await;
        let first = stop_first(&mut mesh);
        way.set(Mode::Open);
        take_over(&mut mesh, setting, 2).await;
        go_on(&mut mesh, first).await;
        assert_eq!(mesh.made_by(TokenApi::Classic), 2);
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_stops_during_its_call_does_not_overwrite_what_its_heir_has_published() {
    in_settings_at_once(4, |setting| async move {
        let (mut mesh, _way) = start(setting).await;
        mesh.fake.hold_token_calls();
        mesh.serve_until("the call", |mesh| mesh.fake.held() == 1)
            .await;
        let first = stop_first(&mut mesh);
        mesh.fake.release();
        mesh.wait_until_made(2).await;
        take_over(&mut mesh, setting, 3).await;
        go_on(&mut mesh, first).await;
        assert_eq!(mesh.made_by(TokenApi::Classic), 3);
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_stops_before_it_publishes_changes_nothing_when_redis_hears_of_it() {
    in_settings_at_once(4, |setting| async move {
        let (mut mesh, way) = start(setting).await;
        way.set(Mode::KeepsRequests("publish"));
        mesh.serve_until("the publication", |_| way.kept() == 1)
            .await;
        let first = stop_first(&mut mesh);
        assert_eq!(mesh.made().len(), 2);
        take_over(&mut mesh, setting, 3).await;
        let (token, version) = (mesh.stored(), mesh.version());
        way.set(Mode::Open);
        until(LONG, "the late publication", || way.kept() == 0).await;
        assert_eq!((mesh.stored(), mesh.version()), (token, version));
        go_on(&mut mesh, first).await;
        assert_eq!(mesh.made_by(TokenApi::Classic), 3);
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_envoy_that_has_the_lock_is_killed_another_one_calls_after_it() {
    in_settings_at_once(4, |setting| async move {
        let (mut mesh, _way) = start(setting).await;
        mesh.fake.hold_token_calls();
        mesh.serve_until("the call", |mesh| mesh.fake.held() == 1)
            .await;
        drop(mesh.envoys.remove(0));
        until(LONG, "the call has ended", || mesh.fake.held() == 0).await;
        mesh.fake.release();
        take_over(&mut mesh, setting, 2).await;
        mesh.recover().await;
        assert_eq!(mesh.made_by(TokenApi::Classic), 2);
        mesh.finish_unnoticed().await;
    })
    .await;
}
