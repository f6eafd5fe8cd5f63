//! Wrong documents, each with the message that refuses it.

use serde_json::{json, Value};

use super::good_documents::{app, minimal};
use super::wrong_redis::redis;
use super::wrong_values::{bounds, rules, weixin};

/// Stands where a secret would; no message may hold it.
pub(crate) const MARKER: &str = "MARKER-7f3a9c";

/// Documents that are wrong before their fields are looked at.
pub(crate) fn texts() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "",
            "apps: is missing, the configuration is empty",
        ),
        (
            "{\"apps\": [",
            "the configuration is not JSON: EOF while parsing a list at line 1 column 10",
        ),
        (
            "apps: []",
            "the configuration is not JSON: expected value at line 1 column 1",
        ),
        (
            "{\"apps\": []} x",
            "the configuration is not JSON: trailing characters at line 1 column 14",
        ),
        (
            "{\"apps\": [1e999]}",
            "the configuration is not JSON: number out of range at line 1 column 15",
        ),
        (
            "{\"apps\": NaN}",
            "the configuration is not JSON: expected value at line 1 column 10",
        ),
        (
            "[]",
            "the configuration is a list; allowed: an object of apps, default_app, weixin, paths, caller_token, wait, on_unavailable, refresh, watch, on_bad_app, redis",
        ),
        (
            "null",
            "the configuration is null; allowed: an object of apps, default_app, weixin, paths, caller_token, wait, on_unavailable, refresh, watch, on_bad_app, redis",
        ),
        (
            "\"MARKER-7f3a9c\"",
            "the configuration is a text; allowed: an object of apps, default_app, weixin, paths, caller_token, wait, on_unavailable, refresh, watch, on_bad_app, redis",
        ),
        (
            r#"{"apps": [{"appid": "wx1"}], "apps": [{"appid": "wx2"}]}"#,
            "apps: is given twice; allowed: once",
        ),
        (
            r#"{"apps": [{"appid": "wx1", "appid": "wx2"}]}"#,
            "apps[0].appid: is given twice; allowed: once",
        ),
        (
            r#"{"apps": [{"appid": "wx1", "secret": {"env": "A", "env": "B"}}]}"#,
            "apps[0].secret.env: is given twice; allowed: once",
        ),
    ]
}

/// Documents of which one field is wrong.
pub(crate) fn values() -> Vec<(Value, &'static str)> {
    [
        root(),
        apps(),
        secrets(),
        weixin(),
        bounds(),
        rules(),
        redis(),
    ]
    .concat()
}

fn root() -> Vec<(Value, &'static str)> {
    vec![
        (json!({}), "apps: is missing"),
        (json!({"apps": []}), "apps: has 0 items; allowed: 1 to 10000"),
        (json!({"apps": {}}), "apps: is an object; allowed: a list"),
        (json!({"apps": "wx1"}), "apps: is a text; allowed: a list"),
        (with("/apps", json!(null)), "apps: is null; allowed: a list"),
        (with("/colour", json!("red")), "colour: is not known; allowed: apps, default_app, weixin, paths, caller_token, wait, on_unavailable, refresh, watch, on_bad_app, redis"),
        (with("/App", json!([])), "App: is not known; allowed: apps, default_app, weixin, paths, caller_token, wait, on_unavailable, refresh, watch, on_bad_app, redis"),
        (with("/a b\nc", json!(1)), "\"a b\\nc\": is not known; allowed: apps, default_app, weixin, paths, caller_token, wait, on_unavailable, refresh, watch, on_bad_app, redis"),
        (with("/", json!(1)), "\"\": is not known; allowed: apps, default_app, weixin, paths, caller_token, wait, on_unavailable, refresh, watch, on_bad_app, redis"),
        (with("/default_app", json!("wx9")), "default_app: \"wx9\" is not in apps; allowed: the appid of an app"),
        (with("/default_app", json!("")), "default_app: \"\" is empty; allowed: 1 to 64 letters, digits, '_' or '-'"),
        (with("/default_app", json!("wx 1")), "default_app: \"wx 1\" is not an appid; allowed: 1 to 64 letters, digits, '_' or '-'"),
        (with("/default_app", json!(1)), "default_app: is a number; allowed: a text, 1 to 64 letters, digits, '_' or '-'"),
        (with("/default_app", json!(null)), "default_app: is null; allowed: a text, 1 to 64 letters, digits, '_' or '-'"),
        (with("/caller_token", json!("drop")), "caller_token: \"drop\" is not known; allowed: keep, replace"),
        (with("/caller_token", json!(true)), "caller_token: is a boolean; allowed: keep, replace"),
        (with("/watch", json!("true")), "watch: is a text; allowed: true or false"),
        (with("/watch", json!(1)), "watch: is a number; allowed: true or false"),
        (with("/on_bad_app", json!("ignore")), "on_bad_app: \"ignore\" is not known; allowed: refuse, skip"),
        (with("/paths", json!([])), "paths: is a list; allowed: an object of exclude, allow_rid_info"),
        (with("/paths", json!({"allow_rid_info": "yes"})), "paths.allow_rid_info: is a text; allowed: true or false"),
        (with("/wait", json!("5s")), "wait: is a text; allowed: an object of timeout, max_requests"),
    ]
}

