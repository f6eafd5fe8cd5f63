//! The JSON Schema that is checked in is the one of the types, says the same as the parser, and is what the table in
//! the README tells. `UPDATE_SCHEMA=1 cargo test --features schema --test schema` writes what is generated.

// Helpers may panic like the tests that they serve; clippy excuses only functions with `#[test]`.
#![allow(clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

#[path = "config/good_documents.rs"]
mod good_documents;
#[path = "documents/marked.rs"]
mod marked;
#[path = "schema/table.rs"]
mod table;
#[path = "config/wrong_documents.rs"]
mod wrong_documents;
#[path = "config/wrong_redis.rs"]
mod wrong_redis;
#[path = "config/wrong_values.rs"]
mod wrong_values;

use std::fs;
use std::path::PathBuf;

use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{json, Value};
use wechat_token::config::{schema, Config, Role};

#[test]
fn the_schema_that_is_checked_in_is_the_one_of_the_types() {
    let generated = schema::json_schema();
    let path = in_project("envoy/config.schema.json");
    if updating() {
        fs::write(&path, format!("{generated:#}\n")).expect("the schema can be written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let there: Option<Value> = serde_json::from_str(&there).ok();
    assert!(
        there == Some(generated),
        "{} is out of date: {UPDATE}",
        path.display()
    );
}

#[test]
fn good_documents_keep_the_schema() {
    let validator = validator();
    for (word, document) in good_documents::documents() {
        let errors: Vec<_> = validator
            .iter_errors(&document)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{word}: {errors:?}");
    }
}

#[test]
fn wrong_documents_break_the_schema_but_for_what_it_cannot_say() {
    let validator = validator();
    let texts = wrong_documents::texts()
        .into_iter()
        .filter_map(|(text, message)| {
            let twice = message.contains("is given twice");
            let document = serde_json::from_str(text).ok().filter(|_| !twice)?;
            Some((document, message))
        });
    let (mut refused, mut taken) = (0, 0);
    for (document, message) in wrong_documents::values().into_iter().chain(texts) {
        let cannot_say = BEYOND_A_SCHEMA.iter().any(|words| message.contains(words))
            || (message.contains("is out of bounds") && message.ends_with(['s', 'h']));
        assert_eq!(
            validator.is_valid(&document),
            cannot_say,
            "{message}: {document}"
        );
        *(if cannot_say { &mut taken } else { &mut refused }) += 1;
    }
    assert!(refused > 3 * taken, "{refused} refused, {taken} taken");
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_parser() {
    let schema = schema::json_schema();
    let mut written = defaults(&schema, &schema);
    assert_eq!(written["refresh"]["backoff"]["max"], "60s", "{written}");
    let mut minimal = good_documents::minimal();
    // There is no store by default; an empty block is one with every default.
    minimal["redis"] = json!({});
    written["apps"] = minimal["apps"].clone();
    assert_eq!(parsed(&written), parsed(&minimal), "{written}");

    let mut app = defaults(&schema, &schema["$defs"]["RawApp"]);
    app["appid"] = json!("wx1");
    app["secret"] = json!({"env": "WECHAT_SECRET"});
    written["apps"] = json!([app]);
    assert_eq!(parsed(&written), parsed(&minimal), "{written}");
}

#[test]
fn patterns_say_what_rules_say() {
    let texts = good_documents::documents()
        .into_iter()
        .map(|(_, document)| document)
        .chain(
            wrong_documents::values()
                .into_iter()
                .map(|(value, _)| value),
        )
        .flat_map(|document| texts_of(&document))
        .chain(["65535", "65536", "60000", "99999", "9"].map(|port| format!("host:{port}")))
        .collect::<Vec<_>>();
    for check in checks() {
        for text in &texts {
            check.compare(text);
        }
    }
}

#[test]
fn the_readme_has_the_table_of_the_schema() {
    let table = table::markdown(&schema::json_schema());
    marked::keep_in_readme("config-table", &table, updating(), UPDATE);
}

#[test]
fn the_chinese_readme_has_the_same_fields_and_defaults() {
    let generated = table::markdown(&schema::json_schema());
    let readme = fs::read_to_string(in_project("README.zh-CN.md")).expect("README.zh-CN.md");
    let (_, there, _) =
        marked::find(&readme, "config-table").expect("README.zh-CN.md has the table's two markers");
    assert_eq!(
        table::fields_and_defaults(there),
        table::fields_and_defaults(&generated)
    );
}

#[test]
fn every_field_has_a_row_in_the_table_and_a_meaning() {
    let table = table::markdown(&schema::json_schema());
    for row in table.lines().skip(2) {
        let cells: Vec<_> = row.split(" | ").collect();
        assert!(cells.len() == 5 && cells[4].len() > 10, "{row}");
    }
    for row in [
        "| `apps[].appid` | text | required | 1 to 64 letters, digits, '_' or '-' | The appid as WeChat knows it. |",
        "| `refresh.backoff.max` | duration | `60s` | 100ms to 1h | The longest pause. |",
        "| `wait.max_requests` | integer | `1024` | 1 to 1000000 | How many may wait at once. |",
        "| `weixin.upstreams[].authority` | text | `api.weixin.qq.com` | a host name such as api.weixin.qq.com, with :port if need be | The host name sent to it. |",
    ] {
        assert!(table.contains(row), "{row}\n{table}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patterns_say_what_rules_say_of_any_text(
        text in prop_oneof![
            any::<String>(),
            "[a-zA-Z0-9_.:*/-]{1,12}",
            "/[!-~]{0,8}",
            "[a-z0-9]{1,5}(:[0-9]{1,6})?",
            "\\[[0-9a-f:]{1,6}\\](:[0-9]{1,5})?",
            "[a-f0-9]{31,33}",
        ]
    ) {
        for check in CHECKS.with(std::rc::Rc::clone).iter() {
            check.compare(&text);
        }
    }
}

thread_local! {
    /// Compiled once, not once a case.
    static CHECKS: std::rc::Rc<Vec<Check>> = std::rc::Rc::new(checks());
}

struct Check {
    name: &'static str,
    pattern: Validator,
    rule: fn(&str) -> bool,
}

impl Check {
    fn compare(&self, text: &str) {
        let by_pattern = self.pattern.is_valid(&json!(text));
        assert_eq!((self.rule)(text), by_pattern, "{} of {text:?}", self.name);
    }
}

fn checks() -> Vec<Check> {
    schema::rules()
        .into_iter()
        .map(|(name, pattern, rule)| Check {
            name,
            pattern: jsonschema::validator_for(&json!({ "pattern": pattern })).expect("a pattern"),
            rule,
        })
        .collect()
}

/// What the schema says of every field of `object` that has a default, nested objects included.
fn defaults(schema: &Value, object: &Value) -> Value {
    let fields = object["properties"].as_object().into_iter().flatten();
    fields
        .filter_map(|(name, field)| {
            let nested = table::resolved(schema, field);
            let default = match &field["default"] {
                // What must have a property has no default.
                Value::Null if nested["minProperties"].is_number() => return None,
                Value::Null if nested["properties"].is_object() => defaults(schema, nested),
                Value::Null => return None,
                default => default.clone(),
            };
            Some((name.clone(), default))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn parsed(document: &Value) -> String {
    let env = |_: &str| Some("secret".to_owned());
    let config = Config::parse(document.to_string().as_bytes(), &env, Role::Refresher);
    format!("{config:?}")
}

fn texts_of(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts_of).collect(),
        Value::Object(fields) => fields.values().flat_map(texts_of).collect(),
        _ => Vec::new(),
    }
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema::json_schema()).expect("a schema")
}

fn in_project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The core gets its environment as an argument; this is the one of the test run.
#[allow(clippy::disallowed_methods)]
fn updating() -> bool {
    std::env::var("UPDATE_SCHEMA").is_ok()
}

const UPDATE: &str = "UPDATE_SCHEMA=1 cargo test --features schema --test schema";

/// Messages about rules between fields, and about the environment.
const BEYOND_A_SCHEMA: [&str; 10] = [
    "the environment variable",
    "already; allowed: each",
    "is not in apps",
    "needs redis or sole_refresher",
    "is above max",
    "a status with action fail only",
    "\"*\" is not alone",
    "is given without password",
    "would hold the tokens of",
    "is true without mirror",
];
