//! The rules: they are rules for Prometheus, each fires when it should and not else, and each has an entry in the runbook.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_norway::Value;
use support::envoy::workspace;

use crate::prometheus::promtool;

pub(crate) const FILE: &str = "envoy/monitoring/rules.yaml";
const OPERATIONS: &str = "docs/operations.md";
/// What a test of an incident is faster than life.
pub(crate) const FASTER: u32 = 30;
/// Every time that stands in the rules, in seconds.
const TIMES: [(&str, u64); 8] = [
    ("1d", 86_400),
    ("15m", 900),
    ("10m", 600),
    ("5m", 300),
    ("3m", 180),
    ("2m", 120),
    ("1m", 60),
    ("0s", 0),
];

pub(crate) struct Rule {
    pub(crate) name: String,
    severity: String,
    annotations: Vec<(String, String)>,
}

fn read() -> Value {
    let text = std::fs::read_to_string(workspace().join(FILE)).expect(FILE);
    serde_norway::from_str(&text).expect(FILE)
}

/// Every alert, in order.
pub(crate) fn rules() -> Vec<Rule> {
    let root = read();
    let groups = root["groups"].as_sequence().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_sequence().expect("rules").clone());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rules
        .map(|rule| Rule {
            name: text(&rule["alert"]),
            severity: text(&rule["labels"]["severity"]),
            annotations: rule["annotations"]
                .as_mapping()
                .expect("annotations")
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
        })
        .collect()
}

/// The rules with every time in them divided by [`FASTER`], for a test that has no hours. They are the same otherwise.
pub(crate) fn hurried() -> String {
    let mut root = read();
    for group in root["groups"].as_sequence_mut().expect("groups") {
        for rule in group["rules"].as_sequence_mut().expect("rules") {
            let expr = hurried_expr(rule["expr"].as_str().expect("an expression"));
            rule["expr"] = expr.into();
            if let Some(time) = rule.get("for").and_then(Value::as_str) {
                let short = TIMES.iter().find(|(text, _)| *text == time);
                let (_, seconds) = short.unwrap_or_else(|| panic!("{time} is none of TIMES"));
                rule["for"] = shorter(*seconds).into();
            }
        }
    }
    serde_norway::to_string(&root).expect("YAML")
}

fn hurried_expr(expr: &str) -> String {
    // Seconds that a token has left are a time too.
    let mut short = expr.replace("_seconds < 180", &format!("_seconds < {}", 180 / FASTER));
    for (text, seconds) in TIMES {
        let new = shorter(seconds);
        short = short
            .replace(&format!("[{text}]"), &format!("[{new}]"))
            .replace(&format!("offset {text}"), &format!("offset {new}"));
    }
    let left = short
        .split(['[', ']'])
        .skip(1)
        .step_by(2)
        .find(|time| !time.ends_with("ms"));
    assert!(left.is_none(), "a time that is none of TIMES: {expr}");
    short
}

fn shorter(seconds: u64) -> String {
    let time = Duration::from_secs(seconds) / FASTER;
    format!("{}ms", time.as_millis())
}

#[test]
fn prometheus_takes_the_rules_and_the_configuration() {
    for args in [
        &["check", "rules", "rules.yaml"],
        &["check", "config", "prometheus.yaml"],
    ] {
        let (good, said) = promtool(args, "");
        assert!(good && said.contains("SUCCESS"), "{args:?}: {said}");
    }
}

#[test]
fn each_alert_fires_when_it_should_and_not_else() {
    let (good, said) = promtool(&["test", "rules", "rules.test.yaml"], "");
    assert!(good, "{said}");
    let tests =
        std::fs::read_to_string(workspace().join("envoy/monitoring/rules.test.yaml")).unwrap();
    for Rule { name, .. } in rules() {
        let asked = |samples: &str| {
            let alert = format!("alertname=\"{name}\"");
            let mut lines = tests.lines().filter(|line| line.contains(&alert));
            lines.any(|line| line.contains("exp_samples: []") == samples.is_empty())
        };
        assert!(asked("some"), "{name} is never seen firing");
        assert!(asked(""), "{name} is never seen not firing");
    }
}

#[test]
fn a_rule_that_is_wrong_is_noticed() {
    // The test above would be worth nothing if promtool let a wrong rule pass.
    let text = std::fs::read_to_string(workspace().join(FILE)).unwrap();
    let tests =
        std::fs::read_to_string(workspace().join("envoy/monitoring/rules.test.yaml")).unwrap();
    for (right, wrong) in [
        (" unless wechat_token_refreshes_total offset 5m", ""),
        (
            "wechat_token_breaker_open == 1",
            "wechat_token_breaker_open == 2",
        ),
        ("[2m])) == 0", "[2m])) == 1"),
        (" > 0.01\n", " > 0.1\n"),
        ("0.1 * max_over_time(wechat_token_budget_left[1d])", "100"),
        ("offset 15m\n", "offset 5m\n"),
        (
            r#"{reason!~"unknown_app|app_conflict|app_missing|shows_token"}[2m]"#,
            "[2m]",
        ),
        (r#"up{job="wechat-token"} == 0"#, "up == 0"),
        ("[5m])) > 0.1", "[5m])) > 0"),
    ] {
        assert!(text.contains(right), "{right}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.test.yaml");
        std::fs::write(
            folder.path().join("rules.yaml"),
            text.replacen(right, wrong, 1),
        )
        .unwrap();
        std::fs::write(&file, &tests).unwrap();
        let (good, said) = promtool(&["test", "rules", file.to_str().unwrap()], "");
        assert!(!good, "{wrong:?} in place of {right:?}: {said}");
        assert!(said.contains("FAILED"), "{said}");
    }
}

#[test]
fn each_alert_has_its_entry_in_the_runbook_and_each_entry_its_alert() {
    let text = std::fs::read_to_string(workspace().join(OPERATIONS)).unwrap();
    let (_, runbook) = text.split_once("\n## Runbook\n").expect("a section");
    let runbook = runbook.split("\n## ").next().expect("its end");
    let entries: BTreeSet<&str> = runbook
        .split("\n### ")
        .skip(1)
        .filter_map(|entry| entry.lines().next())
        .collect();
    let rules = rules();
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(entries, names);
    assert_eq!(names.len(), rules.len(), "two alerts of one name");
    for rule in &rules {
        let (_, entry) = runbook
            .split_once(&format!("\n### {}\n", rule.name))
            .expect("an entry");
        let entry = entry.split("\n### ").next().expect("its end");
        let severity = format!("*{}", rule.severity);
        assert!(
            entry.trim().to_lowercase().starts_with(&severity),
            "{} is {}: {entry}",
            rule.name,
            rule.severity
        );
    }
}

#[test]
fn each_alert_says_what_is_wrong_and_what_to_do() {
    for rule in rules() {
        let name = &rule.name;
        assert!(name.starts_with("WechatToken"), "{name}");
        assert!(
            ["critical", "warning"].contains(&rule.severity.as_str()),
            "{name}: {}",
            rule.severity
        );
        let annotation = |wanted: &str| {
            let found = rule.annotations.iter().find(|(name, _)| name == wanted);
            let found = found.unwrap_or_else(|| panic!("{name} has no {wanted}"));
            found.1.clone()
        };
        assert!(annotation("summary").len() > 20, "{name}");
        assert!(annotation("description").len() > 80, "{name}");
        let anchor = format!("{OPERATIONS}#{}", name.to_lowercase());
        assert_eq!(annotation("runbook_url"), anchor);
    }
}
