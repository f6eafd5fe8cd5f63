use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn parsed(body: &str) -> Result<Grant, Failure> {
    parse_token_reply(200, body.as_bytes())
}

#[test]
fn the_stable_endpoint_is_asked_with_a_sized_json_post() {
    let secret = Secret::new("s\"e\\c");
    let call = token_call(TokenApi::Stable, "wx1", &secret);
    assert_eq!(
        (call.method, call.path.as_str()),
        ("POST", "/cgi-bin/stable_token")
    );
    let length = call.body.len().to_string();
    let expected = [
        ("content-type", "application/json".to_owned()),
        ("content-length", length),
    ];
    assert_eq!(call.headers, expected);
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    let expected = serde_json::json!({
        "grant_type": "client_credential", "appid": "wx1", "secret": "s\"e\\c", "force_refresh": false,
    });
    assert_eq!(body, expected);
    assert_eq!(format!("{call:?}"), "TokenCall(POST [redacted])");
}

#[test]
fn the_classic_endpoint_is_asked_with_an_encoded_query() {
    let call = token_call(TokenApi::Classic, "wx&1", &Secret::new("s=\u{e9}"));
    assert_eq!(call.method, "GET");
    let path = "/cgi-bin/token?grant_type=client_credential&appid=wx%261&secret=s%3D%C3%A9";
    assert_eq!(call.path, path);
    assert!(call.body.is_empty() && call.headers.is_empty());
    assert_eq!(format!("{call:?}"), "TokenCall(GET [redacted])");
}

