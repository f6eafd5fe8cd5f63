//! Time that does not pass as it should: wall clocks that step, processes that stand still, ticks that come late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use support::client::{concurrent, Answer};
use support::envoy::WallClock;
use support::wait::{until, until_some};
use support::wechat::{FakeWeChat, Report, Rule};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use crate::settings::{in_settings_at_once, Placement};
use crate::world::{plan, Plan, World, APPID, HOST, SOON};

const STABLE: &str = "wxstable000000000";
const CLASSIC: &str = "wxclassic00000000";
const THRIFTY: &str = "wxthrifty00000000";
/// What waits for a token to age costs no core, so all settings go at once.
const AT_ONCE: usize = 4;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// How exactly a wall clock is read, on a machine that is busy.
const CALLERS: usize = 20;
const EXACT: i64 = 30;
const TICK_MS: u64 = 250;
/// How long a starved process runs before it stands still for nine times as long.
const STARVED: Duration = Duration::from_millis(100);
/// How much later than it should be something is seen on a machine that is busy.
const BUSY_MS: u64 = 1_000;

/// Steps to so many seconds ahead of the true time, and waits until Envoy shows it.
async fn step(clock: &WallClock, world: &World, seconds: i64) {
    clock.step(seconds);
    until_some(SOON, "Envoy's wall clock steps", || async {
        let answer = world.get("/", &[("host", "nobody.example")]).await;
        assert_eq!(answer.status, 421, "Envoy's own answer");
        let shown = httpdate::parse_http_date(answer.header("date")?).ok()?;
        let ahead = unix_seconds(shown) - unix_seconds(now());
        ((ahead - seconds).abs() < EXACT).then_some(())
    })
    .await;
}

#[allow(clippy::disallowed_methods)] // the true time, to compare with
fn now() -> SystemTime {
    SystemTime::now()
}

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_secs() as i64
}

/// A caller for each of these apps that calls 50 times a second until it is told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Vec<Answer>>>,
}

impl Load {
    fn start(world: &World, apps: &[&'static str]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let callers = apps.iter().copied().map(|appid| {
            let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                let headers = [
                    ("host", HOST),
                    ("x-wechat-appid", appid),
                    ("x-expect-appid", appid),
                ];
                let mut pace = interval(Duration::from_millis(20));
                let mut answers = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    pace.tick().await;
                    answers.push(client.get_with(&url, &headers).await.unwrap());
                }
                answers
            })
        });
        Load {
            callers: callers.collect(),
            is_over,
        }
    }

    async fn stop(self) -> Vec<Answer> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for caller in self.callers {
            all.extend(caller.await.unwrap());
        }
        all
    }
}

/// Tokens that live so long and overlap for the last half of it; they are renewed in the third quarter.
fn short_lived(mut plan: Plan, life: Duration) -> Plan {
    plan.settings = plan
        .settings
        .with_token_lifetime(life)
        .with_overlap(life / 2);
    plan
}

/// No two token calls of an app came closer than half a life, less what a busy machine mixes up.
fn assert_no_storm(report: &Report, appid: &str, life: Duration) {
    let least = (life / 2).as_millis() as u64 - BUSY_MS;
    let calls = report.token_log.iter().filter(|call| call.appid == appid);
    let times: Vec<_> = calls.map(|call| call.at_ms).collect();
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] >= least, "{appid}: {times:?}");
    }
    assert_eq!(report.app(appid).in_flight_max, 1, "{appid}");
}

fn assert_all_good(answers: &[Answer]) {
    for answer in answers {
        assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
    }
}

/// The seconds that Envoy's log says THRIFTY waits for its next budget.
fn budget_waits(log: &str) -> Option<i64> {
    let line = log
        .lines()
        .find(|line| line.contains("event=budget_spent") && line.contains(THRIFTY))?;
    line.rsplit_once("retry_s=")?.1.trim().parse().ok()
}

