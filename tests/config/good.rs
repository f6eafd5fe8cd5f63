//! What a document means: values, defaults, overrides.

use std::time::Duration;

use serde_json::{json, Value};
use wechat_token::config::{
    CallerToken, Config, Hosts, OnUnavailable, Redis, Refresh, Role, TokenApi, WhenDown,
};
use wechat_token::secret::Secret;
use wechat_token::store::mirror::{Format, Mirror};
use wechat_token::store::wire::{Access, Login};

use super::good_documents::{app, documents, full, minimal, redis, whole_doubles};
use super::{parse, parse_text};

fn good(document: &Value) -> Config {
    parse(document).unwrap_or_else(|error| panic!("{error}: {document}"))
}

#[test]
fn every_good_document_is_taken_by_both_roles() {
    for (word, document) in documents() {
        for role in [Role::Refresher, Role::Injector] {
            let config = parse_text(&document.to_string(), role);
            let config = config.unwrap_or_else(|error| panic!("{word}, {role:?}: {error}"));
            assert_eq!(config.skipped, [], "{word}");
        }
    }
}

#[test]
fn a_minimal_document_gets_the_documented_defaults() {
    let config = good(&minimal());
    let [app] = config.apps.as_slice() else {
        panic!("one app: {config:?}");
    };
    assert_eq!((app.appid.as_str(), app.name.as_str()), ("wx1", "wx1"));
    assert_eq!(
        app.secrets.iter().map(|s| s.expose()).collect::<Vec<_>>(),
        ["secret-of-the-shop"]
    );
    assert_eq!(app.token_api, TokenApi::Stable);
    assert_eq!(app.caller_token, CallerToken::Keep);
    assert_eq!(app.on_unavailable, OnUnavailable::Fail(503));
    assert_eq!(
        app.refresh,
        Refresh {
            lead: Duration::from_secs(300),
            jitter: Duration::from_secs(60),
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            rejected_interval: Duration::from_secs(60),
            daily_budget: 1000,
        }
    );
    assert_eq!(config.default_app, Some(0));
    assert_eq!(upstreams(&config), [("wechat_token", "api.weixin.qq.com")]);
    assert_eq!(config.call_timeout, Duration::from_secs(5));
    assert_eq!(
        config.hosts,
        Hosts::Names(vec!["api.weixin.qq.com".to_owned()])
    );
    assert!(config.excluded_paths.is_empty());
    assert!(!config.allow_rid_info);
    assert_eq!(config.wait.timeout, Duration::from_secs(5));
    assert_eq!(config.wait.max_requests, 1024);
    assert!(config.watch);
}

#[test]
fn redis_has_the_documented_defaults() {
    assert_eq!(good(&minimal()).redis, None);
    let config = good(&json!({"apps": [app("wx1")], "redis": {}}));
    let expected = Redis {
        cluster: "wechat_redis".to_owned(),
        access: Access {
            login: Login::default(),
            key_prefix: "wechat-token:".to_owned(),
            mirrors: Vec::new(),
        },
        timeout: Duration::from_secs(1),
        adopt: false,
        when_down: WhenDown::Stable,
    };
    assert_eq!(config.redis, Some(expected));
}

#[test]
fn a_redis_block_is_taken_as_written() {
    let config = good(&json!({"apps": [app("wx1")], "redis": redis()}));
    let expected = Redis {
        cluster: "redis_listener".to_owned(),
        access: Access {
            login: Login {
                username: Some(Secret::new("plugin")),
                password: Some(Secret::new("secret-of-the-shop")),
                database: 3,
            },
            key_prefix: "shop:".to_owned(),
            mirrors: vec![
                Mirror::plain("wechat:access_token:{appid}"),
                Mirror {
                    key: "wechatpy:{appid}_access_token".to_owned(),
                    format: Format::Json,
                    ttl: Some(Duration::from_secs(6_600)),
                    expires_at_key: Some("wechatpy:{appid}_access_token_expires_at".to_owned()),
                },
                Mirror {
                    key: "wechat_ma_access_token_key:{appid}".to_owned(),
                    format: Format::Kryo5,
                    ttl: None,
                    expires_at_key: None,
                },
            ],
        },
        timeout: Duration::from_millis(500),
        adopt: true,
        when_down: WhenDown::Hold,
    };
    assert_eq!(config.redis, Some(expected));
}

