mod token_free;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{App, OnUnavailable, Refresh, TokenApi, Upstream, Wait};
use crate::rewrite::scan;

const HOST: &str = "api.weixin.qq.com";

fn app(appid: &str, caller_token: CallerToken) -> App {
    App {
        appid: appid.to_owned(),
        name: appid.to_owned(),
        secrets: Vec::new(),
        token_api: TokenApi::Stable,
        caller_token,
        on_unavailable: OnUnavailable::Fail(503),
        refresh: Refresh {
            lead: Duration::from_secs(300),
            jitter: Duration::from_secs(60),
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            rejected_interval: Duration::from_secs(60),
            daily_budget: 1000,
        },
    }
}

fn config(apps: Vec<App>, default_app: Option<usize>, hosts: &[&str]) -> Config {
    Config {
        apps,
        default_app,
        upstreams: vec![Upstream {
            cluster: "wechat_token".to_owned(),
            authority: HOST.to_owned(),
        }],
        call_timeout: Duration::from_secs(5),
        hosts: match hosts {
            ["*"] => Hosts::Any,
            names => Hosts::Names(names.iter().map(|&name| name.to_owned()).collect()),
        },
        excluded_paths: vec!["/wxa/other".to_owned(), "/cgi-bin/mine".to_owned()],
        allow_rid_info: false,
        wait: Wait {
            timeout: Duration::from_secs(5),
            max_requests: 1024,
        },
        watch: true,
        redis: None,
        skipped: Vec::new(),
        skips_bad_apps: false,
    }
}

/// Apps `wxb` (index 0, keeps), `wxa` (index 1, replaces), `wxc` (index 2, keeps).
fn three(default_app: Option<usize>) -> Routes {
    let apps = vec![
        app("wxb", CallerToken::Keep),
        app("wxa", CallerToken::Replace),
        app("wxc", CallerToken::Keep),
    ];
    Routes::new(&config(apps, default_app, &[HOST]))
}

fn one(hosts: &[&str]) -> Routes {
    Routes::new(&config(vec![app("wxa", CallerToken::Keep)], Some(0), hosts))
}

/// `own0` is a token of app 0, `own1` of app 1, and so on.
fn is_own(app: usize, token: &[u8]) -> bool {
    token == format!("own{app}").as_bytes()
}

fn decide(routes: &Routes, path: &str, appid: Option<&str>) -> Route {
    let header = header(appid.map(str::as_bytes).as_slice());
    routes.decide(
        b"GET",
        HOST.as_bytes(),
        &scan(path.as_bytes()),
        &header,
        is_own,
    )
}

fn header<'a>(values: &[&'a [u8]]) -> NamedApp<'a> {
    let mut header = NamedApp::Absent;
    for value in values {
        header.add((*value).into());
    }
    header
}

#[test]
fn only_the_configured_host_is_ours() {
    let routes = one(&[HOST, "wx.example:8080", "[::1]", "[::2]:81"]);
    for (authority, ours) in [
        ("api.weixin.qq.com", true),
        ("API.Weixin.QQ.com", true),
        ("api.weixin.qq.com:80", true),
        ("api.weixin.qq.com:65535", true),
        ("wx.example:8080", true),
        ("WX.example:8080", true),
        ("[::1]", true),
        ("[::1]:80", true),
        ("[::2]:81", true),
        ("", false),
        ("api.weixin.qq.co", false),
        ("api.weixin.qq.com.", false),
        ("api.weixin.qq.com.:80", false),
        ("api.weixin.qq.com:", false),
        ("api.weixin.qq.com:123456", false),
        ("api.weixin.qq.com:80x", false),
        ("api.weixin.qq.com:80@evil.com", false),
        ("api.weixin.qq.com:80:80", false),
        ("api.weixin.qq.com.evil.com", false),
        ("api.weixin.qq.comevil", false),
        ("evil-api.weixin.qq.com", false),
        ("evil.api.weixin.qq.com", false),
        ("user@api.weixin.qq.com", false),
        ("api.weixin.qq.com@evil.com", false),
        ("api.weixin.qq.com/x", false),
        (" api.weixin.qq.com", false),
        ("api.weixin.qq.com,api.weixin.qq.com", false),
        ("wx.example", false),
        ("wx.example:80", false),
        ("wx.example:80801", false),
        ("wx.example:8080:1", false),
        ("[::2]", false),
        ("[::2]:82", false),
    ] {
        let expected = if ours {
            Route::Inject { app: 0 }
        } else {
            Route::Pass(Passed::OtherHost)
        };
        let found = routes.decide(
            b"GET",
            authority.as_bytes(),
            &scan(b"/a"),
            &NamedApp::Absent,
            is_own,
        );
        assert_eq!(found, expected, "{authority}");
    }
    let routes = one(&["*"]);
    let found = routes.decide(b"GET", b"", &scan(b"/a"), &NamedApp::Absent, is_own);
    assert_eq!(found, Route::Inject { app: 0 });
}

