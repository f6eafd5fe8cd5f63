//! The status page of the shipped files, as probes, programs and people see it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::{json, Value};
use support::browser::Browser;
use support::client::Answer;
use support::wait::until_some;

use crate::settings::{in_each_setting, versions_and_placements};
use crate::world::{app, plan, World, APPID, SECRET, SOON};

const OTHER: &str = "wxother0123456789";

impl World {
    async fn page(&self, method: &str, path: &str) -> Answer {
        let url = self.envoy.url("metrics", path);
        let answer = self.client.call(method, &url, &[], Vec::new().into()).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    async fn status(&self) -> Value {
        let answer = self.page("GET", "/status.json").await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()
    }

    /// Waits until the status of the first app shows this value at this place.
    async fn shows(&self, place: &str, value: Value) -> Value {
        let what = format!("{place} = {value}");
        until_some(SOON, &what, || async {
            let app = self.status().await["apps"][0].take();
            (app.pointer(place) == Some(&value)).then_some(app)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_sees_that_every_app_has_a_token_and_everybody_that_none_is_shown() {
    in_each_setting(|setting| async move {
        let plan = plan(setting).with_apps(&[APPID, OTHER]);
        let world = plan.start_cold().await;
        let answer = world.page("GET", "/ready").await;
        assert_eq!(
            (answer.status, answer.json()),
            (
                503,
                json!({"ready": false, "without_token": [APPID, OTHER]})
            )
        );
        world.fake.release();
        let answer = until_some(SOON, "two tokens", || async {
            let answer = world.page("GET", "/ready").await;
            (answer.status == 200).then_some(answer)
        })
        .await;
        assert_eq!(answer.json(), json!({"ready": true, "without_token": []}));
        world
            .get("/cgi-bin/echo", &[("x-wechat-appid", OTHER)])
            .await;
        let status = world.status().await;
        for (place, appid) in [APPID, OTHER].into_iter().enumerate() {
            let app = &status["apps"][place];
            assert_eq!(app["appid"], appid);
            assert_eq!(
                (&app["state"], &app["generation"]),
                (&json!("ok"), &json!(1)),
                "{app}"
            );
            assert_eq!(app["last_refresh"]["result"], "renewed", "{app}");
            assert_eq!(app["lease"]["holder"], "singleton", "{app}");
            assert_eq!(app["lease"]["alive"], true, "{app}");
            assert!(app["remaining_seconds"].as_u64() > Some(60), "{app}");
        }
        // What is not the page's goes on to where it went.
        for (method, path, expected) in [
            ("GET", "/", 200),
            ("HEAD", "/ready", 200),
            ("POST", "/status.json", 405),
            ("GET", "/config_dump", 404),
            ("GET", "/quitquitquit", 404),
        ] {
            let answer = world.page(method, path).await;
            assert_eq!(answer.status, expected, "{method} {path}");
            for leak in world.fake.leaks() {
                assert!(
                    !answer.text().contains(&leak),
                    "{method} {path} shows {leak}"
                );
            }
        }
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wechat_refuses_is_told_in_words_until_it_is_mended() {
    for setting in versions_and_placements() {
        let mut plan = plan(setting);
        plan.document = json!({"apps": [app(APPID)], "weixin": {"timeout": "2s"}});
        plan.settings = plan
            .settings
            .with_token_lifetime(Duration::from_secs(6))
            .with_overlap(Duration::from_secs(3));
        let world = plan.start().await;
        world.ready().await;
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        world.fake.set_ip_whitelist(APPID, &[elsewhere]);
        let failing = world.shows("/last_error/errcode", json!(40164)).await;
        let error = &failing["last_error"];
        assert_eq!(
            error["meaning"],
            "the calling IP is not in the app's whitelist"
        );
        assert_eq!(
            error["advice"],
            "add this Envoy's outgoing IP to the app's IP whitelist"
        );
        assert_eq!(failing["breaker"], "open");
        let down = world.shows("/state", json!("down")).await;
        assert_eq!(down["remaining_seconds"], 0);
        assert!(down["retry_in_seconds"].as_u64() > Some(0), "{down}");
        assert_eq!(world.page("GET", "/ready").await.status, 503);
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_read_it_in_english_and_in_chinese() {
    let setting = crate::settings::settings()[0];
    let mut plan = plan(setting);
    let mut shop = app(APPID);
    shop["name"] = json!("shop");
    let mut wrong = app(OTHER);
    wrong["name"] = json!("wrong");
    plan.settings = plan
        .settings
        .with_app(OTHER, "0123456789abcdef0123456789abcdef");
    plan.document = json!({"apps": [shop, wrong], "default_app": APPID});
    let world = plan.start().await;
    world.ready().await;
    let line = "event=refresh_failed app=wrong errcode=40001";
    world.envoy.wait_for_log(line, SOON).await;
    let url = world.envoy.url("metrics", "/");
    let english = [
        "not every app has a live token",
        &format!("shop · {APPID}"),
        "last refresh",
        "renewed",
        "singleton · slot",
        "no live token",
        "errcode 40001 · the secret is wrong",
        "中文",
    ];
    let chinese = [
        "有应用没有有效的 token",
        &format!("shop · {APPID}"),
        "上次刷新",
        "新 token",
        "单例(singleton) · 槽位",
        "没有有效的 token",
        "errcode 40001 · AppSecret 错误",
        "English",
    ];
    for (language, query, texts) in [
        ("en-US", "", english),
        ("zh-CN", "", chinese),
        ("en-US", "?lang=zh", chinese),
        ("zh-CN", "?lang=en", english),
    ] {
        let page = Browser::new(language).shown(&format!("{url}{query}")).await;
        for text in texts {
            assert!(
                page.contains(text),
                "{language} {query}: no {text} in {page}"
            );
        }
        for leak in [world.fake.leaks(), vec![SECRET.to_owned()]].concat() {
            assert!(!page.contains(&leak), "{language} {query}");
        }
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_left_out_for_want_of_a_secret_does_not_keep_an_envoy_from_being_ready() {
    let mut plan = plan(crate::settings::settings()[0]);
    let mut without = app(OTHER);
    without["secret"] = json!({"env": "NOT_SET_ANYWHERE"});
    plan.document =
        json!({"apps": [app(APPID), without], "default_app": APPID, "on_bad_app": "skip"});
    let world = plan.start().await;
    world.ready().await;
    world.shows("/state", json!("ok")).await;
    assert_eq!(world.status().await["apps"][1]["state"], "unkept");
    let answer = world.page("GET", "/ready").await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"ready": true, "without_token": [OTHER]}))
    );
    world.finish().await;
}
