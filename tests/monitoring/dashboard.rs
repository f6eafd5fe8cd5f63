//! The dashboard as Grafana reads it: what its panels ask, and that they say what they show.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use support::envoy::workspace;

const FILE: &str = "envoy/monitoring/dashboard.json";
const GENERATOR: &str = "envoy/monitoring/dashboard.py";
/// The variables, each with what it stands for in a test: everything, and rates over eight scrapes.
const VARIABLES: [(&str, &str); 4] = [
    ("$__rate_interval", "4s"),
    ("$instance", ".*"),
    ("$job", ".*"),
    ("$app", ".*"),
];

/// A panel that shows data.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) row: String,
    pub(crate) title: String,
    pub(crate) unit: String,
    pub(crate) queries: Vec<Query>,
}

#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// With the dashboard's variables replaced.
    pub(crate) expr: String,
    /// With `{{label}}` where a label's value goes.
    pub(crate) legend: String,
}

pub(crate) fn read() -> Value {
    let text = std::fs::read_to_string(workspace().join(FILE)).expect(FILE);
    serde_json::from_str(&text).expect(FILE)
}

/// Every panel, in order.
pub(crate) fn panels() -> Vec<Panel> {
    let dashboard = read();
    let (mut row, mut panels) = (String::new(), Vec::new());
    for panel in list(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        if panel["type"] == "row" {
            row = title;
            continue;
        }
        let queries = list(&panel["targets"]).iter().map(|target| Query {
            expr: VARIABLES
                .iter()
                .fold(text(&target["expr"]), |expr, (name, value)| {
                    expr.replace(name, value)
                }),
            legend: text(&target["legendFormat"]),
        });
        panels.push(Panel {
            row: row.clone(),
            title,
            unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
            queries: queries.collect(),
        });
    }
    panels
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_dashboard_is_what_its_generator_makes() {
    let python = workspace().join(".tools/monitoring/bin/python");
    let made = Command::new(&python)
        .arg(workspace().join(GENERATOR))
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; tools/setup.sh monitoring makes it",
                python.display()
            )
        });
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let made = String::from_utf8(made.stdout).unwrap();
    let file = workspace().join(FILE);
    if std::env::var_os("UPDATE_DASHBOARD").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let shipped = std::fs::read_to_string(&file).unwrap();
    assert!(
        shipped == made,
        "{FILE} is not what {GENERATOR} makes: UPDATE_DASHBOARD=1 make monitoring"
    );
}

#[test]
fn there_is_a_row_for_each_subject_and_each_panel_says_what_it_shows() {
    let dashboard = read();
    let rows: BTreeSet<String> = panels().into_iter().map(|panel| panel.row).collect();
    for subject in ["Callers", "Tokens", "Refresh", "Redis", "Lease"] {
        assert!(rows.contains(subject), "no row {subject} in {rows:?}");
    }
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id");
        assert!(titles.insert(title.clone()), "two panels {title}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(!text(&panel["description"]).is_empty(), "{title}: what?");
        assert_ne!(panel["fieldConfig"]["defaults"]["unit"], Value::Null);
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in list(&panel["targets"]) {
            assert!(!text(&target["legendFormat"]).is_empty(), "{title}: legend");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn each_variable_is_there_and_each_query_selects_by_them() {
    let dashboard = read();
    let variables = list(&dashboard["templating"]["list"]);
    let names: Vec<String> = variables.iter().map(|item| text(&item["name"])).collect();
    assert_eq!(names, ["datasource", "job", "instance", "app"]);
    for panel in list(&dashboard["panels"]) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = text(&target["expr"]);
            for selector in expr.split("wechat_token_").skip(1) {
                let (_, selector) = selector.split_once('{').expect("labels");
                let (selector, _) = selector.split_once('}').expect("labels");
                let each = r#"job=~"$job", instance=~"$instance""#;
                assert!(selector.starts_with(each), "{expr}");
            }
        }
    }
}