#[test]
fn excluded_paths_and_foreign_tokens_pass_whatever_app_is_named() {
    let routes = three(None);
    for (path, expected) in [
        ("/wxa/other?a", Passed::Excluded),
        ("/cgi-bin/mine", Passed::Excluded),
        ("/a?component_access_token=x", Passed::ForeignToken),
        (
            "/a?suite_access_token=x&access_token=y",
            Passed::ForeignToken,
        ),
        ("/a?provider_access_token", Passed::ForeignToken),
        ("/sns/a?suite_access_token=x", Passed::TokenFree),
    ] {
        for appid in [None, Some("wxa"), Some("nobody")] {
            assert_eq!(
                decide(&routes, path, appid),
                Route::Pass(expected),
                "{path} {appid:?}"
            );
        }
    }
    for path in ["/wxa/other/", "/wxa/othe", "/wxa/other2", "//wxa/other"] {
        assert_eq!(
            decide(&routes, path, Some("wxa")),
            Route::Inject { app: 1 },
            "{path}"
        );
    }
}

#[test]
fn the_app_is_the_named_one_or_the_default() {
    let inject = |app| Route::Inject { app };
    let refuse = Route::Refuse;
    for (path, header, default, expected) in [
        ("/a", None, Some(2), inject(2)),
        ("/a", None, None, refuse(Rejection::AppMissing)),
        ("/a", Some("wxb"), None, inject(0)),
        ("/a", Some("wxa"), Some(0), inject(1)),
        ("/a?from_appid=wxc", None, Some(0), inject(2)),
        ("/a?from_appid=wx%63", None, None, inject(2)),
        ("/a?from_appid=wxc", Some("wxc"), None, inject(2)),
        (
            "/a?from_appid=wxc",
            Some("wxa"),
            Some(0),
            refuse(Rejection::AppConflict),
        ),
        (
            "/a?from_appid=wxc&from_appid=wxa",
            None,
            Some(0),
            refuse(Rejection::AppConflict),
        ),
        (
            "/a?from_appid=wxc&from_appid=wxa",
            Some("wxc"),
            Some(0),
            refuse(Rejection::AppConflict),
        ),
        (
            "/a?from_appid=",
            Some("wxc"),
            Some(0),
            refuse(Rejection::AppConflict),
        ),
        ("/a", Some("wxd"), Some(0), refuse(Rejection::UnknownApp)),
        ("/a", Some("WXA"), Some(0), refuse(Rejection::UnknownApp)),
        ("/a", Some(""), Some(0), refuse(Rejection::UnknownApp)),
        (
            "/a",
            Some("wxa,wxa"),
            Some(0),
            refuse(Rejection::UnknownApp),
        ),
        (
            "/a?from_appid=",
            None,
            Some(0),
            refuse(Rejection::UnknownApp),
        ),
        (
            "/a?from_appid=wx",
            None,
            Some(0),
            refuse(Rejection::UnknownApp),
        ),
    ] {
        assert_eq!(
            decide(&three(default), path, header),
            expected,
            "{path} {header:?} {default:?}"
        );
    }
}

