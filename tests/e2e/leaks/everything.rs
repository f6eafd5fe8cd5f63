//! Everything that may bring a token or secret close to a log, in Envoys that tell everything that they can at level info.

use std::time::Duration;

use serde_json::json;
use support::wait::until;
use support::wechat::{Action, Fault};

use super::stage::{stage_plan, Stage, Way};
use super::{stuck, PATHS, STUCK, WRONG};
use crate::mesh::LONG;
use crate::settings::{in_settings_at_once, Placement};
use crate::world::{app, APPID, SECRET};

/// A caller's own, which is as little to be seen.
const CALLERS: &str = "callers-";

#[tokio::test(flavor = "multi_thread")]
async fn no_token_and_no_secret_is_in_any_log_span_or_page_whatever_happens() {
    in_settings_at_once(4, |setting| async move {
        let mut plan = stage_plan(setting);
        plan.settings = plan
            .settings
            .with_app(STUCK, SECRET)
            .with_token_lifetime(Duration::from_secs(12))
            .with_overlap(Duration::from_secs(6));
        // With the classic endpoint a secret is in a path.
        let (mut main, mut stuck) = (app(APPID), stuck());
        for app in [&mut main, &mut stuck] {
            app["token_api"] = json!("classic");
        }
        plan.document["apps"] = json!([main, stuck]);
        plan.document["default_app"] = json!(APPID);
        plan.document["refresh"] =
            json!({"lead": "6s", "jitter": "1s", "backoff": {"initial": "1s", "max": "1s"}});
        let stage = Stage::start(plan, &[("WRONG", WRONG)]).await;
        stage
            .line(&format!("event=refresh_failed app={STUCK} errcode=40001"))
            .await;
        good_calls(&stage).await;
        calls_with_tokens_of_their_own(&stage).await;
        refused_calls(&stage).await;
        rejected_tokens(&stage).await;
        replies_that_quote(&stage).await;
        stage.finish(&[CALLERS, WRONG]).await;
    })
    .await;
}

async fn good_calls(stage: &Stage) {
    let ways = [Way::Straight, Way::Zipkin, Way::Front, Way::Open];
    let paths = [
        "/cgi-bin/echo",
        "/prefix/cgi-bin/echo?a=1",
        "/pattern/cgi-bin/echo",
    ];
    for (way_number, way) in ways.into_iter().enumerate() {
        for (number, path) in paths.into_iter().enumerate() {
            let word = format!("good-{way_number}-{number}.");
            let exchange = stage.call(way, path, &word, &[]).await;
            let answer = &exchange.answer;
            assert_eq!(
                answer.errcode(),
                Some(0),
                "{way:?} {path}: {}",
                answer.text()
            );
            let target = exchange.target();
            assert!(target.contains("access_token="), "{target}");
            assert!(target.starts_with("/cgi-bin/echo?"), "{target}");
        }
    }
    // The mirror's keys have the token: so it went through the log of what the plugin says of Redis, too.
    until(LONG, "Redis has the token", || {
        let key = format!("wechat:access_token:{APPID}");
        stage.redis.run::<Option<String>>(&["GET", &key]).is_some()
    })
    .await;
}

async fn calls_with_tokens_of_their_own(stage: &Stage) {
    for (number, path) in PATHS.into_iter().enumerate() {
        for (way_number, way) in [Way::Straight, Way::Zipkin].into_iter().enumerate() {
            for prefix in ["", "/prefix"] {
                let word = format!("own-{number}-{way_number}-{}.", prefix.len());
                let path = format!("{prefix}{path}");
                stage.call(way, &path, &word, &[]).await;
            }
        }
    }
}

async fn refused_calls(stage: &Stage) {
    let own = "/cgi-bin/echo?access_token=callers-token-8&secret=callers-secret-8";
    for (appid, reason, status) in [("wxunknown", "unknown_app", 400), (STUCK, "refused", 503)] {
        for (number, way) in [Way::Straight, Way::Zipkin].into_iter().enumerate() {
            let word = format!("refused-{appid}-{number}.");
            let headers = [("x-wechat-appid", appid)];
            let exchange = stage.call(way, own, &word, &headers).await;
            exchange.assert_refused(status, reason);
        }
    }
}

async fn rejected_tokens(stage: &Stage) {
    for (number, way) in [Way::Straight, Way::Front].into_iter().enumerate() {
        let before = stage.world.token();
        stage.world.fake.revoke(APPID, 40001);
        let word = format!("rejected-{number}.");
        let path = "/prefix/cgi-bin/get_api_domain_ip";
        let exchange = stage.call(way, path, &word, &[]).await;
        let is_resent = !exchange.target().contains(&before);
        // Twice in a minute is what the limit is for.
        let expected = stage.world.setting.placement == Placement::Upstream && number == 0;
        assert!(is_resent || !expected, "{}", exchange.answer.text());
    }
}

/// Replies to token calls that hold a token or the secret and are no good, on status 200 and others, as JSON and not.
async fn replies_that_quote(stage: &Stage) {
    let token = stage.world.token();
    let quote =
        format!("secret={SECRET}, token={token}, at /cgi-bin/token?secret={SECRET}, rid: {SECRET}");
    let unknown = json!({"errcode": 99001, "errmsg": quote}).to_string();
    let known = json!({"errcode": -1, "errmsg": quote}).to_string();
    let page = format!("<html>{quote}</html>");
    let bodies = [unknown, known, page].map(|text| Action::Body { text });
    let others = [
        Action::HalfBody,
        Action::Garbage,
        Action::Status { code: 500 },
    ];
    let failure = format!("event=refresh_failed app={APPID}");
    for action in bodies.into_iter().chain(others) {
        let told = stage.world.envoy.logs().matches(&failure).count();
        stage
            .world
            .fake
            .arm(Fault::on_token(action.clone()).of(APPID).times(1));
        until(LONG, &format!("{action:?} is told"), || {
            let log = stage.world.envoy.logs();
            log.matches(&failure).count() > told
        })
        .await;
    }
    let line = stage.line("errcode=99001").await;
    assert!(
        line.contains("secret=[redacted], token=[redacted]"),
        "{line}"
    );
}
