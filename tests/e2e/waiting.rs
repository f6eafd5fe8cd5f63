//! Requests that wait for a token: their deadline, too many of them, callers that hang up, bodies of any size.

use std::time::Duration;

use serde_json::json;
use support::client::concurrent;
use support::client::raw::Raw;
use support::wait::until_some;
use support::wechat::crc32;

use crate::settings::in_each_setting;
use crate::world::{plan, World, HOST, SOON};

/// How many requests may wait in one worker, where a test wants to see that number exceeded.
const PLACES: usize = 2;

/// The places of all workers. Which worker a connection comes to is the kernel's choice, so tests count on the whole:
/// of more connections than places some find none, and whoever gets two or more connections has filled its places.
fn places(world: &World) -> usize {
    PLACES * world.setting.concurrency as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_and_an_overflow_end_with_our_own_reply() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        let timeout = Duration::from_millis(2_500);
        plan.document["wait"] = json!({"timeout": "2500ms", "max_requests": PLACES});
        let world = plan.start_cold().await;
        let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
        let calls = places(&world) + 3;
        let answers = concurrent(calls, move |_| {
            let (client, url) = (client.clone(), url.clone());
            async move { client.get_with(&url, &[("host", HOST)]).await.unwrap() }
        })
        .await;
        let reason = |name: &'static str| {
            let header = "x-wechat-token-error";
            answers
                .iter()
                .filter(move |answer| answer.header(header) == Some(name))
        };
        let (late, too_many) = (reason("wait_timeout"), reason("wait_overflow"));
        let (late_count, too_many_count) = (late.clone().count(), too_many.count());
        assert_eq!(late_count + too_many_count, calls, "{answers:?}");
        assert!(
            (PLACES..=places(&world)).contains(&late_count),
            "{late_count}"
        );
        for answer in &answers {
            assert_eq!((answer.status, answer.errcode()), (503, Some(-1)));
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
        for answer in late {
            assert!(answer.elapsed >= timeout, "{:?}", answer.elapsed);
        }
        // The shortest one was not made to wait; on a busy machine others may have stood in a queue before.
        let first = reason("wait_overflow").map(|answer| answer.elapsed).min();
        assert!(first.is_some_and(|elapsed| elapsed < timeout), "{first:?}");
        world.parked(late_count as u64).await;
        let report = world.fake.report();
        assert_eq!((report.business_calls, report.token_calls), (0, 1));
        world.fake.release();
        world.ready().await;
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_hang_up_leave_their_places_to_others() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        plan.document["wait"] = json!({"timeout": "60s", "max_requests": PLACES});
        let world = plan.start_cold().await;
        let calls = places(&world);
        let counted = || async {
            let parked = world.counted("wechat_token_parked_total").await;
            let refused = world.counted("wechat_token_local_replies_total").await;
            (parked, parked + refused)
        };
        // Each round fills the places of at least one worker.
        let rounds = setting.concurrency as usize + 1;
        for round in 1..=rounds {
            let mut callers = Vec::new();
            for _ in 0..calls {
                let address = world.envoy.address("wechat");
                let mut caller = Raw::connect(address).await.unwrap();
                let host = [("host", HOST)];
                caller
                    .send_head("GET", "/cgi-bin/echo", &host)
                    .await
                    .unwrap();
                callers.push(caller);
            }
            let all = (round * calls) as u64;
            until_some(SOON, "all are counted", || async {
                (counted().await.1 >= all).then_some(())
            })
            .await;
            for (number, caller) in callers.into_iter().enumerate() {
                if number % 2 == 0 {
                    caller.hang_up().await;
                } else {
                    caller.reset().unwrap();
                }
            }
            until_some(SOON, "the connections are gone", || async {
                let open = world.envoy.stat("http.wechat.downstream_cx_active").await;
                (open == 0).then_some(())
            })
            .await;
        }
        let (parked, all) = counted().await;
        assert_eq!(all, (rounds * calls) as u64);
        assert!(
            parked > calls as u64,
            "{parked} were parked: more than there are places only if some were free again"
        );
        world.fake.release();
        world.ready().await;
        let left = world.fake.report().business_calls;
        assert_eq!(left, 1, "only the live caller's request left");
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_bodies_of_every_size_arrive_whole_with_the_flag_on_and_off() {
    in_each_setting(|setting| async move {
        for flag in [true, false] {
            let mut plan = plan(setting);
            // Only what watches answers needs the flag; parking must work without it.
            plan.document["watch"] = json!(flag);
            plan.stop_iteration(flag);
            let world = plan.start_cold().await;
            let sizes = [1_usize, 500_000, 3_000_000];
            let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
            let posts = concurrent(sizes.len(), move |n| {
                let (client, url) = (client.clone(), url.clone());
                async move { client.post(&url, &[("host", HOST)], body(sizes[n])).await }
            });
            let (answers, ()) = tokio::join!(posts, async {
                world.parked(3).await;
                let left = world.fake.report().business_calls;
                assert_eq!(left, 0, "nothing leaves without its token");
                world.fake.release();
            });
            for (answer, size) in answers.into_iter().zip(sizes) {
                let answer = answer.unwrap();
                assert_eq!(
                    answer.errcode(),
                    Some(0),
                    "{flag} {size}: {}",
                    answer.text()
                );
                let got = answer.json();
                assert_eq!(got["body_bytes"], size, "{flag}");
                assert_eq!(got["body_crc32"], crc32(&body(size)), "{flag} {size}");
            }
            world.finish().await;
        }
    })
    .await;
}

/// Bytes of which no two parts are alike.
pub(crate) fn body(size: usize) -> Vec<u8> {
    let numbers = (0_u32..).flat_map(|number| number.to_be_bytes());
    numbers.take(size).collect()
}
