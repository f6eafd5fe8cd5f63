//! Something answers in Redis's place, or on its way: what is no answer is told as that, and no caller notices.

use support::envoy::Envoy;
use support::passage::{Mode, Passage};

use crate::mesh::{busy, Mesh};
use crate::settings::in_settings_at_once;
use crate::world::APPID;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_of_redis_is_told_as_that_and_no_caller_notices() {
    in_settings_at_once(4, |setting| async move {
        let redis = Mesh::redis();
        let way = Passage::to(redis.address()).await.unwrap();
        let mesh = busy(setting).start_through(redis, &[&way, &way]).await;
        let giant = [b"+OK\r\n$8000000\r\n".as_slice(), &vec![b'x'; 8_000_000]].concat();
        for (mode, problem) in [
            (
                Mode::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
                "unreadable=\"the answer is not RESP\"",
            ),
            (
                Mode::Says(b"+OK\r\n*8\r\n$4\r\nre".to_vec()),
                "unreachable=\"the answer broke off\"",
            ),
            (
                Mode::Says(b"+OK\r\n:1\r\n+OK\r\n".to_vec()),
                "unreadable=\"the script's answer is not ours\"",
            ),
            (
                Mode::Says(giant),
                "unreadable=\"the answer is longer than 64 KiB\"",
            ),
            // Envoy takes 32 MiB.
            (Mode::Floods, "unreachable=\"the connection was reset\""),
        ] {
            let before: Vec<u64> = mesh.envoys.iter().map(Envoy::forget_peak).collect();
            let line = format!("event=redis_failed app={APPID} {problem}");
            mesh.endure(&line, || way.set(mode), || way.set(Mode::Open))
                .await;
            for (envoy, before) in mesh.envoys.iter().zip(before) {
                assert!(envoy.peak() < before + (96 << 20), "{line}");
            }
        }
        mesh.finish_unnoticed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_drops_replies_on_half_close_is_told_in_plain_words_at_the_start() {
    in_settings_at_once(4, |setting| async move {
        let redis = Mesh::redis();
        let way = Passage::to(redis.address()).await.unwrap();
        way.set(Mode::DropsAnswers);
        let mesh = busy(setting).start_through(redis, &[&way, &way]).await;
        let line = format!("event=redis_failed app={APPID} unreachable=\"the connection ended without a reply: this service drops replies on half-close, see docs/redis.md\"");
        mesh.endure_begun(&line, || way.set(Mode::Open)).await;
        mesh.finish_unnoticed().await;
    })
    .await;
}
