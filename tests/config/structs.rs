//! A document that comes as a serialized `google.protobuf.Struct` means what it means as JSON: the same configuration, or
//! the same message. The bytes are made by `prost`, which knows nothing of the plugin's decoder.

use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{json, Value};
use wechat_token::config::{Config, ConfigError, Role, MAX_DOCUMENT};

use super::good_documents::{documents, minimal};
use super::wrong_documents::values;
use super::{env, parse_text};

/// The document as Envoy hands it over when it is given as a `Struct`.
pub(crate) fn encoded(document: &Value) -> Vec<u8> {
    match kind(document) {
        Kind::StructValue(message) => message.encode_to_vec(),
        _ => panic!("only an object is a Struct: {document}"),
    }
}

fn kind(value: &Value) -> Kind {
    let wire = |value: &Value| prost_types::Value {
        kind: Some(kind(value)),
    };
    match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(wire).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields
                .iter()
                .map(|(key, value)| (key.clone(), wire(value)))
                .collect(),
        }),
    }
}

/// The same document with its keys in the order in which `prost` writes them: of two mistakes the first one is told.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields
                .iter()
                .map(|(key, value)| (key.clone(), sorted(value)))
                .collect();
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(fields.into_iter().collect())
        }
        other => other.clone(),
    }
}

/// Everything that came of a document, secrets included.
fn told(result: Result<Config, ConfigError>) -> String {
    let apps = result.iter().flat_map(|config| &config.apps);
    let secrets: Vec<_> = apps
        .flat_map(|app| &app.secrets)
        .map(|secret| secret.expose().to_owned())
        .collect();
    format!("{result:?} {secrets:?}")
}

fn parse_struct(document: &Value, role: Role) -> Result<Config, ConfigError> {
    Config::parse(&encoded(document), &env, role)
}

fn in_both_forms(document: &Value, role: Role) -> [String; 2] {
    let document = sorted(document);
    [
        told(parse_text(&document.to_string(), role)),
        told(parse_struct(&document, role)),
    ]
}

#[test]
fn every_document_means_the_same_in_both_forms() {
    let good = documents().into_iter().map(|(_, document)| document);
    let wrong = values().into_iter().map(|(document, _)| document);
    let mut seen = 0;
    // An empty object has a message of its own as a Struct, see below.
    let is_told = |document: &Value| {
        document
            .as_object()
            .is_some_and(|fields| !fields.is_empty())
    };
    for document in good.chain(wrong).filter(is_told) {
        for role in [Role::Refresher, Role::Injector] {
            let [json, message] = in_both_forms(&document, role);
            assert_eq!(json, message, "{document}, {role:?}");
            seen += 1;
        }
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn an_empty_configuration_says_what_is_missing() {
    assert_eq!(encoded(&json!({})), b"");
    for (document, message) in [
        ("", "apps: is missing, the configuration is empty"),
        ("{}", "apps: is missing"),
        (
            "\n",
            "the configuration is not JSON: EOF while parsing a value at line 2 column 0",
        ),
    ] {
        let error = parse_text(document, Role::Injector).unwrap_err();
        assert_eq!(error.to_string(), message, "{document:?}");
    }
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    // Two serialized messages behind each other are one with the fields of both.
    let bytes = [encoded(&minimal()), encoded(&minimal())].concat();
    let error = Config::parse(&bytes, &env, Role::Refresher).unwrap_err();
    assert_eq!(error.to_string(), "apps: is given twice; allowed: once");
}

#[test]
fn a_struct_that_is_damaged_is_refused_as_a_struct() {
    let bytes = encoded(&minimal());
    let error = Config::parse(&bytes[..bytes.len() - 1], &env, Role::Refresher).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration is not a google.protobuf.Struct: it is cut short"
    );
    let mut long = minimal();
    long["default_app"] = json!("x".repeat(MAX_DOCUMENT));
    let error = parse_struct(&long, Role::Refresher).unwrap_err();
    assert!(
        error.to_string().contains("bytes; allowed: up to"),
        "{error}"
    );
}

/// White space may stand before JSON, a line feed too, which is how a `Struct` begins.
#[test]
fn json_stays_json_whatever_stands_before_it() {
    for before in ["", " ", "\n", "\n\n", "\r\n", "\t\n ", "\n{", "\n{\n"] {
        let text = format!("{before}{}", minimal());
        let is_taken = parse_text(&text, Role::Refresher).map(|_| ());
        match before.contains('{') {
            false => assert_eq!(is_taken, Ok(()), "{before:?}"),
            true => {
                let error = is_taken.unwrap_err().to_string();
                assert!(error.contains("is not JSON"), "{before:?}: {error}");
            }
        }
    }
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            "apps",
            "appid",
            "name",
            "secret",
            "env",
            "value",
            "default_app",
            "weixin",
            "hosts",
            "wait",
            "timeout",
            "refresh",
            "backoff",
            "max",
            "watch",
            "on_bad_app",
            "on_unavailable",
            "status",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        prop::sample::select(vec!["wx1", "skip", "pass", "5s", "WECHAT_SECRET", "*", ""])
            .prop_map(str::to_owned),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-10_000..10_000).prop_map(|quarters| json!(f64::from(quarters) / 4.0)),
        any::<i32>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Puts `new` into one place of a document; places are counted from the top.
fn replace(value: &mut Value, left: &mut usize, new: &Value) -> bool {
    if *left == 0 {
        *value = new.clone();
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| replace(item, left, new)),
        Value::Object(fields) => fields.values_mut().any(|field| replace(field, left, new)),
        _ => false,
    }
}

/// A good document with something else in one place.
fn nearly_good() -> impl Strategy<Value = Value> {
    let good: Vec<_> = documents()
        .into_iter()
        .map(|(_, document)| document)
        .collect();
    (prop::sample::select(good), 1..40_usize, anything()).prop_map(|(mut document, place, new)| {
        replace(&mut document, &mut { place }, &new);
        document
    })
}

fn objects() -> impl Strategy<Value = Value> {
    prop::collection::vec((keys(), anything()), 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_document_means_the_same_in_both_forms(document in prop_oneof![nearly_good(), objects()]) {
        prop_assume!(document != json!({}));
        for role in [Role::Refresher, Role::Injector] {
            let [json, message] = in_both_forms(&document, role);
            prop_assert_eq!(json, message);
        }
    }
}
