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
