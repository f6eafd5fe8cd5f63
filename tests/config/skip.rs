//! `on_bad_app: skip`: an app whose own entry is wrong is left out; everything else still refuses.

use serde_json::{json, Value};

use super::good_documents::app;
use super::parse;

fn skipping(apps: Value) -> Value {
    json!({"apps": apps, "on_bad_app": "skip"})
}

#[test]
fn a_bad_app_is_left_out_and_what_was_wrong_is_kept() {
    let config = parse(&skipping(json!([
        app("wx1"),
        {"appid": "wx2", "secret": {"env": "NOT_SET"}},
        {"appid": "wx 3", "secret": {"env": "WECHAT_SECRET"}},
        {"appid": "wx4", "secret": {"env": "WECHAT_SECRET"}, "token_api": "classic"},
        {"appid": "wx5", "secret": {"env": "WECHAT_SECRET"}, "colour": 1},
        app("wx1"),
        {"appid": "wx6", "name": "wx1", "secret": {"env": "WECHAT_SECRET"}},
        7,
        {"appid": "wx7"},
        app("wx8"),
    ])));
    let config = config.unwrap();
    let kept: Vec<_> = config.apps.iter().map(|app| app.appid.as_str()).collect();
    assert_eq!(kept, ["wx1", "wx8"]);
    assert_eq!(config.default_app, None);
    let fields: Vec<_> = config
        .skipped
        .iter()
        .map(|error| error.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "apps[1].secret.env",
            "apps[2].appid",
            "apps[3].token_api",
            "apps[4].colour",
            "apps[5].appid",
            "apps[6].name",
            "apps[7]",
            "apps[8].secret",
        ]
    );
}

#[test]
fn the_place_of_the_default_app_counts_the_apps_that_are_kept() {
    let mut document = skipping(json!([{"appid": "wx1"}, app("wx2"), app("wx3")]));
    document["default_app"] = json!("wx3");
    let config = parse(&document).unwrap();
    assert_eq!(config.default_app, Some(1));
    assert_eq!(config.apps[1].appid, "wx3");
}

#[test]
fn one_app_that_is_left_of_two_does_not_become_the_default() {
    let config = parse(&skipping(json!([{"appid": "wx1"}, app("wx2")]))).unwrap();
    assert_eq!(config.apps.len(), 1);
    assert_eq!(config.default_app, None);
}

#[test]
fn a_default_app_that_was_left_out_is_an_error_that_says_so() {
    let mut document = skipping(json!([
        {"appid": "wx1", "secret": {"env": "NOT_SET"}},
        app("wx2"),
    ]));
    document["default_app"] = json!("wx1");
    assert_eq!(
        parse(&document).unwrap_err().to_string(),
        "default_app: \"wx1\" was left out because of apps[0].secret.env: the environment variable NOT_SET is not \
         there; it must be in vm_config.environment_variables.host_env_keys and set on the host"
    );
}

#[test]
fn without_any_app_left_the_configuration_is_refused() {
    let document = skipping(json!([{"appid": ""}, {"appid": "wx2"}]));
    assert_eq!(
        parse(&document).unwrap_err().to_string(),
        "apps: none is left, the first was left out because of apps[0].appid: \"\" is empty; \
         allowed: 1 to 64 letters, digits, '_' or '-'"
    );
}

#[test]
fn an_error_outside_the_apps_refuses_all_the_same() {
    for (field, value) in [
        ("wait", json!({"max_requests": 0})),
        ("default_app", json!("wx9")),
        ("colour", json!(1)),
        ("on_bad_app", json!("ignore")),
    ] {
        let mut document = skipping(json!([app("wx1")]));
        document[field] = value;
        let error = parse(&document).unwrap_err();
        assert!(error.field.starts_with(field), "{field}: {error}");
    }
}
