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
        (block(json!({"mirror": [MARKER]})), "redis.mirror: is reserved and not built yet; allowed: nothing, leave it out"),
        (block(json!({"adopt": false})), "redis.adopt: is reserved and not built yet; allowed: nothing, leave it out"),
        (block(json!({"when_down": "classic"})), "redis.when_down: \"classic\" is not known; allowed: stable, hold"),
    ]
}
