//! The table of metrics in the READMEs is the one of the code.

use std::fs;
use std::path::{Path, PathBuf};

use wechat_token::metrics::{Kind, Label, Metric, Row};

use crate::marked::{find, keep_in_readme};

const PART: &str = "metrics-table";
const UPDATE: &str = "UPDATE_METRICS=1 cargo test --test documents metrics";

#[test]
fn the_readme_has_the_table_of_metrics() {
    let is_updating = std::env::var_os("UPDATE_METRICS").is_some();
    keep_in_readme(PART, &table(), is_updating, UPDATE);
}

#[test]
fn the_chinese_readme_has_the_same_metrics_with_their_kinds_and_labels() {
    let readme = fs::read_to_string(page("README.zh-CN.md")).unwrap();
    let (_, there, _) = find(&readme, PART).unwrap();
    let generated = table();
    assert_eq!(untranslated(there), untranslated(&generated));
}

/// The columns that no translation changes: name, kind and labels.
fn untranslated(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split(" | ").take(3).collect()).collect()
}

fn table() -> String {
    let rows = Metric::ALL.map(|metric| row(&metric.row()));
    format!(
        "| metric | kind | labels | meaning |\n|---|---|---|---|\n{}",
        rows.concat()
    )
}

fn row(row: &Row) -> String {
    let kind = match row.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let labels: Vec<String> = row.labels.iter().map(label).collect();
    format!(
        "| `{}` | {kind} | {} | {} |\n",
        row.name,
        labels.join(", "),
        row.meaning
    )
}

fn label(label: &Label) -> String {
    let values: Vec<String> = label
        .values
        .iter()
        .map(|value| format!("`{value}`"))
        .collect();
    match values.is_empty() {
        true => format!("`{}`", label.name),
        false => format!("`{}`: {}", label.name, values.join(", ")),
    }
}

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
