//! A scripted incident on real Envoys before a real Prometheus: every alert fires and ends as it should, and every query of the dashboard has something to
//! show.

use std::collections::BTreeSet;
use std::time::Duration;

use support::envoy::workspace;
use support::wait::{until_some, within_at};
use support::wechat::{Action, Fault, TokenApi};

use crate::alerts::rules;
use crate::dashboard::panels;
use crate::picture::{draw, Drawn, Line};
use crate::prometheus::{promtool, Alert, Prometheus, Series};
use crate::scene::{Scene, CAFE, LIFE, NEIGHBOURS_KEY, SHOP};

/// For what takes a life of a token or the minute between two tries, on a machine that is busy.
const LONG: Duration = Duration::from_secs(120);
/// How often Prometheus is asked while something is waited for.
const LOOK: Duration = Duration::from_millis(200);

/// This moment, by Prometheus' clock.
async fn now(prometheus: &Prometheus) -> f64 {
    prometheus.query("vector(time())").await[0].values[0].1
}

fn is_it(alert: &Alert, name: &str, labels: &[(&str, &str)]) -> bool {
    let has =
        |(name, value): &(&str, &str)| alert.labels.get(*name).is_some_and(|label| label == value);
    alert.fires && alert.name == name && labels.iter().all(has)
}

/// Waits until this alert fires or, with `false`, does not; it has such labels.
async fn wait_for(prometheus: &Prometheus, fires: bool, name: &str, labels: &[(&str, &str)]) {
    let state = within_at(LOOK, LONG, || async {
        let alerts = prometheus.alerts().await;
        let found = alerts.iter().find(|alert| is_it(alert, name, labels));
        if let Some(alert) = found {
            assert_told(alert);
        }
        (found.is_some() == fires).then_some(())
    })
    .await;
    let state = state.is_some();
    let alerts = prometheus.alerts().await;
    assert!(state, "{name} {labels:?} fires: not {fires}; {alerts:?}");
}

/// What an operator reads is filled in.
fn assert_told(alert: &Alert) {
    for text in alert.annotations.values() {
        for bad in ["<no value>", "<error", "{{", "%!"] {
            assert!(!text.contains(bad), "{}: {text}", alert.name);
        }
    }
}

async fn wait_for_value(prometheus: &Prometheus, expr: &str) {
    until_some(LONG, expr, || async {
        let found = prometheus.query(expr).await;
        (!found.is_empty()).then_some(())
    })
    .await;
}

/// The app's address is taken out of the whitelist, until callers get errors for it.
async fn shop_loses_its_address(scene: &Scene) {
    let prometheus = &scene.prometheus;
    let shop = [("app", "shop")];
    scene
        .fake
        .set_ip_whitelist(SHOP, &["192.0.2.1".parse().unwrap()]);
    wait_for(prometheus, true, "WechatTokenIpNotAllowed", &shop).await;
    wait_for(prometheus, true, "WechatTokenExpiresSoon", &shop).await;
    let refused = [("reason", "refused")];
    wait_for(prometheus, true, "WechatTokenLocalReplies", &refused).await;
    scene.fake.set_ip_whitelist(SHOP, &[]);
    // It is tried again a minute after it was refused.
    wait_for(prometheus, false, "WechatTokenExpiresSoon", &shop).await;
    wait_for(prometheus, false, "WechatTokenLocalReplies", &refused).await;
    wait_for(prometheus, false, "WechatTokenIpNotAllowed", &shop).await;
}

/// An app of four calls a day makes them; then the day ends.
async fn mall_spends_its_budget(scene: &Scene) {
    let mall = [("app", "mall")];
    wait_for(
        &scene.prometheus,
        true,
        "WechatTokenBudgetNearlyUsed",
        &mall,
    )
    .await;
    wait_for(&scene.prometheus, true, "WechatTokenExpiresSoon", &mall).await;
    scene.end_the_day();
    wait_for(
        &scene.prometheus,
        false,
        "WechatTokenBudgetNearlyUsed",
        &mall,
    )
    .await;
}

