//! Documents that are right.

use serde_json::{json, Value};

/// Each good document with a word for it.
pub(crate) fn documents() -> Vec<(&'static str, Value)> {
    vec![
        ("minimal", minimal()),
        ("full", full()),
        ("whole doubles", whole_doubles()),
        (
            "several apps without a default",
            json!({"apps": [app("wx1"), app("wx2")]}),
        ),
        (
            "secret in place",
            json!({"apps": [{"appid": "wx1", "secret": {"value": "in-place"}}]}),
        ),
        (
            "sole refresher on the stable endpoint",
            json!({"apps": [{"appid": "wx1", "secret": {"value": "s"}, "sole_refresher": true}]}),
        ),
        (
            "any host",
            json!({"apps": [app("wx1")], "weixin": {"hosts": ["*"]}}),
        ),
        (
            "every kind of host",
            json!({"apps": [app("wx1")], "weixin": {"hosts": ["API.weixin.QQ.com:8080", "localhost", "10.0.0.1:1", "[::1]:65535", "[fe80::1]", "a_b-c"]}}),
        ),
        (
            "scaled time",
            json!({"apps": [app("wx1")], "refresh": {"lead": "0s", "jitter": "0ms", "backoff": {"initial": "100ms", "max": "100ms"}}, "wait": {"timeout": "10ms"}}),
        ),
        (
            "empty objects",
            json!({"apps": [app("wx1")], "weixin": {}, "paths": {}, "wait": {}, "on_unavailable": {}, "refresh": {"backoff": {}}}),
        ),
        (
            "without a token the request goes on",
            json!({"apps": [app("wx1")], "on_unavailable": {"action": "pass"}}),
        ),
        (
            "redis with every default",
            json!({"apps": [app("wx1")], "redis": {}}),
        ),
        (
            "redis with everything",
            json!({"apps": [{"appid": "wx1", "secret": {"value": "s"}, "token_api": "classic"}, app("wx2")], "redis": redis()}),
        ),
        (
            "a cluster of Istio",
            json!({"apps": [app("wx1")], "weixin": {"upstreams": [{"cluster": "outbound|443||api.weixin.qq.com"}]}}),
        ),
    ]
}

/// A `redis` block in which everything is said.
pub(crate) fn redis() -> Value {
    json!({
        "cluster": "redis_listener",
        "username": {"value": "plugin"},
        "password": {"env": "WECHAT_SECRET"},
        "database": 3,
        "timeout": "500ms",
        "key_prefix": "shop:",
        "mirror": [
            "wechat:access_token:{appid}",
            {
                "key": "wechatpy:{appid}_access_token",
                "format": "json",
                "ttl": "110m",
                "expires_at_key": "wechatpy:{appid}_access_token_expires_at",
            },
            {"key": "wechat_ma_access_token_key:{appid}", "format": "kryo5"},
        ],
        "adopt": true,
        "when_down": "hold",
    })
}

pub(crate) fn full() -> Value {
    json!({
        "apps": [
            {
                "appid": "wx0123456789abcdef",
                "name": "shop",
                "kind": "weixin",
                "secret": [{"env": "WECHAT_SECRET"}, {"value": "next-secret"}],
                "token_api": "classic",
                "sole_refresher": true,
                "callers": "any",
                "caller_token": "replace",
                "on_unavailable": {"status": 502},
                "refresh": {"lead": "10m", "backoff": {"max": "2m"}, "daily_budget": 2000}
            },
            {
                "appid": "wx2",
                "secret": {"env": "WECHAT_SECRET_OLD"},
                "on_unavailable": {"action": "pass"}
            }
        ],
        "default_app": "wx2",
        "weixin": {
            "upstreams": [
                {"cluster": "wechat_token", "authority": "api.weixin.qq.com"},
                {"cluster": "wechat_token_2", "authority": "api2.weixin.qq.com:443"}
            ],
            "timeout": "3s",
            "hosts": ["API.Weixin.qq.com", "api2.weixin.qq.com:8443"]
        },
        "paths": {"exclude": ["/cgi-bin/ping", "/a/%3F"], "allow_rid_info": true},
        "caller_token": "keep",
        "wait": {"timeout": "1m", "max_requests": 7},
        "on_unavailable": {"action": "fail", "status": 599},
        "refresh": {
            "lead": "1h", "jitter": "30s", "backoff": {"initial": "500ms", "max": "1m"},
            "rejected_interval": "10s", "daily_budget": 5
        },
        "watch": false,
        "on_bad_app": "skip"
    })
}

pub(crate) fn whole_doubles() -> Value {
    json!({
        "apps": [app("wx1")],
        "wait": {"max_requests": 1024.0},
        "on_unavailable": {"status": 503.0},
        "refresh": {"daily_budget": 1e3}
    })
}

/// A document that is right, small, and easily made wrong.
pub(crate) fn minimal() -> Value {
    json!({"apps": [app("wx1")]})
}

/// The entry of an app whose secret is in the environment.
pub(crate) fn app(appid: &str) -> Value {
    json!({"appid": appid, "secret": {"env": "WECHAT_SECRET"}})
}
