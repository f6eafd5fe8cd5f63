//! How wrong documents are refused: with the exact message, and without a secret in it.

use serde_json::{json, Value};
use wechat_token::config::{Config, Role, MAX_DOCUMENT};

use super::good_documents::{app, minimal};
use super::wrong_documents::{texts, values, MARKER};
use super::{env, parse, parse_text};

#[test]
fn every_wrong_document_is_refused_with_its_message() {
    let mut wrong = Vec::new();
    let documents: Vec<_> = texts()
        .into_iter()
        .map(|(text, message)| (text.to_owned(), message))
        .chain(
            values()
                .into_iter()
                .map(|(value, message)| (value.to_string(), message)),
        )
        .collect();
    assert!(documents.len() >= 80, "{}", documents.len());
    for (document, message) in documents {
        let found = match parse_text(&document, Role::Refresher) {
            Ok(_) => "taken".to_owned(),
            Err(error) => error.to_string(),
        };
        if found != message {
            wrong.push(format!(
                "{document}\n  is:     {found}\n  should: {message}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_message_repeats_a_secret() {
    let mut seen = 0;
    for (document, _) in values() {
        for role in [Role::Refresher, Role::Injector] {
            let error = parse_text(&document.to_string(), role).err();
            let printed = format!("{error:?}");
            seen += usize::from(document.to_string().contains(MARKER));
            assert!(!printed.contains(MARKER), "{document}: {printed}");
        }
    }
    assert!(seen >= 10, "{seen} documents hold the marker");
}

/// Puts the marker, in every form that a mistake could give it, where secrets stand, beside every other mistake.
#[test]
fn no_message_repeats_a_secret_beside_any_other_mistake() {
    let forms = [
        json!(MARKER),
        json!([MARKER]),
        json!({"env": MARKER}),
        json!({"value": MARKER}),
        json!({"value": [MARKER]}),
        json!({"value": format!("{MARKER} ")}),
        json!({"env": {MARKER: MARKER}}),
        json!({MARKER: MARKER}),
        json!({format!("[0].{MARKER}.x"): 1}),
        json!({"env": "WECHAT_SECRET", "value": MARKER}),
        json!([{"value": MARKER}, {MARKER: "env"}]),
        json!([{"env": MARKER}, MARKER]),
        json!({"env": "LINE_FEED_SECRET"}),
    ];
    for (document, _) in values() {
        for form in &forms {
            let mut document = document.clone();
            put_secret(&mut document, form);
            let error = parse(&document).err();
            let printed = format!("{error:?}");
            assert!(!printed.contains(MARKER), "{document}: {printed}");
        }
    }
}

/// Gives every app this secret.
fn put_secret(document: &mut Value, secret: &Value) {
    let apps = document.get_mut("apps").and_then(Value::as_array_mut);
    for app in apps.into_iter().flatten() {
        if let Some(app) = app.as_object_mut() {
            app.insert("secret".to_owned(), secret.clone());
        }
    }
}

#[test]
fn a_document_above_its_limit_is_refused_before_it_is_read() {
    let mut document = minimal().to_string().into_bytes();
    document.resize(MAX_DOCUMENT, b' ');
    assert!(Config::parse(&document, &env, Role::Refresher).is_ok());
    document.push(b' ');
    let error = Config::parse(&document, &env, Role::Refresher).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration has 1048577 bytes; allowed: up to 1048576"
    );
}

#[test]
fn too_many_apps_are_refused() {
    let apps: Vec<_> = (0..10_001)
        .map(|i| json!({"appid": format!("wx{i}")}))
        .collect();
    assert_eq!(
        parse(&json!({ "apps": apps })).unwrap_err().to_string(),
        "apps: has 10001 items; allowed: 1 to 10000"
    );
}

#[test]
fn a_long_value_is_shortened_and_stays_on_one_line() {
    let mut entry = app("wx1");
    entry["appid"] = json!(format!("a\n\"{}", "b".repeat(100)));
    let error = parse(&json!({"apps": [entry]})).unwrap_err();
    let shown = format!("\"a\\n\\\"{}…\"", "b".repeat(61));
    assert_eq!(
        error.to_string(),
        format!(
            "apps[0].appid: {shown} is not an appid; allowed: 1 to 64 letters, digits, '_' or '-'"
        )
    );
}

#[test]
fn deep_nesting_is_refused() {
    let document = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(
        parse_text(&document, Role::Refresher)
            .unwrap_err()
            .to_string(),
        "the configuration is not JSON: recursion limit exceeded at line 1 column 128"
    );
}