fn until_midnight_in_shanghai(ahead: i64) -> i64 {
    DAY - (unix_seconds(now()) + ahead + 8 * HOUR) % DAY
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_steps_by_an_hour_or_a_day_changes_nothing() {
    in_settings_at_once(AT_ONCE, |setting| async move {
        let life = Duration::from_secs(8);
        let clock = WallClock::ahead(HOUR);
        let mut plan = short_lived(plan(setting).with_apps(&[STABLE, CLASSIC, THRIFTY]), life);
        for app in [1, 2] {
            plan.document["apps"][app]["token_api"] = json!("classic");
            plan.document["apps"][app]["sole_refresher"] = json!(true);
        }
        plan.document["apps"][2]["refresh"] = json!({"daily_budget": 1});
        let fake = FakeWeChat::start(plan.settings.clone()).await;
        let envoy = clock.of(plan.builder(&fake)).start().await;
        let world = World::new(setting, fake, envoy);
        step(&clock, &world, HOUR).await;
        let load = Load::start(&world, &[STABLE, CLASSIC]);
        // The plugin sees this clock: midnight is an hour nearer.
        let wait = until_some(SOON, "a budget is spent", || async {
            budget_waits(&world.envoy.logs())
        })
        .await;
        let expected = until_midnight_in_shanghai(HOUR);
        let apart = (wait - expected).rem_euclid(DAY);
        assert!(apart.min(DAY - apart) < EXACT, "{wait} {expected}");
        for ahead in [0, DAY, 0, HOUR] {
            step(&clock, &world, ahead).await;
            let made = |appid| world.fake.report().app(appid).tokens_made;
            let before = [made(STABLE), made(CLASSIC)];
            until(SOON, "both tokens are renewed", || {
                made(STABLE) > before[0] && made(CLASSIC) > before[1]
            })
            .await;
        }
        let answers = load.stop().await;
        assert!(answers.len() > 100, "{}", answers.len());
        assert_all_good(&answers);
        let report = world.fake.report();
        for appid in [STABLE, CLASSIC] {
            assert_no_storm(&report, appid, life);
        }
        world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_paused_for_longer_than_its_token_lives_makes_one_token_call_and_goes_on() {
    in_settings_at_once(AT_ONCE, |setting| async move {
        let life = Duration::from_secs(6);
        let world = short_lived(plan(setting), life).start().await;
        world.ready().await;
        let (client, url) = (world.client.clone(), world.url("/cgi-bin/echo"));
        let calls = || {
            let (client, url) = (client.clone(), url.clone());
            concurrent(CALLERS, move |_| {
                let (client, url) = (client.clone(), url.clone());
                async move { client.get_with(&url, &[("host", HOST)]).await.unwrap() }
            })
        };
        assert_all_good(&calls().await);
        world.envoy.pause();
        let dead = world.fake.report().uptime_ms + life.as_millis() as u64 + 2_000;
        let waiting = calls();
        let before = world.fake.report().business_calls;
        let (answers, resumed) = tokio::join!(waiting, async {
            until(SOON, "the token is dead", || {
                world.fake.report().uptime_ms > dead
            })
            .await;
            assert_eq!(world.fake.report().business_calls, before, "it is paused");
            let resumed = world.fake.report().uptime_ms;
            world.envoy.resume();
            resumed
        });
        // Whoever comes in the first tick may still get the dead token: upstream Envoy sends the call again.
        let is_downstream = world.setting.placement == Placement::Downstream;
        for answer in &answers {
            let errcode = answer.errcode();
            let is_expired = is_downstream && errcode == Some(42001);
            assert!(errcode == Some(0) || is_expired, "{}", answer.text());
        }
        let report = world.fake.report();
        for violation in &report.violations {
            let is_early = violation.at_ms <= resumed + TICK_MS + BUSY_MS;
            let is_known = violation.rule == Rule::ExpiredToken && is_early;
            assert!(is_known, "resumed at {resumed}: {violation:?}");
        }
        assert_no_storm(&report, APPID, life);
        let made = report.app(APPID).tokens_made;
        // The one who kept the token keeps it: a lease that moves would leave its call without effect.
        until(SOON, "the token is renewed in time again", || {
            world.fake.report().app(APPID).tokens_made > made
        })
        .await;
        assert!(!world.envoy.logs().contains("event=lease_"));
        assert_no_storm(&world.fake.report(), APPID, life);
        world.fake.reset();
        world.finish().await;
    })
    .await;
}

/// Lets the process run for a tenth of the time only.
async fn starve(world: &World, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        world.envoy.pause();
        sleep(STARVED * 9).await;
        world.envoy.resume();
        sleep(STARVED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_ticks_nine_in_ten_of_which_are_late_tokens_are_renewed_and_no_call_fails() {
    in_settings_at_once(AT_ONCE, |setting| async move {
        let life = Duration::from_secs(12);
        let world = short_lived(plan(setting), life).start().await;
        world.ready().await;
        let load = Load::start(&world, &[APPID, APPID]);
        let is_over = AtomicBool::new(false);
        tokio::join!(starve(&world, &is_over), async {
            until(SOON * 2, "the token is renewed twice", || {
                world.fake.report().app(APPID).tokens_made >= 3
            })
            .await;
            is_over.store(true, Ordering::Relaxed);
        });
        let answers = load.stop().await;
        assert!(answers.len() > 20, "{}", answers.len());
        assert_all_good(&answers);
        assert_no_storm(&world.fake.report(), APPID, life);
        world.finish().await;
    })
    .await;
}