#[test]
fn a_full_document_is_taken_as_written() {
    let config = good(&full());
    let [shop, second] = config.apps.as_slice() else {
        panic!("two apps: {config:?}");
    };
    assert_eq!(shop.appid, "wx0123456789abcdef");
    assert_eq!(shop.name, "shop");
    assert_eq!(
        shop.secrets.iter().map(|s| s.expose()).collect::<Vec<_>>(),
        ["secret-of-the-shop", "next-secret"]
    );
    assert_eq!(shop.token_api, TokenApi::Classic);
    assert_eq!(second.token_api, TokenApi::Stable);
    assert_eq!(config.default_app, Some(1));
    assert_eq!(
        upstreams(&config),
        [
            ("wechat_token", "api.weixin.qq.com"),
            ("wechat_token_2", "api2.weixin.qq.com:443")
        ]
    );
    assert_eq!(config.call_timeout, Duration::from_secs(3));
    assert_eq!(
        config.hosts,
        Hosts::Names(vec![
            "api.weixin.qq.com".to_owned(),
            "api2.weixin.qq.com:8443".to_owned()
        ])
    );
    assert_eq!(config.excluded_paths, ["/cgi-bin/ping", "/a/%3F"]);
    assert!(config.allow_rid_info);
    assert_eq!(config.wait.timeout, Duration::from_secs(60));
    assert_eq!(config.wait.max_requests, 7);
    assert!(!config.watch);
}

#[test]
fn an_app_overrides_the_defaults_field_by_field() {
    let config = good(&full());
    let [shop, second] = config.apps.as_slice() else {
        panic!("two apps: {config:?}");
    };
    let defaults = Refresh {
        lead: Duration::from_secs(3600),
        jitter: Duration::from_secs(30),
        backoff_initial: Duration::from_millis(500),
        backoff_max: Duration::from_secs(60),
        rejected_interval: Duration::from_secs(10),
        daily_budget: 5,
    };
    assert_eq!(second.refresh, defaults);
    assert_eq!(
        shop.refresh,
        Refresh {
            lead: Duration::from_secs(600),
            backoff_max: Duration::from_secs(120),
            daily_budget: 2000,
            ..defaults
        }
    );
    assert_eq!(shop.caller_token, CallerToken::Replace);
    assert_eq!(second.caller_token, CallerToken::Keep);
    assert_eq!(shop.on_unavailable, OnUnavailable::Fail(502));
    assert_eq!(second.on_unavailable, OnUnavailable::Pass);
}

#[test]
fn an_app_may_fail_where_the_default_is_to_pass() {
    let document = json!({
        "apps": [{"appid": "wx1", "secret": {"value": "s"}, "on_unavailable": {"action": "fail"}}, app("wx2")],
        "on_unavailable": {"action": "pass"}
    });
    let config = good(&document);
    let actions: Vec<_> = config.apps.iter().map(|app| app.on_unavailable).collect();
    assert_eq!(actions, [OnUnavailable::Fail(503), OnUnavailable::Pass]);
}

#[test]
fn whole_doubles_are_numbers() {
    for text in ["1024", "1024.0", "1.024e3", "10240e-1"] {
        let document = format!(
            r#"{{"apps":[{{"appid":"wx1","secret":{{"value":"s"}}}}],"wait":{{"max_requests":{text}}}}}"#
        );
        let config = parse_text(&document, Role::Refresher);
        assert_eq!(config.map(|c| c.wait.max_requests), Ok(1024), "{text}");
    }
    assert_eq!(
        good(&whole_doubles()).apps[0].on_unavailable,
        OnUnavailable::Fail(503)
    );
}

#[test]
fn an_injector_may_be_without_a_secret_a_refresher_not() {
    let document = json!({"apps": [{"appid": "wx1"}]}).to_string();
    let config = parse_text(&document, Role::Injector);
    assert!(config.is_ok_and(|config| config.apps[0].secrets.is_empty()));
    let error = parse_text(&document, Role::Refresher).unwrap_err();
    assert_eq!(
        error.to_string(),
        "apps[0].secret: is missing; allowed: {env: NAME} or {value: …}, or a list of them"
    );
}

#[test]
fn several_apps_have_no_default_unless_one_is_named() {
    let mut document = json!({"apps": [app("wx1"), app("wx2")]});
    assert_eq!(good(&document).default_app, None);
    document["default_app"] = json!("wx1");
    assert_eq!(good(&document).default_app, Some(0));
}

#[test]
fn a_star_alone_means_any_host() {
    let document = json!({"apps": [app("wx1")], "weixin": {"hosts": ["*"]}});
    assert_eq!(good(&document).hosts, Hosts::Any);
}

#[test]
fn the_debug_output_of_a_configuration_shows_no_secret() {
    let printed = format!("{:?}", good(&full()));
    for secret in ["secret-of-the-shop", "next-secret"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn thousands_of_apps_are_read() {
    let apps: Vec<_> = (0..8_000)
        .map(|i| json!({"appid": format!("wx{i}"), "name": format!("n{i}"), "secret": {"value": "0123456789abcdef0123456789abcdef"}}))
        .collect();
    let document = json!({"apps": apps, "default_app": "wx7999"});
    let config = good(&document);
    assert_eq!(config.apps.len(), 8_000);
    assert_eq!(config.default_app, Some(7_999));
}

fn upstreams(config: &Config) -> Vec<(&str, &str)> {
    config
        .upstreams
        .iter()
        .map(|upstream| (upstream.cluster.as_str(), upstream.authority.as_str()))
        .collect()
}
