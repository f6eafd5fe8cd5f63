//! Paths that take no token of ours, however they are spelt.

use super::*;

#[test]
fn no_token_goes_to_a_path_that_takes_none_however_it_is_spelt() {
    let routes = one(&[HOST]);
    for (path, free) in [
        ("/cgi-bin/token", true),
        ("/cgi-bin/token?grant_type=x", true),
        ("/cgi-bin/stable_token", true),
        ("/cgi-bin/component/api_component_token", true),
        ("/cgi-bin/clear_quota/v2", true),
        ("/sns", true),
        ("/sns?a", true),
        ("/sns/", true),
        ("/sns/userinfo?access_token=user", true),
        ("/SNS/userinfo", true),
        ("//sns/userinfo", true),
        ("/./sns/userinfo", true),
        ("/a/../sns/userinfo", true),
        ("/sns/../cgi-bin/user/get", true),
        ("/%73ns/userinfo", true),
        ("/%73%6E%73/userinfo", true),
        ("/%2573ns/userinfo", true),
        ("/%25%37%33ns/userinfo", true),
        ("/%2Fsns/userinfo", true),
        ("/sns%2Fuserinfo", true),
        ("/a%2F..%2fsns/userinfo", true),
        ("/sns;a=b/userinfo", true),
        ("/;a/sns", true),
        ("/\\sns\\userinfo", true),
        ("/sns%00/userinfo", true),
        ("/%20sns/userinfo", true),
        ("/sns%3Fa", true),
        ("http://api.weixin.qq.com/sns/userinfo", true),
        ("sns/userinfo", true),
        ("/cgi-bin//token", true),
        ("/cgi-bin/token/", true),
        ("/cgi-bin/%74oken", true),
        ("/cgi-bin/x/../token", true),
        ("/cgi-bin/token;a", true),
        ("", false),
        ("/", false),
        ("/snsx", false),
        ("/sn", false),
        ("/xsns/a", false),
        // What stands before may be taken off by a route behind the plugin.
        ("/a/sns/b", true),
        ("/wechat/cgi-bin/token", true),
        ("/wechat/CGI-BIN/clear_quota/v2?a", true),
        ("/xcgi-bin/token", false),
        ("/cgi-bin/tokens", false),
        ("/cgi-bin/tokenx/", false),
        ("/cgi-bin/clear_quota", false),
        ("/cgi-bin/user/get?path=/sns/", false),
        ("/cgi-bin/%75ser/get", false),
        ("/cgi-bin/user/get/../../..", false),
        ("/%", false),
        ("/%4", false),
    ] {
        let expected = if free {
            Route::Pass(Passed::TokenFree)
        } else {
            Route::Inject { app: 0 }
        };
        assert_eq!(decide(&routes, path, None), expected, "{path}");
    }
}

#[test]
fn the_call_whose_answer_shows_a_token_is_refused_however_it_is_spelt() {
    let refused = Route::Refuse(Rejection::ShowsToken);
    let inject = Route::Inject { app: 0 };
    let closed = one(&[HOST]);
    let mut open = config(vec![app("wxa", CallerToken::Keep)], Some(0), &[HOST]);
    open.allow_rid_info = true;
    let open = Routes::new(&open);
    for (path, expected) in [
        ("/cgi-bin/openapi/rid/get", refused),
        ("/cgi-bin/openapi/rid/get?access_token=", refused),
        ("/cgi-bin/openapi/rid/get/", refused),
        ("/CGI-BIN/OpenAPI/rid/get", refused),
        ("/cgi-bin//openapi/rid/get", refused),
        ("/cgi-bin/openapi/%72id/%2567et", refused),
        ("/cgi-bin/openapi/x/../rid/get;a", refused),
        ("http://api.weixin.qq.com/cgi-bin/openapi/rid/get", refused),
        ("/wechat/cgi-bin/openapi/rid/get", refused),
        // A resent request.
        ("/cgi-bin/openapi/rid/get?access_token=own0", refused),
        ("/cgi-bin/openapi/rid/get/x", refused),
        ("/cgi-bin/openapi/rid/get%3Fa=/b?c=d", refused),
        ("/cgi-bin/openapi/rid/get%00/x", refused),
        ("/cgi-bin/openapi/rid/get;/../x", refused),
        ("/cgi-bin/openapi/rid/../x", refused),
        // A route behind the plugin makes the real path of it.
        ("/wx/openapi/rid/get", refused),
        ("/cgi-bin/openapi/rids/get", inject),
        ("/cgi-bin/openapi/grid/get", inject),
        ("/sns/rid/get", Route::Pass(Passed::TokenFree)),
        ("/cgi-bin/openapi/quota/get", inject),
        ("/cgi-bin/user/get?path=/cgi-bin/openapi/rid/get", inject),
        // With a token of his own he needs none of ours.
        (
            "/cgi-bin/openapi/rid/get?access_token=x",
            Route::Pass(Passed::CallerToken),
        ),
    ] {
        assert_eq!(decide(&closed, path, None), expected, "{path}");
        let opened = if expected == refused {
            inject
        } else {
            expected
        };
        assert_eq!(decide(&open, path, None), opened, "{path} allowed");
    }
}

#[test]
fn with_several_apps_and_replaced_tokens_that_call_is_refused_as_well() {
    let refused = Route::Refuse(Rejection::ShowsToken);
    let routes = three(None);
    let path = "/cgi-bin/openapi/rid/get";
    for (query, appid, expected) in [
        ("", Some("wxb"), refused),
        ("?access_token=x", Some("wxa"), refused),
        ("?access_token=own2", None, refused),
        ("?access_token=own0", Some("wxb"), refused),
        (
            "?access_token=x",
            Some("wxb"),
            Route::Pass(Passed::CallerToken),
        ),
    ] {
        let found = decide(&routes, &format!("{path}{query}"), appid);
        assert_eq!(found, expected, "{query} {appid:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_escaped_sns_path_never_gets_a_token(
        depth in prop::collection::vec(0_usize..3, 5),
        before in prop::sample::select(vec!["/", "//", "/./", "/a/../", "/%2e/", "/a/%2E%2e/", "/;x/", "\\"]),
        behind in "[/;?#][a-z/]{0,8}",
    ) {
        let mut path = before.to_owned();
        for (letter, depth) in "sns".bytes().zip(depth) {
            let mut spelt = char::from(letter).to_string();
            for round in 0..depth {
                spelt = match round {
                    0 => format!("%{letter:02x}"),
                    _ => spelt.replace('%', "%25"),
                };
            }
            path.push_str(&spelt);
        }
        path.push_str(&behind);
        prop_assert_eq!(decide(&one(&[HOST]), &path, None), Route::Pass(Passed::TokenFree), "{}", path);
    }
}