/// Somebody beside the mesh makes tokens; then WeChat rejects ours, again and again; then Redis is away.
async fn cafe_has_a_bad_day(scene: &mut Cafe<'_>) {
    let Cafe { scene, redis } = scene;
    let (prometheus, fake) = (&scene.prometheus, &scene.fake);
    for times in 1..=2 {
        let theirs = fake.issue_elsewhere(CAFE, TokenApi::Classic);
        let life = LIFE.as_millis().to_string();
        redis.run::<()>(&["SET", NEIGHBOURS_KEY, &theirs, "PX", &life]);
        let seen = format!("sum by (instance) (wechat_token_neighbours_seen_total) >= {times}");
        wait_for_value(prometheus, &seen).await;
    }
    wait_for(prometheus, true, "WechatTokenNeighbourOverwrites", &[]).await;
    // WeChat is busy for a moment, and something takes a token out of a path.
    fake.arm(
        Fault::on_token(Action::Errcode { code: -1 })
            .of(CAFE)
            .times(3),
    );
    // Twice: what a counter begins with is no rise that Prometheus sees.
    for _ in 0..2 {
        let missing = Fault::on_business(Action::Errcode { code: 41001 });
        let counted = fake.report().errcode(41001) + 10;
        fake.arm(missing.of(CAFE).times(10));
        let counted = format!("sum(wechat_token_missing_total{{app=\"cafe\"}}) >= {counted}");
        wait_for_value(prometheus, &counted).await;
    }
    // Each token of the mesh's is rejected, until it is told. (A neighbour's works on for a while, so it may take some.)
    let mut made = None;
    let told = within_at(LOOK, LONG, || {
        let count = Some(fake.report().app(CAFE).tokens_made);
        if made != count {
            made = count;
            fake.revoke(CAFE, 40001);
        }
        async {
            let alerts = prometheus.alerts().await;
            let mut alerts = alerts.iter();
            alerts
                .any(|alert| is_it(alert, "WechatTokenResendRatio", &[("app", "cafe")]))
                .then_some(())
        }
    })
    .await;
    assert!(told.is_some(), "{:?}", prometheus.alerts().await);
    redis.kill();
    wait_for(prometheus, true, "WechatTokenRedisFailing", &[]).await;
    redis.restart();
    wait_for(prometheus, false, "WechatTokenRedisFailing", &[]).await;
    wait_for(prometheus, false, "WechatTokenNeighbourOverwrites", &[]).await;
    wait_for(prometheus, false, "WechatTokenResendRatio", &[]).await;
}

/// One changes Redis while others look at the rest of the scene.
struct Cafe<'a> {
    scene: &'a Scene,
    redis: &'a mut support::redis::Redis,
}

/// The singleton of one Envoy dies, and a worker goes on.
async fn the_lease_moves(scene: &Scene) {
    let prometheus = &scene.prometheus;
    let instance = scene.lease.address("metrics");
    let held = |by: &str| {
        format!("wechat_token_lease_held{{instance=\"{instance}\",holder=\"{by}\"}} == 1")
    };
    wait_for_value(prometheus, &held("singleton")).await;
    scene.kill_refresher(&scene.lease).await;
    wait_for_value(prometheus, &held("worker")).await;
    let beats = format!(
        "rate(wechat_token_heartbeats_total{{instance=\"{instance}\",holder=\"worker\"}}[4s]) > 0"
    );
    wait_for_value(prometheus, &beats).await;
    wait_for_value(
        prometheus,
        &format!("wechat_token_lease_term{{instance=\"{instance}\"}} >= 2"),
    )
    .await;
}

