//! The files fit together: what compose mounts is there and is where the others look for it, and every metric of the plugin's has its place.

use std::collections::BTreeSet;

use serde_norway::Value;
use support::envoy::workspace;

use crate::alerts;
use crate::dashboard;

const FOLDER: &str = "envoy/monitoring";

fn read(file: &str) -> String {
    std::fs::read_to_string(workspace().join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_norway::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Names of the plugin's metrics in a text, without what a histogram adds to its own.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let starts = text.match_indices("wechat_token_").map(|(at, _)| at);
    let names = starts.map(|at| text[at..].split(|letter| !is_name(letter)).next().unwrap());
    names
        .map(|name| name.trim_end_matches("_bucket").to_owned())
        .filter(|name| name != "wechat_token_")
        .collect()
}

/// The README's table, which another test keeps equal to the code.
fn documented() -> BTreeSet<String> {
    let readme = read("README.md");
    let (_, section) = readme.split_once("\n## Metrics\n").expect("a section");
    let section = section.split("\n## ").next().expect("its end");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    metrics(&rows.collect::<Vec<_>>().join("\n"))
        .into_iter()
        .filter(|name| section.contains(&format!("\n| `{name}`")))
        .collect()
}

#[test]
fn every_metric_is_on_the_dashboard_and_nothing_else_is_asked_for() {
    let documented = documented();
    assert!(documented.len() >= 18, "{documented:?}");
    let shown = metrics(&read(&format!("{FOLDER}/dashboard.json")));
    assert_eq!(shown, documented);
    let alerted = metrics(&read(alerts::FILE));
    let unknown: Vec<_> = alerted.difference(&documented).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let tested = metrics(&read(&format!("{FOLDER}/rules.test.yaml")));
    assert_eq!(tested, alerted, "in the rules' tests, and in the rules");
}

#[test]
fn grafana_is_given_the_dashboard_and_a_source_for_it() {
    let compose = yaml("envoy/docker-compose.yaml");
    let grafana = &compose["services"]["grafana"];
    let mounts = texts(&grafana["volumes"]);
    let into = |folder: &str| {
        let found = mounts.iter().filter_map(|mount| {
            let (from, to) = mount.split_once(':').expect("FROM:TO:ro");
            let to = to.strip_suffix(":ro").expect("read only");
            to.starts_with(folder).then_some(from.to_owned())
        });
        found.collect::<Vec<_>>()
    };
    let providers = yaml(&format!("{FOLDER}/grafana/dashboards.yaml"));
    let folder = providers["providers"][0]["options"]["path"]
        .as_str()
        .unwrap();
    assert_eq!(into(folder), ["./monitoring/dashboard.json"]);
    assert_eq!(
        into("/etc/grafana/provisioning/dashboards/"),
        ["./monitoring/grafana/dashboards.yaml"]
    );
    assert_eq!(
        into("/etc/grafana/provisioning/datasources/"),
        ["./monitoring/grafana/datasource.yaml"]
    );
    for file in [
        &providers,
        &yaml(&format!("{FOLDER}/grafana/datasource.yaml")),
    ] {
        assert_eq!(file["apiVersion"], 1);
    }
    let source = &yaml(&format!("{FOLDER}/grafana/datasource.yaml"))["datasources"][0];
    assert_eq!(source["type"], "prometheus");
    assert_eq!(source["url"], "http://prometheus:9090");
    let variables = dashboard::read()["templating"]["list"].clone();
    assert_eq!(variables[0]["query"], source["type"].as_str().unwrap());
    // Grafana makes $__rate_interval of it.
    let config = yaml(&format!("{FOLDER}/prometheus.yaml"));
    assert_eq!(
        source["jsonData"]["timeInterval"],
        config["global"]["scrape_interval"]
    );
}

#[test]
fn prometheus_is_given_its_files_and_asks_the_envoys_of_the_compose_files() {
    let config = yaml(&format!("{FOLDER}/prometheus.yaml"));
    let job = &config["scrape_configs"][0];
    // Two rules name the job.
    let name = job["job_name"].as_str().unwrap();
    assert_eq!(
        read(alerts::FILE)
            .matches(&format!("up{{job=\"{name}\"}}"))
            .count(),
        2
    );
    for (compose, targets, envoys) in [
        ("docker-compose.yaml", "targets.yaml", &["envoy"][..]),
        (
            "docker-compose.redis.yaml",
            "targets.redis.yaml",
            &["envoy", "second-envoy"],
        ),
    ] {
        let compose = yaml(&format!("envoy/{compose}"));
        let mounts = texts(&compose["services"]["prometheus"]["volumes"]);
        let mounted = |from: &str, to: &str| {
            let mount = format!("./monitoring/{from}:/etc/prometheus/{to}:ro");
            // The compose file with Redis takes the others from the one without.
            mounts.contains(&mount)
                || from != targets && !compose["services"]["prometheus"]["extends"].is_null()
        };
        assert!(mounted("prometheus.yaml", "prometheus.yaml"), "{mounts:?}");
        for file in texts(&config["rule_files"]) {
            assert!(mounted(&file, &file), "{file} in {mounts:?}");
        }
        for file in texts(&job["file_sd_configs"][0]["files"]) {
            assert!(mounted(targets, &file), "{file} in {mounts:?}");
        }
        // The port of the metrics listener.
        let wanted: Vec<String> = envoys.iter().map(|envoy| format!("{envoy}:9902")).collect();
        let targets = yaml(&format!("{FOLDER}/{targets}"));
        assert_eq!(texts(&targets[0]["targets"]), wanted);
        for envoy in envoys {
            assert!(!compose["services"][*envoy].is_null(), "{envoy}");
        }
    }
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_sequence().expect("a list").iter();
    items
        .map(|item| item.as_str().expect("a list of texts").to_owned())
        .collect()
}