#[test]
fn a_callers_token_is_kept_or_replaced_and_ours_is_always_replaced() {
    let inject = |app| Route::Inject { app };
    let kept = Route::Pass(Passed::CallerToken);
    for (path, header, expected) in [
        ("/a?access_token=x", Some("wxb"), kept),
        ("/a?access_token=x", Some("wxa"), inject(1)),
        ("/a?access_token=", Some("wxb"), inject(0)),
        ("/a?access_token", Some("wxb"), inject(0)),
        ("/a?access_token=own0", Some("wxb"), inject(0)),
        ("/a?access_token=%6Fwn0", Some("wxb"), inject(0)),
        ("/a?access_token=own0&access_token=x", Some("wxb"), kept),
        ("/a?access_token=own2", Some("wxb"), kept),
        (
            "/a?access_token=x",
            Some("nobody"),
            Route::Refuse(Rejection::UnknownApp),
        ),
        // Sent again by Envoy, with nothing left that names the app.
        ("/a?access_token=own0", None, inject(0)),
        ("/a?access_token=own1", None, inject(1)),
        ("/a?access_token=own2", None, inject(2)),
        // The default app replaces.
        ("/a?access_token=x", None, inject(1)),
    ] {
        assert_eq!(
            decide(&three(Some(1)), path, header),
            expected,
            "{path} {header:?}"
        );
    }
}

#[test]
fn a_callers_token_needs_no_app_where_every_app_keeps_it() {
    let routes = |caller_token| {
        let apps = vec![app("wxa", CallerToken::Keep), app("wxb", caller_token)];
        Routes::new(&config(apps, None, &[HOST]))
    };
    let path = "/a?access_token=x";
    let kept = Route::Pass(Passed::CallerToken);
    assert_eq!(decide(&routes(CallerToken::Keep), path, None), kept);
    let missing = Route::Refuse(Rejection::AppMissing);
    assert_eq!(decide(&routes(CallerToken::Replace), path, None), missing);
}

#[test]
fn each_of_a_thousand_apps_is_found() {
    let apps = (0..1000)
        .map(|i| app(&format!("wx{}", (i * 7919) % 1000), CallerToken::Keep))
        .collect();
    let routes = Routes::new(&config(apps, None, &[HOST]));
    for i in 0..1000 {
        let appid = format!("wx{}", (i * 7919) % 1000);
        assert_eq!(
            decide(&routes, "/a", Some(&appid)),
            Route::Inject { app: i },
            "{appid}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_get_an_answer(
        authority in prop::collection::vec(any::<u8>(), 0..40),
        path in prop::collection::vec(any::<u8>(), 0..80),
        headers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..10), 0..3),
    ) {
        let values: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
        for (any_host, routes) in [(true, one(&["*"])), (false, three(Some(0))), (false, three(None))] {
            let route = routes.decide(b"GET", &authority, &scan(&path), &header(&values), is_own);
            let is_ours = any_host || authority.to_ascii_lowercase().starts_with(HOST.as_bytes());
            prop_assert!(is_ours || route == Route::Pass(Passed::OtherHost));
        }
    }
}

#[test]
fn a_trace_is_token_free_where_it_is_ours() {
    let routes = one(&[HOST]);
    for (method, host, route) in [
        ("TRACE", HOST, Route::Pass(Passed::TokenFree)),
        ("TRACE", "other.example", Route::Pass(Passed::OtherHost)),
        ("GET", HOST, Route::Inject { app: 0 }),
    ] {
        let path = scan(b"/cgi-bin/echo");
        let (method_bytes, host_bytes) = (method.as_bytes(), host.as_bytes());
        let found = routes.decide(method_bytes, host_bytes, &path, &NamedApp::Absent, is_own);
        assert_eq!(found, route, "{method} {host}");
    }
}
