//! No token and no secret is seen outside of the calls they belong to.
//!
//! Every end-to-end test looks for those of its own world in the log and on the admin pages when it finishes. Here are
//! the requests and the troubles that bring one close to a log, and everything else that an Envoy can tell.

#[path = "leaks/collector.rs"]
mod collector;
#[path = "leaks/debugging.rs"]
mod debugging;
#[path = "leaks/everything.rs"]
mod everything;
#[path = "leaks/sinks.rs"]
mod sinks;
#[path = "leaks/stage.rs"]
mod stage;
#[path = "leaks/words.rs"]
mod words;

use std::time::Duration;

use serde_json::{json, Value};
use support::client::raw::Raw;
use support::client::Answer;
use support::wait::{until, until_some};
use support::wechat::{Action, FakeWeChat, Fault};

use crate::settings::{in_each_setting, in_settings_at_once};
use crate::world::{app, plan, World, APPID, HOST, SECRET, SOON};

/// Refused for ever, and replaces what a caller brings: nothing of the caller's path is for WeChat.
const STUCK: &str = "wxstuck0000000000";
const WRONG: &str = "b6c5a4938271605f4e3d2c1b0a7e2ce5";

/// Paths with something in them that no log may show.
const PATHS: [&str; 8] = [
    "/cgi-bin/echo?access_token=callers-token-1",
    "/cgi-bin/echo?access%5Ftoken=callers-token-2&a=1",
    "/cgi-bin/component/x?component_access_token=callers-token-5",
    "/sns/userinfo?access_token=callers-token-6",
    "/sns/oauth2/refresh_token?refresh_token=callers-token-7",
    "/sns/jscode2session?appid=wx1&secret=callers-secret-1&js_code=c",
    "/cgi-bin/token?grant_type=client_credential&appid=wx1&secret=callers-secret-2",
    "/cgi-bin/clear_quota/v2?appid=wx1&appsecret=callers-secret-3",
];

/// The entry of `apps` for [`STUCK`].
fn stuck() -> Value {
    let mut stuck = app(STUCK);
    stuck["secret"] = json!({"env": "WRONG"});
    stuck["caller_token"] = json!("replace");
    stuck
}

fn assert_hides(answer: &Answer, leaks: &[String]) {
    let text = format!("{:?} {}", answer.headers, answer.text());
    for leak in leaks {
        assert!(!text.contains(leak), "a reply holds {leak}: {text}");
    }
}

async fn use_all(world: &World) {
    world.ready().await;
    for path in PATHS {
        world.call(path, &[]).await;
    }
    // The plugin's own replies, with all that a caller can put beside them.
    let leaks = [world.fake.leaks(), vec!["callers-".to_owned()]].concat();
    for (appid, reason, status) in [("wxunknown", "unknown_app", 400), (STUCK, "refused", 503)] {
        let exchange = world
            .call("/cgi-bin/echo?a=1", &[("x-wechat-appid", appid)])
            .await;
        exchange.assert_refused(status, reason);
        assert_hides(&exchange.answer, &leaks);
    }
    // A rejected token, whose answer is sent again or passed.
    world.fake.revoke(APPID, 40001);
    let answer = world.get("/cgi-bin/get_api_domain_ip", &[]).await;
    assert_hides(&answer, &leaks);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_and_no_secret_is_in_a_log_an_admin_page_or_a_local_reply() {
    in_settings_at_once(4, |setting| async move {
        let mut plan = plan(setting);
        plan.settings = plan
            .settings
            .with_app(STUCK, SECRET)
            .with_token_lifetime(Duration::from_secs(8))
            .with_overlap(Duration::from_secs(4));
        let apps = json!([app(APPID), stuck()]);
        plan.document = json!({"apps": apps, "default_app": APPID});
        plan.config.host_env("WRONG");
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        let builder = plan.builder(&fake).env("WRONG", WRONG);
        let world = World::new(setting, fake, builder.start().await);
        let line = format!("event=refresh_failed app={STUCK} errcode=40001");
        world.envoy.wait_for_log(&line, SOON).await;
        use_all(&world).await;
        // Replies to token calls that hold a token and are no good: what is logged about them must not show it.
        for action in [Action::HalfBody, Action::Status { code: 500 }] {
            world.fake.arm(Fault::on_token(action).of(APPID).times(1));
        }
        let made = || world.fake.report().app(APPID).tokens_made;
        until(3 * SOON, "the token rotates", || made() >= 4).await;
        world.ready().await;
        world.finish_hiding(&["callers-", WRONG]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_leaves_no_token_of_its_caller_in_the_access_log() {
    in_each_setting(|setting| async move {
        let world = plan(setting).start().await;
        world.ready().await;
        let path = "/cgi-bin/echo?access_token=callers-token&secret=callers-secret";
        let exchange = world.call(path, &[("x-wechat-appid", "wxunknown")]).await;
        exchange.assert_refused(400, "unknown_app");
        world.finish_hiding(&["callers-"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waited_in_vain_leaves_no_token_of_its_caller_in_the_access_log() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        plan.document["caller_token"] = json!("replace");
        plan.document["wait"] = json!({"timeout": "500ms"});
        let world = plan.start_cold().await;
        let path = "/cgi-bin/echo?access_token=callers-token&secret=callers-secret";
        let exchange = world.call(path, &[]).await;
        exchange.assert_refused(503, "wait_timeout");
        world.finish_hiding(&["callers-"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_while_it_waits_leaves_no_token_in_the_access_log() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        plan.document["caller_token"] = json!("replace");
        let world = plan.start_cold().await;
        let address = world.envoy.address("wechat");
        let mut raw = Raw::connect(address).await.unwrap();
        let path = "/cgi-bin/echo?access_token=callers-token";
        raw.send_head("GET", path, &[("host", HOST)]).await.unwrap();
        world.parked(1).await;
        raw.hang_up().await;
        until_some(SOON, "the connection is gone", || async {
            let open = world.envoy.stat("http.wechat.downstream_cx_active").await;
            (open == 0).then_some(())
        })
        .await;
        world.finish_hiding(&["callers-"]).await;
    })
    .await;
}