/// The singleton of another dies, and nobody can go on; then the whole Envoy is gone; then nobody asks for it any more.
async fn one_envoy_is_lost(scene: &Scene, lost: support::envoy::Envoy) {
    let prometheus = &scene.prometheus;
    let instance = lost.address("metrics").to_string();
    let labels = [("instance", instance.as_str())];
    let beats = format!("rate(wechat_token_heartbeats_total{{instance=\"{instance}\"}}[4s]) > 0");
    wait_for_value(prometheus, &beats).await;
    scene.kill_refresher(&lost).await;
    wait_for(prometheus, true, "WechatTokenNoRefresher", &labels).await;
    drop(lost);
    wait_for(prometheus, true, "WechatTokenEnvoyDown", &labels).await;
    scene.forget_lost();
    wait_for(prometheus, false, "WechatTokenEnvoyDown", &labels).await;
    wait_for(prometheus, false, "WechatTokenNoRefresher", &labels).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_fires_and_ends_and_every_query_of_the_dashboard_has_data() {
    let mut scene = Scene::start().await;
    let start = now(&scene.prometheus).await;
    // Nothing is told of a start, and of what goes well.
    let tokens = "count(count_over_time(wechat_token_remaining_seconds[60s]) >= 12) >= 5";
    wait_for_value(&scene.prometheus, tokens).await;
    let alerts = scene.prometheus.alerts().await;
    assert!(alerts.iter().all(|alert| !alert.fires), "{alerts:?}");

    // For people, in the picture.
    let envoys = [
        (scene.main.address("metrics").to_string(), "main"),
        (scene.lease.address("metrics").to_string(), "lease"),
        (scene.lost_address(), "lost"),
    ];
    let lost = scene.lost.take().expect("an Envoy to be lost");
    let mut redis = scene.redis.take().expect("a Redis");
    let mut cafe = Cafe {
        scene: &scene,
        redis: &mut redis,
    };
    tokio::join!(
        shop_loses_its_address(&scene),
        mall_spends_its_budget(&scene),
        cafe_has_a_bad_day(&mut cafe),
        the_lease_moves(&scene),
        one_envoy_is_lost(&scene, lost),
    );

    assert_metrics_are_clean(&scene.page().await);
    let prometheus = &scene.prometheus;
    let fired = "count by (alertname) (last_over_time(ALERTS{alertstate=\"firing\"}[1h]))";
    let fired = prometheus.query(fired).await;
    let fired: BTreeSet<_> = fired
        .into_iter()
        .filter_map(|series| series.labels.get("alertname").cloned())
        .collect();
    let all: BTreeSet<_> = rules().into_iter().map(|rule| rule.name).collect();
    assert_eq!(fired, all);
    let mut drawn = ask_all(prometheus, start, now(prometheus).await).await;
    if std::env::var_os("UPDATE_DASHBOARD").is_some() {
        for line in drawn.iter_mut().flat_map(|one| &mut one.lines) {
            for (address, name) in &envoys {
                line.name = line.name.replace(address, name);
            }
        }
        std::fs::write(workspace().join("docs/dashboard.svg"), draw(&drawn)).unwrap();
    }
    scene.end().await;
}

/// Asks what the dashboard asks; every query has something, and something that is not 0.
async fn ask_all(prometheus: &Prometheus, start: f64, end: f64) -> Vec<Drawn> {
    let (mut drawn, mut empty) = (Vec::new(), Vec::new());
    for panel in panels() {
        let mut lines = Vec::new();
        for query in &panel.queries {
            let found = prometheus.range(&query.expr, start, end, 1.0).await;
            let values = found.iter().flat_map(|series| &series.values);
            let seen = values.filter(|(_, value)| value.is_finite() && *value > 0.0);
            if seen.count() == 0 {
                empty.push(format!("{}: {}: {found:?}", panel.title, query.expr));
            }
            lines.extend(found.into_iter().map(|series| {
                Line {
                    name: legend(&query.legend, &series),
                    points: series
                        .values
                        .iter()
                        .map(|(at, value)| (at - start, *value))
                        .collect(),
                }
            }));
        }
        drawn.push(Drawn { panel, lines });
    }
    assert!(empty.is_empty(), "nothing in:\n{}", empty.join("\n"));
    drawn
}

fn legend(format: &str, series: &Series) -> String {
    let named = series.labels.iter();
    named.fold(format.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}

/// `promtool check metrics` has nothing to say about the plugin's metrics, but that Envoy writes no HELP lines.
fn assert_metrics_are_clean(page: &str) {
    // Envoy's own metrics of the filters have the word in their names too.
    let own = |line: &&str| {
        let name = line.trim_start_matches("# TYPE ");
        name.starts_with("wechat_token_")
    };
    let own: Vec<&str> = page.lines().filter(own).collect();
    let types = own.iter().filter(|line| line.starts_with("# TYPE "));
    assert!(types.count() >= 18, "{page}");
    let (_, said) = promtool(&["check", "metrics"], &(own.join("\n") + "\n"));
    let other = said
        .lines()
        .find(|line| !line.is_empty() && !line.ends_with("no help text"));
    assert_eq!(other, None, "{said}");
    // And it does look: this is what it says about a name that is no good.
    let bad = "# TYPE wechat_token_waits counter\nwechat_token_waits 1\n";
    let (good, said) = promtool(&["check", "metrics"], bad);
    assert!(
        !good && said.contains("should have \"_total\" suffix"),
        "{said}"
    );
}
