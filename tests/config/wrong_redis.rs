//! Wrong documents whose `redis` block is wrong.

use serde_json::{json, Value};

use super::good_documents::app;
use super::wrong_documents::MARKER;

/// One app and a block like this.
fn block(redis: Value) -> Value {
    json!({"apps": [app("wx1")], "redis": redis})
}

pub(crate) fn redis() -> Vec<(Value, &'static str)> {
    vec![
        (block(json!(MARKER)), "redis: is a text; allowed: an object of cluster, username, password, database, timeout, key_prefix, mirror, adopt, when_down"),
        (block(json!(null)), "redis: is null; allowed: an object of cluster, username, password, database, timeout, key_prefix, mirror, adopt, when_down"),
        (block(json!({"host": MARKER})), "redis.host: is not known; allowed: cluster, username, password, database, timeout, key_prefix, mirror, adopt, when_down"),
        (block(json!({"cluster": "a b"})), "redis.cluster: \"a b\" is not the name of a cluster; allowed: 1 to 256 visible ASCII characters without a space"),
        (block(json!({"password": MARKER})), "redis.password: is a text; allowed: {env: NAME} or {value: …}"),
        (block(json!({"password": {MARKER: "env"}})), "redis.password: has a field that is not known (not shown); allowed: {env: NAME} or {value: …}"),
        (block(json!({"password": {}})), "redis.password: has neither of env and value; allowed: {env: NAME} or {value: …}"),
        (block(json!({"password": [{"value": MARKER}]})), "redis.password: is a list; allowed: {env: NAME} or {value: …}"),
        (block(json!({"password": {"value": "MARKER-7f3a9c \n"}})), "redis.password.value: the value (not shown) does not fit; allowed: 1 to 512 visible ASCII characters without a space or line end"),
        (block(json!({"password": {"env": "NOT_THERE"}})), "redis.password.env: the environment variable NOT_THERE is not there; it must be in vm_config.environment_variables.host_env_keys and set on the host"),
        (block(json!({"username": {"value": MARKER}})), "redis.username: is given without password; allowed: both, or password alone"),
        (block(json!({"database": -1})), "redis.database: -1 is out of bounds; allowed: 0 to 1023"),
        (block(json!({"database": 1024})), "redis.database: 1024 is out of bounds; allowed: 0 to 1023"),
        (block(json!({"timeout": "49ms"})), "redis.timeout: \"49ms\" is out of bounds; allowed: 50ms to 10s"),
        (block(json!({"timeout": "11s"})), "redis.timeout: \"11s\" is out of bounds; allowed: 50ms to 10s"),
        (block(json!({"key_prefix": "a{b}"})), "redis.key_prefix: \"a{b}\" has a brace; allowed: 1 to 128 visible ASCII characters without '{' and '}'"),
        (block(json!({"key_prefix": "a b"})), "redis.key_prefix: \"a b\" is not the beginning of a key; allowed: 1 to 128 visible ASCII characters without '{' and '}'"),
        (block(json!({"key_prefix": ""})), "redis.key_prefix: \"\" is empty; allowed: 1 to 128 visible ASCII characters without '{' and '}'"),
        (block(json!({"mirror": "k"})), "redis.mirror: is a text; allowed: a list"),
        (block(json!({"mirror": [7]})), "redis.mirror[0]: is a number; allowed: a key as a text, or an object of key, format, ttl, expires_at_key"),
        (block(json!({"mirror": ["a b"]})), "redis.mirror[0]: \"a b\" is not a key; allowed: a key of 1 to 256 visible ASCII characters without a space, with {appid} where the app's own stands"),
        (block(json!({"mirror": [{"format": "json"}]})), "redis.mirror[0].key: is missing"),
        (block(json!({"mirror": [{"key": "k", "format": "xml"}]})), "redis.mirror[0].format: \"xml\" is not known; allowed: plain, json, kryo5"),
        (block(json!({"mirror": [{"key": "k", "ttl": "0s"}]})), "redis.mirror[0].ttl: \"0s\" is out of bounds; allowed: 1s to 2h"),
        (block(json!({"mirror": [{"key": "k", "name": MARKER}]})), "redis.mirror[0].name: is not known; allowed: key, format, ttl, expires_at_key"),
        (block(json!({"mirror": vec!["k"; 17]})), "redis.mirror: has 17 items; allowed: 0 to 16"),
        (block(json!({"mirror": ["k:{appid}", "k:wx1"]})), "redis.mirror[1].key: \"k:wx1\" is mirror[0].key's already; allowed: each key once"),
        (block(json!({"mirror": ["a", {"key": "b", "expires_at_key": "a"}]})), "redis.mirror[1].expires_at_key: \"a\" is mirror[0].key's already; allowed: each key once"),
        (block(json!({"mirror": ["wechat-token:{{appid}}:lock"]})), "redis.mirror[0].key: \"wechat-token:{wx1}:lock\" is one of the plugin's own already; allowed: each key once"),
        (json!({"apps": [app("wx1"), app("wx2")], "redis": {"mirror": ["k"]}}), "redis.mirror[0].key: \"k\" would hold the tokens of 2 apps; allowed: a key with {appid}"),
        (json!({"apps": [app("wx1"), app("wx2")], "redis": {"mirror": [{"key": "k{appid}", "expires_at_key": "e"}]}}), "redis.mirror[0].expires_at_key: \"e\" would hold the tokens of 2 apps; allowed: a key with {appid}"),
        (json!({"apps": [app("bwx"), app("wx")], "redis": {"mirror": ["a{appid}", "ab{appid}"]}}), "redis.mirror[1].key: \"abwx\" is mirror[0].key's already; allowed: each key once"),
        (block(json!({"adopt": "yes"})), "redis.adopt: is a text; allowed: true or false"),
        (block(json!({"adopt": true})), "redis.adopt: is true without mirror, so there is nothing to take over; allowed: false, or mirror with a key"),
        (block(json!({"when_down": "classic"})), "redis.when_down: \"classic\" is not known; allowed: stable, hold"),
    ]
}
