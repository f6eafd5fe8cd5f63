//! What Envoy itself shows at levels below info, which no plugin can prevent: `docs/operations.md` names the loggers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use support::envoy::workspace;
use support::wait::until;

use super::stage::{stage_plan, Stage, Way};
use super::words::Words;
use crate::mesh::{LONG, PASSWORD};
use crate::settings::versions_and_placements;
use crate::world::APPID;

/// The loggers that show a token, a secret or Redis's password at a level, over all versions and placements.
const SHOWN: [(&str, &[&str]); 2] = [("debug", &["router"]), ("trace", &["router"])];

#[tokio::test(flavor = "multi_thread")]
async fn below_info_the_loggers_that_are_documented_show_tokens_and_no_others() {
    let document = std::fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    for (level, loggers) in SHOWN {
        let mut found = BTreeMap::new();
        for setting in versions_and_placements() {
            let mut plan = stage_plan(setting);
            plan.settings = plan
                .settings
                .with_token_lifetime(Duration::from_secs(8))
                .with_overlap(Duration::from_secs(4));
            plan.document["apps"][0]["token_api"] = json!("classic");
            plan.document["refresh"] = json!({"lead": "4s", "jitter": "1s"});
            let stage = Stage::start(plan, &[]).await;
            let envoy = &stage.world.envoy;
            let path = "/cgi-bin/echo";
            stage.call(Way::Straight, path, "before.", &[]).await;
            let start = envoy.logs().len();
            envoy.admin_post(&format!("/logging?level={level}")).await;
            let made = || stage.world.fake.report().app(APPID).tokens_made;
            let before = made();
            stage.call(Way::Straight, path, "during.", &[]).await;
            until(LONG, "a token call", || made() > before).await;
            stage.call(Way::Straight, path, "behind.", &[]).await;
            let words = [stage.world.fake.leaks(), vec![PASSWORD.to_owned()]].concat();
            let log = envoy.logs();
            for (logger, lines) in by_logger(&log[start..], &Words::of(words)) {
                eprintln!("{setting:?} {level}: {logger} {lines}");
                *found.entry(logger).or_insert(0) += lines;
            }
        }
        let found: Vec<_> = found.into_keys().collect();
        assert_eq!(found, loggers, "{level}");
        let row = loggers.iter().map(|logger| format!("`{logger}`"));
        let row = format!("| {level} | {} |", row.collect::<Vec<_>>().join(", "));
        assert!(document.contains(&row), "docs/operations.md has no {row}");
    }
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
