//! A token endpoint in trouble: what callers see meanwhile, and that it recovers.
//!
//! Each trouble is an app of its own, so that all of them are met in one Envoy.

use std::time::Duration;

use serde_json::{json, Value};
use support::client::{concurrent, Answer};
use support::door::Door;
use support::wait::until_some;
use support::wechat::{Action, FakeWeChat, Fault};
use tokio::time::Instant;

use crate::settings::{in_each_setting, in_settings_at_once};
use crate::world::{app, plan, Plan, World, APPID, HOST, SECRET, SOON};

/// Long enough for everything that heals, on a busy machine.
const PATIENCE: &str = "25s";
/// Well below [`PATIENCE`], and enough for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);

/// One app for each of these names, by which metrics and log know it; `timeout` is that of a token call.
fn with_named(mut plan: Plan, names: &[String], timeout: &str) -> Plan {
    let mut apps = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let appid = appid(number);
        plan.settings = plan.settings.with_app(&appid, SECRET);
        let mut app = app(&appid);
        app["name"] = json!(name);
        apps.push(app);
    }
    plan.document = json!({
        "apps": apps,
        "wait": {"timeout": PATIENCE},
        "weixin": {"timeout": timeout},
        "refresh": {"backoff": {"initial": "100ms", "max": "500ms"}},
    });
    plan
}

fn appid(number: usize) -> String {
    format!("wx{number:016}")
}

