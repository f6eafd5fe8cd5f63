//! What Envoy itself shows at levels below info, which no plugin can prevent: `docs/operations.md` names the loggers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use support::envoy::workspace;
use support::wait::until;

use super::stage::{stage_plan, Stage, Way};
use super::words::Words;
use crate::mesh::{LONG, PASSWORD};
use crate::settings::{versions_and_placements, Setting};
use crate::world::APPID;

/// The loggers that show a token, a secret or Redis's password at a level, over all versions and placements: in the plugin's Envoy,
/// and in one behind it.
const SHOWN: [(&str, &[&str], &[&str]); 2] = [
    ("debug", &["router"], &["http", "router"]),
    ("trace", &["router"], &["http", "router"]),
];

/// By level, what was found in the plugin's Envoy and in the one behind it.
type Found = BTreeMap<&'static str, [BTreeMap<String, usize>; 2]>;

#[tokio::test(flavor = "multi_thread")]
async fn below_info_the_loggers_that_are_documented_show_tokens_and_no_others() {
    let shows = versions_and_placements()
        .into_iter()
        .map(|setting| tokio::spawn(show(setting)));
    let mut found = Found::new();
    for show in shows.collect::<Vec<_>>() {
        for (level, places) in show.await.unwrap() {
            let all = found.entry(level).or_default();
            for (all, counts) in all.iter_mut().zip(places) {
                for (logger, lines) in counts {
                    *all.entry(logger).or_default() += lines;
                }
            }
        }
    }
    let document = std::fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    for (level, plugin, behind) in SHOWN {
        let names = |place: usize| found[level][place].keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            (&names(0)[..], &names(1)[..]),
            (&owned(plugin)[..], &owned(behind)[..]),
            "{level}: {found:?}"
        );
        let cell = |loggers: &[&str]| {
            let loggers = loggers.iter().map(|logger| format!("`{logger}`"));
            loggers.collect::<Vec<_>>().join(", ")
        };
        let row = format!("| {level} | {} | {} |", cell(plugin), cell(behind));
        assert!(document.contains(&row), "docs/operations.md has no {row}");
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Two calls and a token call at each level; returns what was shown.
async fn show(setting: Setting) -> Found {
    let mut found = Found::new();
    let mut plan = stage_plan(setting);
    plan.settings = plan
        .settings
        .with_token_lifetime(Duration::from_secs(8))
        .with_overlap(Duration::from_secs(4));
    plan.document["apps"][0]["token_api"] = json!("classic");
    plan.document["refresh"] = json!({"lead": "4s", "jitter": "1s"});
    let stage = Stage::start(plan, &[]).await;
    let envoys = [&stage.world.envoy, &stage.egress.envoy];
    stage
        .call(Way::Straight, "/cgi-bin/echo", "before.", &[])
        .await;
    for (level, _, _) in SHOWN {
        let starts = envoys.map(|envoy| envoy.logs().len());
        for envoy in envoys {
            envoy.admin_post(&format!("/logging?level={level}")).await;
        }
        let made = || stage.world.fake.report().app(APPID).tokens_made;
        let before = made();
        for word in ["during", "behind"] {
            let word = format!("{word}-{level}.");
            stage.call(Way::Straight, "/cgi-bin/echo", &word, &[]).await;
            until(LONG, "a token call", || made() > before).await;
        }
        let words = [stage.world.fake.leaks(), vec![PASSWORD.to_owned()]].concat();
        let words = Words::of(words);
        let shown = |place: usize| by_logger(&envoys[place].logs()[starts[place]..], &words);
        found.insert(level, [shown(0), shown(1)]);
    }
    found
}

/// How many lines of a log show one of the words, by the logger that wrote them. A line that does not begin as Envoy's do goes on
/// with the one before.
fn by_logger(log: &str, words: &Words) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut logger = "-";
    for line in log.lines() {
        // [2026-11-26 12:00:00.000][17][debug][router] [source/…:1] …
        let mut parts = line.split("][");
        if let (true, Some(last)) = (line.starts_with("[20"), parts.nth(3)) {
            logger = last.split(']').next().unwrap_or("-");
        }
        if words.first_in(line).is_some() {
            *counts.entry(logger.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}
