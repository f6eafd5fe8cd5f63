use super::*;

fn text(path: &str, change: impl Fn(&Scan<'_>, &mut Vec<u8>)) -> String {
    let mut out = b"left over".to_vec();
    change(&scan(path.as_bytes()), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_token_takes_the_place_of_the_callers_and_all_else_is_kept() {
    for (path, expected) in [
        ("/a", "/a?access_token=T"),
        ("/a?", "/a?access_token=T"),
        ("/a?b=1", "/a?b=1&access_token=T"),
        ("/a?b=1&", "/a?b=1&access_token=T"),
        ("/a?b", "/a?b&access_token=T"),
        ("/a?b=1&&c=%2F+x", "/a?b=1&&c=%2F+x&access_token=T"),
        ("/a?&", "/a?&access_token=T"),
        ("/a??", "/a??&access_token=T"),
        ("/a?access_token=x", "/a?access_token=T"),
        ("/a?access_token=", "/a?access_token=T"),
        ("/a?access_token", "/a?access_token=T"),
        ("/a?access_token=x=y", "/a?access_token=T"),
        ("/a?access%5Ftoken=x&b", "/a?access_token=T&b"),
        ("/a?%61%63%63ess_toke%6E=x", "/a?access_token=T"),
        ("/a?b&access_token=x&c", "/a?b&access_token=T&c"),
        (
            "/a?access_token=x&c&access_token=y&d",
            "/a?access_token=T&c&d",
        ),
        ("/a?access_token=x&access_token=y#f", "/a?access_token=T#f"),
        ("/a?access_token=&&access%5ftoken", "/a?access_token=T&"),
        ("/a#f", "/a?access_token=T#f"),
        ("/a?#f", "/a?access_token=T#f"),
        (
            "/a?b#f?access_token=x&",
            "/a?b&access_token=T#f?access_token=x&",
        ),
        ("/a#?b", "/a?access_token=T#?b"),
        ("/a?from_appid=w", "/a?access_token=T"),
        ("/a?from_appid=w#f", "/a?access_token=T#f"),
        ("/a?from_appid=w&b", "/a?b&access_token=T"),
        ("/a?b&from%5Fappid=w&c&from_appid", "/a?b&c&access_token=T"),
        ("/a?from_appid=w&access_token=x", "/a?access_token=T"),
        ("/a?from_appid=w&", "/a?access_token=T"),
        ("/a?from_appid=w&b?", "/a?b?&access_token=T"),
        ("/a?b?&from_appid=w", "/a?b?&access_token=T"),
        // Other names: case, other tokens, escapes of escapes, `;`.
        ("/a?Access_Token=x", "/a?Access_Token=x&access_token=T"),
        (
            "/a?access%255Ftoken=x",
            "/a?access%255Ftoken=x&access_token=T",
        ),
        ("/a?access+token=x", "/a?access+token=x&access_token=T"),
        ("/a?access_token%=x", "/a?access_token%=x&access_token=T"),
        ("/a?xaccess_token=x", "/a?xaccess_token=x&access_token=T"),
        ("/a?b;access_token=x", "/a?b;access_token=x&access_token=T"),
        ("", "?access_token=T"),
        ("?", "?access_token=T"),
        ("#", "?access_token=T#"),
    ] {
        assert_eq!(
            text(path, |scan, out| inject(scan, "T", out)),
            expected,
            "{path}"
        );
    }
}

#[test]
fn a_token_is_encoded_where_it_must_be() {
    for (token, expected) in [
        ("aZ09-_.~", "/a?access_token=aZ09-_.~"),
        ("a&b=c#d%e+f g", "/a?access_token=a%26b%3Dc%23d%25e%2Bf%20g"),
        ("\u{e9}", "/a?access_token=%C3%A9"),
    ] {
        let path = text("/a", |scan, out| inject(scan, token, out));
        assert_eq!(path, expected, "{token}");
        let again = scan(path.as_bytes());
        let values: Vec<_> = again.token_values().collect();
        assert_eq!(values, [token.as_bytes()], "{token}");
    }
}

#[test]
fn a_scan_says_what_the_query_carries() {
    // path, tokens, foreign, secret
    for (path, tokens, foreign, secret) in [
        ("/a", CallerTokens::None, false, false),
        ("/a?b=access_token", CallerTokens::None, false, false),
        ("/a?access_token", CallerTokens::Empty, false, false),
        ("/a?access_token=", CallerTokens::Empty, false, false),
        (
            "/a?access_token=&access_token=x",
            CallerTokens::Values,
            false,
            true,
        ),
        (
            "/a?access_token=x&access_token=",
            CallerTokens::Values,
            false,
            true,
        ),
        (
            "/a?component_access_token=x",
            CallerTokens::None,
            true,
            true,
        ),
        ("/a?suite_access_token=", CallerTokens::None, true, false),
        (
            "/a?provider%5faccess_token",
            CallerTokens::None,
            true,
            false,
        ),
        ("/a?secret=x", CallerTokens::None, false, true),
        ("/a?appsecret=x", CallerTokens::None, false, true),
        ("/a?corpsecre%74=x", CallerTokens::None, false, true),
        ("/a?refresh_token=x", CallerTokens::None, false, true),
        ("/a?secret=", CallerTokens::None, false, false),
        ("/a#?access_token=x", CallerTokens::None, false, false),
    ] {
        let scan = scan(path.as_bytes());
        assert_eq!(scan.caller_tokens(), tokens, "{path}");
        assert_eq!(scan.has_foreign_token(), foreign, "{path}");
        assert_eq!(scan.carries_secret(), secret, "{path}");
    }
}

#[test]
fn token_values_are_decoded_and_empty_ones_left_out() {
    let scan = scan(b"/a?access_token=x%2Dy&access_token=&b=1&access_token=p+q%2");
    let values: Vec<_> = scan.token_values().collect();
    assert_eq!(values, [&b"x-y"[..], b"p q%2"]);
}

#[test]
fn from_appid_is_one_value_or_a_conflict() {
    let one = |value: &'static str| NamedApp::One(Cow::Borrowed(value.as_bytes()));
    for (path, expected) in [
        ("/a", NamedApp::Absent),
        ("/a?appid=x", NamedApp::Absent),
        ("/a?from_appid=wx1", one("wx1")),
        ("/a?from_appid=wx%31", one("wx1")),
        ("/a?from_appid", one("")),
        ("/a?from_appid=wx1&from_appid=w%781", one("wx1")),
        ("/a?from_appid=wx1&from_appid=", NamedApp::Conflict),
        (
            "/a?from_appid=1&from_appid=2&from_appid=1",
            NamedApp::Conflict,
        ),
    ] {
        assert_eq!(*scan(path.as_bytes()).from_appid(), expected, "{path}");
    }
}

#[test]
fn only_paths_that_every_server_reads_alike_are_plain() {
    for (path, plain) in [
        ("/", true),
        ("/?a//", true),
        ("/cgi-bin/user/get?a=%2F", true),
        ("/a.b/c", true),
        ("", false),
        ("?", false),
        ("a", false),
        ("//a", false),
        ("/a/", false),
        ("/a/?b", false),
        ("/a//b", false),
        ("/a/./b", false),
        ("/a/../b", false),
        ("/.a", false),
        ("/%73ns", false),
        ("/a;b", false),
        ("/a\\b", false),
        ("/a b", false),
        ("/\u{e9}", false),
        ("http://h/a", false),
    ] {
        assert_eq!(scan(path.as_bytes()).is_plain(), plain, "{path}");
    }
}

#[test]
fn stripping_removes_from_appid_alone() {
    for (path, expected) in [
        ("/a", "/a"),
        ("/a?", "/a?"),
        ("/a?access_token=x#f", "/a?access_token=x#f"),
        ("/a?from_appid=w", "/a"),
        ("/a?from_appid=w#f", "/a#f"),
        (
            "/a?b&from_appid=w&&c=1&access_token=x",
            "/a?b&&c=1&access_token=x",
        ),
        (
            "/a?from_appid=w&access_token=x&access_token=y",
            "/a?access_token=x&access_token=y",
        ),
    ] {
        assert_eq!(text(path, strip), expected, "{path}");
    }
}

#[test]
fn a_redacted_path_keeps_names_and_loses_values() {
    for (path, expected) in [
        ("/a", "/a"),
        ("/a?b=1&&c", "/a?b=1&&c"),
        ("/a?b#access_token=x", "/a?b"),
        ("/a?access_token=x", "/a?access_token="),
        ("/a?access_token&secret=", "/a?access_token&secret="),
        ("/a?access%5Ftoken=x&b=2&", "/a?access%5Ftoken=&b=2&"),
        (
            "/sns/jscode2session?appid=w&secret=s&js_code=c",
            "/sns/jscode2session?appid=w&secret=&js_code=c",
        ),
        (
            "/a?suite_access_token=x&corpsecret=y&appsecret=z#f",
            "/a?suite_access_token=&corpsecret=&appsecret=",
        ),
        (
            "/a?&access_token=x&access_token=y=z",
            "/a?&access_token=&access_token=",
        ),
    ] {
        assert_eq!(text(path, redact), expected, "{path}");
    }
}