/// A call for each app, all of them waiting before the first token call goes on; with what passed between that and the
/// last answer.
async fn call_all(world: &World, apps: usize) -> (Vec<Answer>, Duration) {
    let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
    let calls = concurrent(apps, move |number| {
        let (client, url) = (client.clone(), url.clone());
        async move {
            let appid = appid(number);
            let headers = [("host", HOST), ("x-wechat-appid", appid.as_str())];
            client.get_with(&url, &headers).await.unwrap()
        }
    });
    let (answers, released) = tokio::join!(calls, async {
        world.parked(apps as u64).await;
        assert_eq!(world.fake.report().business_calls, 0);
        world.fake.release();
        Instant::now()
    });
    (answers, released.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_each_transient_trouble_the_waiting_caller_gets_its_answer() {
    let troubles = [
        Action::Latency { ms: 400 },
        Action::Hang,
        Action::Reset,
        Action::Close,
        Action::Garbage,
        Action::TextHtml,
        Action::Empty,
        Action::HalfBody,
        Action::Status { code: 500 },
        Action::Status { code: 502 },
        Action::Body {
            text: r#"{"access_token":7,"expires_in":7200}"#.to_owned(),
        },
        Action::Body {
            text: r#"{"access_token":"","expires_in":7200}"#.to_owned(),
        },
        Action::Body {
            text: r#"{"access_token":"#.to_owned(),
        },
        Action::Errcode { code: -1 },
    ];
    in_each_setting(|setting| {
        let troubles = troubles.clone();
        async move {
            let name = |(number, action): (usize, &Action)| format!("{}-{number}", action.name());
            let names: Vec<_> = troubles.iter().enumerate().map(name).collect();
            let plan = with_named(plan(setting), &names, "1s");
            let fake = FakeWeChat::start(plan.settings.clone()).await;
            for (number, action) in troubles.iter().enumerate() {
                fake.arm(Fault::on_token(action.clone()).of(&appid(number)).times(2));
            }
            fake.hold_token_calls();
            let world = plan.start_with(fake).await;
            let (answers, _) = call_all(&world, names.len()).await;
            for ((number, name), answer) in names.iter().enumerate().zip(answers) {
                let text = answer.text();
                assert_eq!(answer.errcode(), Some(0), "{name}: {text}");
                assert_eq!(answer.json()["appid"], appid(number), "{name}");
                if !name.starts_with("latency") {
                    let line = format!("event=refresh_failed app={name} ");
                    world.envoy.wait_for_log(&line, SOON).await;
                }
            }
            world.finish().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_connections_are_refused_callers_wait_and_then_get_their_answer() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting);
        plan.document["wait"] = json!({"timeout": PATIENCE});
        plan.document["refresh"] = json!({"backoff": {"initial": "100ms", "max": "500ms"}});
        let mut door = Door::closed().unwrap();
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        let tokens_at = door.address();
        let world = plan.start_apart(fake, tokens_at).await;
        let (answer, ()) = tokio::join!(world.get("/cgi-bin/echo", &[]), async {
            let line = format!("event=refresh_failed app={APPID} unreachable=");
            world.envoy.wait_for_log(&line, SOON).await;
            world.parked(1).await;
            let report = world.fake.report();
            assert_eq!((report.business_calls, report.token_calls), (0, 0));
            door.open(world.fake.address()).unwrap();
        });
        assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
        assert_eq!(world.fake.report().token_calls, 1);
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_errcode_answers_callers_at_once_with_its_reason() {
    const FATAL: [i64; 15] = [
        40001, 40002, 40013, 40125, 40164, 40243, 41002, 41004, 45009, 45011, 50004, 50007, 61004,
        89503, 89507,
    ];
    in_each_setting(|setting| async move {
        let mut names: Vec<_> = FATAL.iter().map(ToString::to_string).collect();
        let passing = names.len();
        names.push("passing".to_owned());
        let mut plan = with_named(plan(setting), &names, "60s");
        plan.document["apps"][0]["on_unavailable"] = json!({"status": 502});
        plan.document["apps"][passing]["on_unavailable"] = json!({"action": "pass"});
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        for (number, code) in FATAL.into_iter().chain([40013]).enumerate() {
            fake.arm(Fault::on_token(Action::Errcode { code }).of(&appid(number)));
        }
        fake.hold_token_calls();
        let world = plan.start_with(fake).await;
        // Those who wait are answered when WeChat has said no; the others without waiting.
        let (waited, after) = call_all(&world, names.len()).await;
        assert!(after < AT_ONCE, "{after:?}");
        for (number, code) in FATAL.into_iter().enumerate() {
            let appid = appid(number);
            let named = [("x-wechat-appid", appid.as_str())];
            let exchange = world.call("/cgi-bin/echo", &named).await;
            let status = if number == 0 { 502 } else { 503 };
            exchange.assert_refused(status, "refused");
            let late = &exchange.answer;
            assert!(late.elapsed < AT_ONCE, "{code}: {:?}", late.elapsed);
            let retry = late.header("retry-after").map(str::parse::<u64>);
            assert!(matches!(retry, Some(Ok(1..))), "{code}: {retry:?}");
            for answer in [late, &waited[number]] {
                let (text, reason) = (answer.text(), answer.header("x-wechat-token-error"));
                assert_eq!(reason, Some("refused"), "{code}: {text}");
                assert!(text.contains(&format!("errcode {code}")), "{code}: {text}");
            }
            let line = format!("event=refresh_failed app={code} errcode={code} ");
            world.envoy.wait_for_log(&line, SOON).await;
        }
        // Each has failed once by now, and no next call is due before a minute has passed.
        assert_eq!(world.fake.report().token_calls, names.len() as u64);
        assert_eq!(waited[passing].errcode(), Some(41001));
        let path = format!("/cgi-bin/echo?a=1&from_appid={}", appid(passing));
        let exchange = world.call(&path, &[]).await;
        assert_eq!(exchange.target(), "/cgi-bin/echo?a=1");
        // It stays named: were the route to send it again, that attempt must not be taken for another app's.
        let header = exchange.arrived().header("x-wechat-appid");
        assert_eq!(header, Some(appid(passing).as_str()));
        assert_eq!(world.fake.report().business_calls, 2, "the passing ones");
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_token_serves_while_refreshing_fails() {
    in_settings_at_once(6, |setting| async move {
        let mut plan = plan(setting);
        plan.document["refresh"] = json!({"backoff": {"initial": "100ms", "max": "500ms"}});
        plan.settings = plan
            .settings
            .with_token_lifetime(Duration::from_secs(12))
            .with_overlap(Duration::from_secs(6));
        let world = plan.start().await;
        world.ready().await;
        world.fake.arm(Fault::on_token(Action::Reset));
        let line = format!("event=refresh_failed app={APPID} unreachable=");
        world.envoy.wait_for_log(&line, SOON).await;
        let exchange = world.call("/cgi-bin/echo", &[]).await;
        assert_eq!(exchange.arrived().token, Some(1), "{exchange:?}");
        assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
        world.fake.clear_faults();
        until_some(SOON, "the next token serves", || async {
            let exchange = world.call("/cgi-bin/echo", &[]).await;
            assert_eq!(exchange.answer.errcode(), Some(0), "{exchange:?}");
            (exchange.arrived().token == Some(2)).then_some(())
        })
        .await;
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_list_of_secrets_the_next_is_tried_at_once_on_either_endpoint() {
    in_each_setting(|setting| async move {
        let mut plan = plan(setting).with_apps(&[&appid(0), &appid(1)]);
        let wrong = "0000000000000000000000000000wrong";
        for (number, api) in ["stable", "classic"].into_iter().enumerate() {
            let app = &mut plan.document["apps"][number];
            app["token_api"] = json!(api);
            app["sole_refresher"] = json!(true);
            app["secret"] = Value::Array(vec![json!({"env": "WRONG"}), app["secret"].take()]);
        }
        plan.config.host_env("WRONG");
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        let builder = plan.builder(&fake).env("WRONG", wrong);
        let world = World::new(setting, fake, builder.start().await);
        for (number, path) in ["/cgi-bin/stable_token", "/cgi-bin/token"]
            .into_iter()
            .enumerate()
        {
            let appid = appid(number);
            let answer = world
                .get("/cgi-bin/echo", &[("x-wechat-appid", appid.as_str())])
                .await;
            assert_eq!(answer.json()["appid"], appid.as_str(), "{}", answer.text());
            let report = world.fake.report();
            let results = (report.count(path, "40001"), report.count(path, "0"));
            assert_eq!(results, (1, 1), "{path}: {:?}", report.endpoints);
        }
        world.finish_hiding(&[wrong]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_takes_no_call_leaves_it_to_the_next_upstream() {
    in_settings_at_once(4, |setting| async move {
        let mut plan = plan(setting);
        let empty = json!({"name": "no_host", "type": "STATIC", "connect_timeout": "1s"});
        plan.config.push("static_resources.clusters", empty);
        plan.document["weixin"] = json!({
            "upstreams": [{"cluster": "no_such_cluster"}, {"cluster": "no_host"}, {"cluster": "wechat_token"}],
        });
        plan.document["wait"] = json!({"timeout": PATIENCE});
        let world = plan.start().await;
        world.ready().await;
        world.envoy.wait_for_log("event=calls_not_sent", SOON).await;
        world.finish().await;
    })
    .await;
}
