//! Requests that come before their token: herd, bodies, deadlines, overflow, hang-ups.

use std::time::Duration;

use serde_json::json;
use support::client::concurrent;
use support::client::raw::Raw;
use support::wait::until_some;

use crate::world::{plan, settings, Placement, Plan, World, APPID, HOST, NEWEST, SOON};

/// An Envoy whose first token call waits at the gate.
async fn cold(plan: Plan) -> World {
    let fake = support::wechat::FakeWeChat::start(plan.settings.clone()).await;
    fake.hold_token_calls();
    let world = plan.start_with(fake).await;
    world.fake.wait_for_held(1, SOON).await;
    world
}

/// Waits until so many requests were parked.
async fn parked(world: &World, count: u64) {
    until_some(SOON, "requests are parked", || async {
        let stats = world
            .envoy
            .admin_get("/stats?filter=wechat_token_parked_total")
            .await
            .text();
        let seen: u64 = stats
            .lines()
            .filter_map(|line| line.rsplit(": ").next()?.parse::<u64>().ok())
            .sum();
        (seen >= count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_first_calls_cause_one_token_call() {
    for setting in settings() {
        let world = cold(plan(setting)).await;
        let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
        let herd = tokio::spawn(concurrent(1_000, move |_| {
            let (client, url) = (client.clone(), url.clone());
            async move {
                client
                    .get_with(&url, &[("host", HOST)])
                    .await
                    .map(|answer| answer.errcode())
            }
        }));
        parked(&world, 1_000).await;
        world.fake.release();
        let answers = herd.await.unwrap();
        let good = answers
            .iter()
            .filter(|answer| matches!(answer, Ok(Some(0))))
            .count();
        assert_eq!(good, 1_000, "{setting:?}");
        assert_eq!(world.fake.report().app(APPID).token_calls, 1, "{setting:?}");
        world.fake.report().assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_bodies_of_every_size_arrive_whole_with_the_flag_on_and_off() {
    for setting in settings() {
        for flag in [true, false] {
            let mut plan = plan(setting);
            // Only what watches answers needs the flag; parking must work without it.
            plan.document["watch"] = json!(flag);
            plan.config.stop_iteration(setting.placement, flag);
            let world = cold(plan).await;
            let sizes = [1_usize, 500_000, 3_000_000];
            let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
            let posts = tokio::spawn(concurrent(sizes.len(), move |n| {
                let (client, url) = (client.clone(), url.clone());
                async move {
                    client
                        .post(&url, &[("host", HOST)], vec![b'x'; sizes[n]])
                        .await
                }
            }));
            parked(&world, 3).await;
            assert_eq!(
                world.fake.report().business_calls,
                0,
                "nothing leaves without its token"
            );
            world.fake.release();
            for (answer, size) in posts.await.unwrap().into_iter().zip(sizes) {
                let answer = answer.unwrap();
                assert_eq!(
                    answer.status,
                    200,
                    "{setting:?} flag {flag} size {size}: {}",
                    answer.text()
                );
                assert_eq!(answer.json()["body_bytes"], size, "{setting:?} flag {flag}");
                assert_eq!(
                    answer.json()["body_crc32"],
                    support::wechat::crc32(&vec![b'x'; size]),
                    "{setting:?} flag {flag} size {size}"
                );
            }
            world.fake.report().assert_clean();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_and_an_overflow_end_with_our_own_reply() {
    for setting in settings() {
        let mut plan = plan(setting);
        plan.setting.concurrency = 1;
        plan.document["wait"] = json!({"timeout": "1500ms", "max_requests": 2});
        let world = cold(plan).await;
        let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
        let waiting = tokio::spawn(concurrent(2, move |_| {
            let (client, url) = (client.clone(), url.clone());
            async move { client.get_with(&url, &[("host", HOST)]).await.unwrap() }
        }));
        parked(&world, 2).await;
        let answer = world.get("/cgi-bin/echo", &[]).await;
        assert_eq!(answer.status, 503, "{setting:?}");
        assert_eq!(
            answer.header("x-wechat-token-error"),
            Some("wait_overflow"),
            "{setting:?}"
        );
        for answer in waiting.await.unwrap() {
            assert_eq!(answer.status, 503, "{setting:?}");
            assert_eq!(
                answer.header("x-wechat-token-error"),
                Some("wait_timeout"),
                "{setting:?}"
            );
            assert_eq!(answer.errcode(), Some(-1), "{setting:?}");
            assert!(answer.header("retry-after").is_some(), "{setting:?}");
            assert!(
                answer.elapsed >= Duration::from_millis(1_400),
                "{setting:?}: {:?}",
                answer.elapsed
            );
        }
        world.fake.release();
        world.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_leaves_nothing_behind() {
    let mut plan = plan(NEWEST);
    plan.setting.concurrency = 1;
    plan.document["wait"] = json!({"timeout": "20s", "max_requests": 2});
    let world = cold(plan).await;
    for round in 1..=5 {
        let mut raws = Vec::new();
        for _ in 0..2 {
            let mut raw = Raw::connect(world.envoy.address("wechat")).await.unwrap();
            raw.send_head("GET", "/cgi-bin/echo", &[("host", HOST)])
                .await
                .unwrap();
            raws.push(raw);
        }
        // Only if both places were free again could two more be parked.
        parked(&world, 2 * round).await;
        for raw in raws {
            raw.hang_up().await;
        }
        let gone = "http.wechat.downstream_cx_active";
        until_some(SOON, "the connections are gone", || async {
            (world.envoy.stat(gone).await == 0).then_some(())
        })
        .await;
    }
    world.fake.release();
    world.ready().await;
    assert_eq!(
        world.fake.report().business_calls,
        1,
        "only the live caller's request left"
    );
}

trait StopIteration {
    fn stop_iteration(&mut self, placement: Placement, flag: bool);
}

impl StopIteration for support::envoy::Config {
    fn stop_iteration(&mut self, placement: Placement, flag: bool) {
        let filter = match placement {
            Placement::Upstream => self
                .at("static_resources.clusters[name=wechat_api].typed_extension_protocol_options")
                .as_mapping_mut()
                .and_then(|map| map.values_mut().next())
                .and_then(|options| options.get_mut("http_filters")),
            Placement::Downstream => Some(self.at(
                "static_resources.listeners[name=wechat].filter_chains[0].filters[0].typed_config.http_filters",
            )),
        };
        let config = filter
            .and_then(|filters| filters.get_mut(0))
            .and_then(|filter| {
                filter
                    .get_mut("typed_config")?
                    .get_mut("config")?
                    .as_mapping_mut()
            })
            .expect("the injector's filter");
        config.insert("allow_on_headers_stop_iteration".into(), flag.into());
    }
}
