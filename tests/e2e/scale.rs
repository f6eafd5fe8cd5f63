//! Eight Envoys under load on one Redis: ten rotations of a classic token, of which no caller and no WeChat notices anything.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::client::Client;
use support::wait::until;
use support::wechat::{Report, TokenCall};
use tokio::task::JoinSet;

use crate::mesh::{mesh, Mesh, LONG};
use crate::settings::{setting, Placement};
use crate::world::{APPID, HOST};

const ENVOYS: usize = 8;
const ROTATIONS: usize = 10;
/// A token's life in seconds, and how long a replaced one works beside the next. One is made each time when the one before
/// has half of its life to go.
const LIFE: u64 = 12;
const OVERLAP: u64 = 6;
/// Between two calls of a caller: ten Envoys and their callers share a machine.
const PAUSE: Duration = Duration::from_millis(10);

/// A caller for each Envoy.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    calls: AtomicU64,
}

/// Calls through every Envoy until `done`; each answer must be good. The number of calls.
async fn load_until(mesh: &Mesh, done: impl FnMut() -> bool) -> u64 {
    let load = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    for envoy in &mesh.envoys {
        let (url, load) = (envoy.url("wechat", "/cgi-bin/echo"), Arc::clone(&load));
        callers.spawn(async move {
            let client = Client::new();
            let headers = [("host", HOST), ("x-expect-appid", APPID)];
            let mut pace = tokio::time::interval(PAUSE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !load.is_over.load(Ordering::Relaxed) {
                pace.tick().await;
                let answer = client.get_with(&url, &headers).await.unwrap();
                assert_eq!(answer.errcode(), Some(0), "{}", answer.text());
                load.calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    until(LONG * 3, "the tokens rotate", done).await;
    load.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    load.calls.load(Ordering::Relaxed)
}

/// The longest use of a token after the call came that replaced it.
fn longest_use(made: &[TokenCall], report: &Report) -> Duration {
    let last_used = report.app(APPID).last_used_ms;
    let uses = made.windows(2).map(|pair| {
        let last = pair[0].token.and_then(|number| last_used.get(&number));
        last.map_or(0, |last| last.saturating_sub(pair[1].at_ms))
    });
    Duration::from_millis(uses.max().unwrap_or_default())
}

/// What `INFO stats` says of a counter.
fn counted(mesh: &Mesh, name: &str) -> u64 {
    let stats: String = mesh.redis.run(&["INFO", "all"]);
    let mut lines = stats.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|line| line.0 == name).expect("a counter");
    let value = value.trim_start_matches("calls=").split(',').next();
    value.unwrap_or_default().trim().parse().expect("a number")
}

// In one setting only: eight Envoys are much for a machine, and what the settings differ in the other tests of a mesh show.
#[tokio::test(flavor = "multi_thread")]
async fn eight_envoys_rotate_a_classic_token_ten_times_with_ten_calls_and_no_caller_notices() {
    let mut plan =
        mesh(setting("1.40.0", 1, Placement::Upstream), ENVOYS).with_tokens(LIFE, OVERLAP);
    plan.document["refresh"] = json!({"lead": format!("{OVERLAP}s"), "jitter": "1s"});
    let mesh = plan.start().await;
    mesh.agree(LONG).await;
    let before = mesh.fake.report();
    let (first, asked) = (mesh.made().len(), counted(&mesh, "cmdstat_eval"));
    let connected = counted(&mesh, "total_connections_received");
    let calls = load_until(&mesh, || mesh.made().len() >= first + ROTATIONS).await;
    // The last token gets to everybody, too.
    mesh.agree_with_redis(Duration::from_secs(OVERLAP)).await;
    let (made, report) = (mesh.made(), mesh.fake.report());
    let span = Duration::from_millis(report.uptime_ms - before.uptime_ms);
    let stale = longest_use(&made, &report);
    println!(
        "{calls} calls in {span:.1?}; the longest use of a replaced token {stale:.1?}; at Redis {} steps, {} connections",
        counted(&mesh, "cmdstat_eval") - asked,
        counted(&mesh, "total_connections_received") - connected,
    );
    assert_eq!(made.len(), first + ROTATIONS, "{made:?}");
    assert_eq!(
        report.token_calls,
        made.len() as u64,
        "{:?}",
        report.token_log
    );
    assert_eq!(report.app(APPID).in_flight_max, 1);
    assert!(calls > 1_000, "{calls}");
    assert_eq!(
        report.business_calls, report.business_ok,
        "{:?}",
        report.business_errcodes
    );
    assert!(report.business_ok >= before.business_ok + calls);
    assert!(stale <= Duration::from_secs(OVERLAP) / 2, "{stale:?}");
    mesh.finish().await;
}