#[test]
fn a_grant_is_read_in_every_form_that_wechat_uses() {
    let longest = "x".repeat(512);
    for (body, token, seconds) in [
        (
            r#"{"access_token":"T","expires_in":7200}"#.to_owned(),
            "T",
            7200,
        ),
        (
            r#"{"errcode":0,"errmsg":"ok","access_token":"T","expires_in":7200}"#.to_owned(),
            "T",
            7200,
        ),
        (
            r#"{"errcode":"0","access_token":"T","expires_in":"60"}"#.to_owned(),
            "T",
            60,
        ),
        (
            r#"{"errcode":null,"access_token":"T","expires_in":7200.0}"#.to_owned(),
            "T",
            7200,
        ),
        (
            "\u{feff} {\"access_token\":\"T\",\"expires_in\":1}\r\n".to_owned(),
            "T",
            1,
        ),
        (
            r#"{"access_token":"T","expires_in":2592000,"more":[{}]}"#.to_owned(),
            "T",
            2_592_000,
        ),
        (
            format!(r#"{{"access_token":"{longest}","expires_in":7200}}"#),
            longest.as_str(),
            7200,
        ),
    ] {
        let grant = parsed(&body).unwrap();
        assert_eq!(grant.token.expose(), token, "{body}");
        assert_eq!(grant.expires_in, Duration::from_secs(seconds), "{body}");
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_a_failure_that_says_why() {
    let long_token = format!(
        r#"{{"access_token":"{}","expires_in":7200}}"#,
        "x".repeat(513)
    );
    let long_body = format!(
        r#"{{"access_token":"T","expires_in":7200,"x":"{}"}}"#,
        "x".repeat(65_536)
    );
    let deep = "[".repeat(10_000);
    let bad_token = "access_token is not 1 to 512 visible characters";
    let bad_life = "expires_in is not between 1 second and 30 days";
    for (body, problem) in [
        ("", "empty body"),
        (" \r\n", "empty body"),
        ("<html><body>502</body></html>", "markup instead of json"),
        ("\u{feff}<xml>", "markup instead of json"),
        ("bad gateway", "not json"),
        ("{\"access_token\":\"T\",\"exp", "truncated json"),
        ("{\"access_token\":\"T\"}{", "not json"),
        ("null", "not a json object"),
        ("[]", "not a json object"),
        (deep.as_str(), "not json"),
        ("{}", "no access_token"),
        (r#"{"errcode":0}"#, "no access_token"),
        (
            r#"{"errcode":true,"access_token":"T","expires_in":1}"#,
            "errcode is not a number",
        ),
        (
            r#"{"access_token":null,"expires_in":1}"#,
            "access_token is not a string",
        ),
        (r#"{"access_token":"","expires_in":1}"#, bad_token),
        (r#"{"access_token":"a b","expires_in":1}"#, bad_token),
        (r#"{"access_token":"a\n","expires_in":1}"#, bad_token),
        (r#"{"access_token":"é","expires_in":1}"#, bad_token),
        (long_token.as_str(), bad_token),
        (long_body.as_str(), "body over 64 KiB"),
        (r#"{"access_token":"T"}"#, "no expires_in"),
        (
            r#"{"access_token":"T","expires_in":null}"#,
            "expires_in is not a whole number",
        ),
        (
            r#"{"access_token":"T","expires_in":"soon"}"#,
            "expires_in is not a whole number",
        ),
        (
            r#"{"access_token":"T","expires_in":1.5}"#,
            "expires_in is not a whole number",
        ),
        (
            r#"{"access_token":"T","expires_in":1e300}"#,
            "expires_in is not a whole number",
        ),
        (r#"{"access_token":"T","expires_in":0}"#, bad_life),
        (r#"{"access_token":"T","expires_in":-7200}"#, bad_life),
        (r#"{"access_token":"T","expires_in":2592001}"#, bad_life),
    ] {
        let shown: String = body.chars().take(80).collect();
        assert_eq!(parsed(body), Err(Failure::Unreadable(problem)), "{shown}");
    }
    let gbk = b"\xbd\xd3\xbf\xda\xb2\xbb\xb4\xe6\xd4\xda";
    assert_eq!(
        parse_token_reply(200, gbk),
        Err(Failure::Unreadable("not json"))
    );
}

#[test]
fn an_errcode_is_believed_under_every_status_and_a_token_only_under_200() {
    let grant = br#"{"access_token":"T","expires_in":7200}"#;
    for (status, body, expected) in [
        (412, &b""[..], Err(Failure::Http(412))),
        (502, b"<html>", Err(Failure::Http(502))),
        (500, b"{}", Err(Failure::Http(500))),
        (500, grant, Err(Failure::Http(500))),
        (0, b"", Err(Failure::Http(0))),
    ] {
        assert_eq!(parse_token_reply(status, body), expected, "{status}");
    }
    for (status, body, errcode) in [
        (
            200,
            &br#"{"errcode":40013,"errmsg":"invalid appid"}"#[..],
            40013,
        ),
        (500, br#"{"errcode":"-1"}"#, -1),
        (200, br#"{"errcode":45009.0}"#, 45009),
        (200, br#"{"base_resp":{"errcode":45011}}"#, 45011),
        (200, b"{\"errcode\":40164,\"errmsg\":\"\xb2\xbb\"}", 40164),
        (
            200,
            br#"{"errcode":40001,"access_token":"T","expires_in":7200}"#,
            40001,
        ),
    ] {
        let failure = parse_token_reply(status, body).unwrap_err();
        assert_eq!(failure.errcode(), Some(errcode), "{status} {errcode}");
        assert_eq!(failure.on_token(), errcode::on_token(errcode), "{errcode}");
    }
    assert_eq!(Failure::Http(500).on_token(), OnToken::Transient);
    assert_eq!(
        Failure::Unreachable("timeout").on_token(),
        OnToken::Transient
    );
}

#[test]
fn a_failure_is_logged_as_key_and_value_with_the_ip_and_the_rid() {
    let rid = "65a1b2c3-0a1b2c3d-4e5f6a7b";
    for (errcode, errmsg, expected) in [
        (
            40164,
            "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist rid: 65a1b2c3-0a1b2c3d-4e5f6a7b",
            format!("errcode=40164 refused_ip=1.2.3.4 rid={rid} meaning=\"the calling IP is not in the app's whitelist\""),
        ),
        (
            61004,
            "access clientip is not registered requestIP: 2001:db8::1 hint",
            "errcode=61004 refused_ip=2001:db8::1 meaning=\"the calling IP is not registered\"".to_owned(),
        ),
        (40164, "invalid ip", "errcode=40164 meaning=\"the calling IP is not in the app's whitelist\"".to_owned()),
        (40013, "invalid appid 1.2.3.4", "errcode=40013 meaning=\"invalid appid\"".to_owned()),
        (12345, "new rule\n level=\"x\" rid: ", "errcode=12345 errmsg=\"new rule level='x' rid: \"".to_owned()),
        (12345, "", "errcode=12345 errmsg=\"\"".to_owned()),
    ] {
        let body = serde_json::json!({"errcode": errcode, "errmsg": errmsg}).to_string();
        assert_eq!(parsed(&body).unwrap_err().to_string(), expected, "{errmsg}");
    }
    assert_eq!(Failure::Http(412).to_string(), "http_status=412");
    assert_eq!(
        Failure::Unreachable("connection reset").to_string(),
        "unreachable=\"connection reset\""
    );
    assert_eq!(
        Failure::Unreadable("empty body").to_string(),
        "unreadable=\"empty body\""
    );
}

#[test]
fn what_looks_like_a_token_or_a_secret_is_not_logged() {
    let secret = "0123456789abcdef0123456789abcdef";
    let token = "77_".to_owned() + &"Tok-en_".repeat(22);
    // The second one would be cut in its middle.
    let errmsg = format!("bad {secret}, {}{token}", "pad ".repeat(35));
    let body = serde_json::json!({"errcode": 9, "errmsg": errmsg}).to_string();
    let failure = parsed(&body).unwrap_err();
    let Failure::Errcode { errmsg, .. } = &failure else {
        panic!("{failure:?}");
    };
    assert!(errmsg.starts_with("bad [redacted], pad"), "{errmsg}");
    for shown in [failure.to_string(), format!("{failure:?}")] {
        assert!(!shown.contains("0123") && !shown.contains("Tok"), "{shown}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_grant_or_a_failure(status in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(failure) = parse_token_reply(status, &body) {
            prop_assert!(!failure.to_string().contains('\n'));
        }
    }

    #[test]
    fn any_errmsg_makes_one_bounded_line(errcode in -(1_i64 << 52)..1 << 52, errmsg in any::<String>()) {
        let errcode = if errcode == 0 { 1 } else { errcode };
        let body = serde_json::json!({"errcode": errcode, "errmsg": errmsg}).to_string();
        let failure = parsed(&body).unwrap_err();
        prop_assert_eq!(failure.errcode(), Some(errcode));
        let shown = failure.to_string();
        prop_assert!(shown.chars().count() < 400 && !shown.chars().any(char::is_control), "{}", shown);
    }

    #[test]
    fn every_truncation_of_a_grant_is_a_failure(cut in 0_usize..72) {
        let body = br#"{"access_token":"77_abcdefghijklmnopqrstuvwxyz0123456","expires_in":7200}"#;
        prop_assert!(parse_token_reply(200, &body[..cut]).is_err());
        prop_assert!(parse_token_reply(200, body).is_ok());
    }
}

#[test]
fn a_body_of_64_kib_is_read_and_a_longer_one_is_not() {
    let body = |length: usize| {
        let reply = r#"{"access_token":"T","expires_in":7200}"#;
        format!("{reply}{}", " ".repeat(length - reply.len()))
    };
    assert!(parsed(&body(64 * 1024)).is_ok());
    let longer = parsed(&body(64 * 1024 + 1));
    assert_eq!(longer, Err(Failure::Unreadable("body over 64 KiB")));
}

#[test]
fn an_ip_is_told_from_other_words() {
    let longest = "2001:0db8:0000:0000:0000:ffff:255.255.255.255";
    for ip in ["1.2.3.4", "::1", "::ffff:1.2.3.4", longest] {
        assert!(is_ip(ip), "{ip}");
    }
    let longer = format!("{longest}0");
    for word in [
        "...",
        ":::",
        "1.2.3",
        "1.2.3.4.5",
        "a:b",
        "1.2.3.x",
        "bad",
        &longer,
    ] {
        assert!(!is_ip(word), "{word}");
    }
}

#[test]
fn a_whole_number_is_one_that_a_double_can_tell_apart() {
    let whole = |json: &str| whole(&serde_json::from_str(json).unwrap());
    for (json, number) in [
        ("7200.0", 7_200),
        ("-1", -1),
        (r#"" 7200 ""#, 7_200),
        ("8999999999999999", 8_999_999_999_999_999),
    ] {
        assert_eq!(whole(json), Some(number), "{json}");
    }
    for json in [
        "9000000000000000",
        "-9000000000000000",
        "1.5",
        r#""1.5""#,
        "null",
        "true",
        "[]",
        "{}",
    ] {
        assert_eq!(whole(json), None, "{json}");
    }
}

#[test]
fn a_rid_is_what_stands_behind_its_name_up_to_the_next_other_character() {
    let longest = format!("{}-a", ["65a1b2c3"; 7].join("-"));
    let with_longest = format!("rid: {longest} and more");
    let longer = format!("rid: {}", ["65a1b2c3"; 8].join("-"));
    for (errmsg, expected) in [
        (with_longest.as_str(), Some(longest.as_str())),
        (&longer, None),
        ("rid: 65a1b2c3-0a1b2c3d", Some("65a1b2c3-0a1b2c3d")),
        ("invalid, rid:   abc-1 and more", Some("abc-1")),
        ("rid: a1, rid: b2", Some("b2")),
        ("rid: 5ec2e7a0b1c2d3e4f5061728394a5b6c", None),
        ("rid: 65a1b2c3-5ec2e7a0b1c2d3e4f5061728394a5b6c", None),
        ("no such thing", None),
        ("rid", None),
        ("rid: ", None),
    ] {
        assert_eq!(rid(errmsg).as_deref(), expected, "{errmsg}");
    }
}
