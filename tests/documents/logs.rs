//! Each line that the plugin logs stands in docs/operations.md, with its level, and none that it does not log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Kinds of lines with the levels at which they are logged.
type Lines = BTreeMap<String, BTreeSet<String>>;

/// Lines whose name, or level, is put together: as they stand in the code, and what they become.
const PUT_TOGETHER: [(&str, &[&str], &str); 4] = [
    (
        "token_{result}",
        &["token_renewed", "token_same", "token_adopted"],
        "info",
    ),
    (
        "{result}",
        &["budget_spent", "withheld", "calls_not_sent"],
        "warn",
    ),
    ("redis_failed", &["redis_failed"], "warn"),
    ("redis_back", &["redis_back"], "info"),
];

#[test]
fn the_table_of_log_lines_has_each_kind_with_its_level() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut logged = Lines::new();
    in_code(&root.join("src"), &mut logged);
    let documented = in_table(&fs::read_to_string(root.join("docs/operations.md")).unwrap());
    assert_eq!(logged, documented);
    assert!(logged.len() > 25, "{logged:?}");
}

fn in_code(folder: &Path, lines: &mut Lines) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            in_code(&path, lines);
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let code = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
            in_file(code, lines);
        }
    }
}

fn in_file(code: &str, lines: &mut Lines) {
    let begins = code.match_indices("\"event=").map(|(place, _)| place);
    for place in begins {
        let name = code[place + "\"event=".len()..]
            .split([' ', '"', '\\'])
            .next();
        let name = name.unwrap_or_default();
        let known = PUT_TOGETHER.iter().find(|(written, ..)| *written == name);
        let (names, level) = match known {
            Some((_, names, level)) => (names.to_vec(), *level),
            None => (vec![name], level_before(&code[..place])),
        };
        for name in names {
            lines
                .entry(name.to_owned())
                .or_default()
                .insert(level.to_owned());
        }
    }
}

/// The level of the macro whose text begins here.
fn level_before(code: &str) -> &str {
    let call = code.trim_end().strip_suffix('(').unwrap_or_default();
    let level = ["info", "warn", "error"].into_iter();
    let mut level = level.filter(|level| call.ends_with(&format!("{level}!")));
    level.next().unwrap_or("put together")
}

fn in_table(page: &str) -> Lines {
    let mut lines = Lines::new();
    for row in page.lines().filter(|row| row.starts_with("| `event=")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [names, levels, _] = cells[..] else {
            panic!("not three columns: {row}");
        };
        let levels = levels.split(", ");
        let names = names.split("`event=").skip(1);
        let names = names.filter_map(|name| name.split([' ', '`']).next());
        for name in names {
            let entry = lines.entry(name.to_owned()).or_default();
            entry.extend(levels.clone().map(str::to_owned));
        }
    }
    lines
}