fn apps() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"apps": [7]}), "apps[0]: is a number; allowed: an object of appid, name, kind, secret, token_api, sole_refresher, callers, caller_token, on_unavailable, refresh"),
        (json!({"apps": [app("wx1"), null]}), "apps[1]: is null; allowed: an object of appid, name, kind, secret, token_api, sole_refresher, callers, caller_token, on_unavailable, refresh"),
        (json!({"apps": [["wx1"]]}), "apps[0]: is a list; allowed: an object of appid, name, kind, secret, token_api, sole_refresher, callers, caller_token, on_unavailable, refresh"),
        (json!({"apps": [{"secret": {"value": MARKER}}]}), "apps[0].appid: is missing"),
        (with("/apps/0/appid", json!("")), "apps[0].appid: \"\" is empty; allowed: 1 to 64 letters, digits, '_' or '-'"),
        (with("/apps/0/appid", json!("wx 1")), "apps[0].appid: \"wx 1\" is not an appid; allowed: 1 to 64 letters, digits, '_' or '-'"),
        (with("/apps/0/appid", json!("wx1/../wx2")), "apps[0].appid: \"wx1/../wx2\" is not an appid; allowed: 1 to 64 letters, digits, '_' or '-'"),
        (with("/apps/0/appid", json!("公众号")), "apps[0].appid: \"公众号\" is not an appid; allowed: 1 to 64 letters, digits, '_' or '-'"),
        (with("/apps/0/appid", json!("a".repeat(65))), "apps[0].appid: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…\" is not an appid; allowed: 1 to 64 letters, digits, '_' or '-'"),
        (with("/apps/0/appid", json!(1)), "apps[0].appid: is a number; allowed: a text, 1 to 64 letters, digits, '_' or '-'"),
        (json!({"apps": [app("wx1"), app("wx2"), app("wx1")]}), "apps[2].appid: \"wx1\" is that of apps[0] already; allowed: each appid once"),
        (with("/apps/0/name", json!("")), "apps[0].name: \"\" is empty; allowed: 1 to 64 letters, digits, '_' or '-'"),
        (with("/apps/0/name", json!("my.shop")), "apps[0].name: \"my.shop\" does not fit into a metric name; allowed: 1 to 64 letters, digits, '_' or '-'"),
        (with("/apps/0/name", json!(["shop"])), "apps[0].name: is a list; allowed: a text, 1 to 64 letters, digits, '_' or '-'"),
        (json!({"apps": [named("wx1", "shop"), named("wx2", "shop")]}), "apps[1].name: \"shop\" is that of apps[0] already; allowed: each name once"),
        (json!({"apps": [app("wx1"), named("wx2", "wx1")]}), "apps[1].name: \"wx1\" is that of apps[0] already; allowed: each name once"),
        (with("/apps/0/kind", json!("wecom")), "apps[0].kind: \"wecom\" is reserved and not built yet; allowed: weixin"),
        (with("/apps/0/kind", json!("Weixin")), "apps[0].kind: \"Weixin\" is not known; allowed: weixin"),
        (with("/apps/0/kind", json!(null)), "apps[0].kind: is null; allowed: a text, weixin"),
        (with("/apps/0/callers", json!("spiffe://a/b")), "apps[0].callers: every value but \"any\" is reserved and not built yet; allowed: any"),
        (with("/apps/0/callers", json!(["any"])), "apps[0].callers: every value but \"any\" is reserved and not built yet; allowed: any"),
        (with("/apps/0/token_api", json!("classic")), "apps[0].token_api: \"classic\" needs redis or sole_refresher: true, because each call of that endpoint ends the token that another refresher holds; allowed: stable, or classic with one of them"),
        (with("/apps/0/token_api", json!("stable_token")), "apps[0].token_api: \"stable_token\" is not known; allowed: stable, classic"),
        (with("/apps/0/sole_refresher", json!("yes")), "apps[0].sole_refresher: is a text; allowed: true or false"),
        (with("/apps/0/appsecret", json!(MARKER)), "apps[0].appsecret: is not known; allowed: appid, name, kind, secret, token_api, sole_refresher, callers, caller_token, on_unavailable, refresh"),
        (with("/apps/0/wait", json!({})), "apps[0].wait: is not known; allowed: appid, name, kind, secret, token_api, sole_refresher, callers, caller_token, on_unavailable, refresh"),
        (with("/apps/0/caller_token", json!("KEEP")), "apps[0].caller_token: \"KEEP\" is not known; allowed: keep, replace"),
    ]
}

