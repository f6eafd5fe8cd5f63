//! What the documents promise: each test that `docs/faults.md` names is there, the tables of metrics and of log lines are those of
//! the code, translations have what their originals have, and links lead somewhere.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "documents/logs.rs"]
mod logs;
#[path = "documents/marked.rs"]
mod marked;
#[path = "documents/metrics.rs"]
mod metrics;
#[path = "documents/translations.rs"]
mod translations;

use std::collections::BTreeSet;
use std::path::Path;

fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                let name = line.strip_prefix("async ").unwrap_or(line);
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    is_test = true;
                } else if let Some(name) = name.strip_prefix("fn ").filter(|_| is_test) {
                    found.extend(name.split('(').next().map(str::to_owned));
                    is_test = false;
                }
            }
        }
    }
}

#[test]
fn every_test_that_the_table_of_faults_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut known, mut on_envoy) = (BTreeSet::new(), BTreeSet::new());
    functions(&root.join("src"), &mut known);
    functions(&root.join("tests"), &mut known);
    functions(&root.join("tests/e2e"), &mut on_envoy);
    let text = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let (mut rows, mut rows_on_envoy) = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let tests = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        if tests == "test" {
            continue;
        }
        rows += 1;
        rows_on_envoy += usize::from(tests.contains("**E**"));
        let tests: Vec<&str> = tests.split(", ").collect();
        for test in tests {
            let is_marked = test.starts_with("**E** ");
            let name = test.trim_start_matches("**E** ").trim_matches('`');
            assert!(known.contains(name), "{name} is no test, in: {line}");
            assert_eq!(is_marked, on_envoy.contains(name), "the mark of {name}");
        }
    }
    assert!(rows >= 45, "{rows} rows");
    assert!(rows_on_envoy >= 25, "{rows_on_envoy} rows on a real Envoy");
}
