//! WeChat's answers: a rejected token is found however the answer is written and cut, and no answer is held for long.

use std::time::Duration;

use support::wait::until_some;
use support::wechat::{Action, ErrcodeStyle, ErrorStyle, Fault};

use crate::settings::{in_each_setting, Placement};
use crate::world::{plan, World, APPID, SOON};

/// How late a body comes that is not waited for.
const LATE: Duration = Duration::from_secs(6);
/// A held answer is let go after about a second; the rest is for a busy machine.
const LET_GO: Duration = Duration::from_secs(5);
/// No held answer is let go earlier.
const LEAST_HELD: Duration = Duration::from_secs(1);
/// So often a busy machine may be too slow to show that an answer was not held.
const ATTEMPTS: usize = 5;

fn late_body() -> Fault {
    let ms = LATE.as_millis() as u64;
    Fault::on_business(Action::Stall { ms }).times(1)
}

/// Revokes the token and makes a call: upstream the caller sees the second answer, downstream WeChat's error; the token is
/// renewed in both.
async fn rejected_once(world: &World, what: &str) {
    let made = world.fake.report().app(APPID).tokens_made;
    world.fake.revoke(APPID, 40001);
    let answer = world.get("/cgi-bin/echo", &[]).await;
    let is_good = answer.errcode() == Some(0);
    let is_resent = world.setting.placement == Placement::Upstream;
    assert_eq!(is_good, is_resent, "{what}: {}", answer.text());
    // The next call may be another worker's, which hears of the new token a moment later than the log tells of it.
    until_some(SOON, "the new token serves", || async {
        let answer = world.get("/cgi-bin/echo", &[]).await;
        (answer.errcode() == Some(0)).then_some(())
    })
    .await;
    assert_eq!(
        world.fake.report().app(APPID).tokens_made,
        made + 1,
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_found_however_the_answer_is_written_and_cut() {
    in_each_setting(|setting| async move {
        for (errcode, text_plain, cuts) in [
            (ErrcodeStyle::Number, false, vec![1, 2, 11, 12, 14, 17]),
            (ErrcodeStyle::Text, true, vec![13, 14, 18]),
            (ErrcodeStyle::BaseResp, true, vec![]),
        ] {
            let what = format!("{errcode:?}, text/plain {text_plain}, cut at {cuts:?}");
            let mut plan = plan(setting);
            plan.settings.error_style = ErrorStyle {
                text_plain,
                errcode,
            };
            let world = plan.start().await;
            world.ready().await;
            if !cuts.is_empty() {
                world
                    .fake
                    .arm(Fault::on_business(Action::Cuts { at: cuts }));
            }
            rejected_once(&world, &what).await;
            world.finish().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_body_comes_late_is_let_go_and_the_watch_goes_on() {
    in_each_setting(|setting| async move {
        let world = plan(setting).start().await;
        world.ready().await;
        world.fake.arm(late_body());
        let answer = world.get("/cgi-bin/echo", &[]).await;
        assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
        assert!(answer.headers_after < LET_GO, "{:?}", answer.headers_after);
        assert!(answer.elapsed >= LATE, "{:?}", answer.elapsed);
        rejected_once(&world, "afterwards").await;
        assert!(!world.envoy.logs().contains("event=watch_off"));
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_and_no_text_is_not_held() {
    in_each_setting(|setting| async move {
        let world = plan(setting).start().await;
        world.ready().await;
        let mut least = LATE;
        for _ in 0..ATTEMPTS {
            world.fake.arm(late_body());
            let answer = world.get("/wxa/getwxacode", &[]).await;
            assert_eq!(answer.header("content-type"), Some("image/png"));
            assert!(answer.elapsed >= LATE, "{:?}", answer.elapsed);
            least = least.min(answer.headers_after);
            if least < LEAST_HELD {
                break;
            }
        }
        assert!(least < LEAST_HELD, "{least:?}");
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_answers_pass_and_the_watch_ends_with_one_line() {
    in_each_setting(|mut setting| async move {
        // Each worker finds out for itself.
        setting.concurrency = 1;
        let mut plan = plan(setting);
        plan.stop_iteration(false);
        let world = plan.start().await;
        for _ in 0..3 {
            world.ready().await;
        }
        world.envoy.wait_for_log("event=watch_off", SOON).await;
        world.ready().await;
        let lines = world.envoy.logs().matches("event=watch_off").count();
        assert_eq!(lines, 1);
        world.finish().await;
    })
    .await;
}