fn secrets() -> Vec<(Value, &'static str)> {
    vec![
        (with("/apps/0/secret", json!(MARKER)), "apps[0].secret: is a text; allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!(null)), "apps[0].secret: is null; allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!(17)), "apps[0].secret: is a number; allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!({})), "apps[0].secret: has neither of env and value; allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!({"env": "WECHAT_SECRET", "value": MARKER})), "apps[0].secret: has both of env and value; allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!({MARKER: "env"})), "apps[0].secret: has a field that is not known (not shown); allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!({"a.MARKER-7f3a9c": 1})), "apps[0].secret: has a field that is not known (not shown); allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!([{"value": MARKER}, {MARKER: 1}])), "apps[0].secret[1]: has a field that is not known (not shown); allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!([])), "apps[0].secret: has 0 items; allowed: 1 to 4"),
        (with("/apps/0/secret", json!([{"value": MARKER}, MARKER])), "apps[0].secret[1]: is a text; allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!([{"value": MARKER}, {}])), "apps[0].secret[1]: has neither of env and value; allowed: {env: NAME} or {value: …}, or a list of them"),
        (with("/apps/0/secret", json!([{"value": MARKER}, {"env": "NOT_SET"}])), "apps[0].secret[1].env: the environment variable NOT_SET is not there; it must be in vm_config.environment_variables.host_env_keys and set on the host"),
        (with("/apps/0/secret", json!(vec![json!({"value": MARKER}); 5])), "apps[0].secret: has 5 items; allowed: 1 to 4"),
        (with("/apps/0/secret/env", json!("NOT_SET")), "apps[0].secret.env: the environment variable NOT_SET is not there; it must be in vm_config.environment_variables.host_env_keys and set on the host"),
        (with("/apps/0/secret/env", json!("EMPTY_SECRET")), "apps[0].secret.env: in the environment variable EMPTY_SECRET \"\" is empty; allowed: 1 to 256 visible ASCII characters without a space or line end"),
        (with("/apps/0/secret/env", json!("LINE_FEED_SECRET")), "apps[0].secret.env: in the environment variable LINE_FEED_SECRET the value (not shown) is not an AppSecret; allowed: 1 to 256 visible ASCII characters without a space or line end"),
        (with("/apps/0/secret/env", json!("")), "apps[0].secret.env: \"\" is empty; allowed: the name of an environment variable, 1 to 128 letters, digits or '_', not a digit first"),
        (with("/apps/0/secret/env", json!(MARKER)), "apps[0].secret.env: the value (not shown) is not the name of a variable; allowed: the name of an environment variable, 1 to 128 letters, digits or '_', not a digit first"),
        (with("/apps/0/secret/env", json!("d0123456789abcdef0123456789abcde")), "apps[0].secret.env: the value (not shown) looks like an AppSecret; allowed: the name of an environment variable, 1 to 128 letters, digits or '_', not a digit first"),
        (with("/apps/0/secret/env", json!(5)), "apps[0].secret.env: is a number; allowed: a text, the name of an environment variable, 1 to 128 letters, digits or '_', not a digit first"),
        (with("/apps/0/secret", json!({"value": ""})), "apps[0].secret.value: \"\" is empty; allowed: 1 to 256 visible ASCII characters without a space or line end"),
        (with("/apps/0/secret", json!({"value": "MARKER-7f3a9c\n"})), "apps[0].secret.value: the value (not shown) is not an AppSecret; allowed: 1 to 256 visible ASCII characters without a space or line end"),
        (with("/apps/0/secret", json!({"value": [MARKER]})), "apps[0].secret.value: is a list; allowed: a text, 1 to 256 visible ASCII characters without a space or line end"),
        (with("/apps/0/secret", json!({"value": null})), "apps[0].secret.value: is null; allowed: a text, 1 to 256 visible ASCII characters without a space or line end"),
    ]
}

/// The minimal document with one field set, by its JSON pointer.
pub(crate) fn with(pointer: &str, value: Value) -> Value {
    let mut document = minimal();
    let mut place = &mut document;
    for step in pointer.split('/').skip(1) {
        place = match step.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[step],
        };
    }
    *place = value;
    document
}

fn named(appid: &str, name: &str) -> Value {
    let mut app = app(appid);
    app["name"] = json!(name);
    app
}
