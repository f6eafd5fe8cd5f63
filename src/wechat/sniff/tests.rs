use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn the_headers_that_tell_are_picked_out_of_all() {
    let all: [(&[u8], &[u8]); 6] = [
        (b":status", b"200"),
        (b"date", b"today"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"90"),
        (b"content-encoding", b"gzip"),
        (b"x-content-type", b"other"),
    ];
    let head = AnswerHead {
        status: b"200",
        content_type: Some(b"text/plain"),
        content_length: Some(b"90"),
        content_encoding: Some(b"gzip"),
    };
    assert_eq!(AnswerHead::of(all.into_iter()), head);
}

/// The errcode by which a whole answer, or its first [`LIMIT`] bytes, rejects the token.
fn rejected(prefix: &[u8]) -> Option<i64> {
    match look(prefix, true) {
        Sniff::Rejected(code) => Some(code),
        Sniff::No | Sniff::Missing | Sniff::NeedMore => None,
    }
}

#[test]
fn only_small_json_or_text_with_status_200_is_looked_at() {
    for (status, content_type, content_length, expected) in [
        (
            "200",
            Some("application/json; encoding=utf-8"),
            Some("80"),
            true,
        ),
        ("200", Some("Application/JSON"), None, true),
        ("200", Some("text/plain"), Some("2048"), true),
        (
            "200",
            Some(" text/plain ; charset=utf-8"),
            Some(" 80 "),
            true,
        ),
        ("200", Some("text/json"), None, true),
        ("200", Some("application/problem+json"), None, true),
        ("200", Some("text/javascript"), None, true),
        ("200", None, None, true),
        ("200", None, Some("many"), true),
        ("200", Some("application/json"), Some("2049"), false),
        ("200", Some("application/json"), Some("0"), false),
        ("200", Some("image/jpeg"), Some("80"), false),
        ("200", Some("application/octet-stream"), None, false),
        ("200", Some("text/html"), None, false),
        ("200", Some(""), None, false),
        ("200", Some("son"), None, false),
        ("412", Some("application/json"), Some("80"), false),
        ("503", None, None, false),
        ("20", None, None, false),
        ("", None, None, false),
    ] {
        let found = worth_looking(&AnswerHead {
            status: status.as_bytes(),
            content_type: content_type.map(str::as_bytes),
            content_length: content_length.map(str::as_bytes),
            content_encoding: None,
        });
        assert_eq!(
            found, expected,
            "{status} {content_type:?} {content_length:?}"
        );
    }
}

#[test]
fn a_compressed_answer_is_not_looked_at() {
    for (encoding, expected) in [("gzip", false), ("br", false), ("identity", true)] {
        let headers: [(&[u8], &[u8]); 4] = [
            (b":status", b"200"),
            (b"content-type", b"application/json"),
            (b"content-encoding", encoding.as_bytes()),
            (b"server", b"nginx"),
        ];
        let head = AnswerHead::of(headers.into_iter());
        assert_eq!(worth_looking(&head), expected, "{encoding}");
    }
}

#[test]
fn a_call_that_arrived_without_a_token_is_told_apart() {
    for (answer, expected) in [
        (
            r#"{"errcode":41001,"errmsg":"access_token missing"}"#,
            Sniff::Missing,
        ),
        (r#"{"errcode":0}"#, Sniff::No),
        (r#"{"errcode":48001}"#, Sniff::No),
    ] {
        assert_eq!(look(answer.as_bytes(), true), expected, "{answer}");
    }
}

#[test]
fn a_rejected_token_is_found_where_wechat_puts_it_and_nowhere_else() {
    for (answer, expected) in [
        (
            r#"{"errcode":40001,"errmsg":"invalid credential"}"#,
            Some(40001),
        ),
        (r#"{"errcode":40014}"#, Some(40014)),
        (r#"{"errcode":42001}"#, Some(42001)),
        (
            " \r\n\t{ \"errcode\" : 42001 , \"errmsg\" : \"x\" }\n",
            Some(42001),
        ),
        (r#"{"errcode":"40001"}"#, Some(40001)),
        (r#"{"errmsg":"invalid","errcode":40001}"#, Some(40001)),
        (
            r#"{"errmsg":"a \"quoted\" \\","errcode":40001}"#,
            Some(40001),
        ),
        (
            r#"{"a":[1,{"b":"}]"},[]],"c":{"d":{}},"e":null,"f":-1.5e3,"errcode":40001}"#,
            Some(40001),
        ),
        (
            r#"{"base_resp":{"errcode":42001,"errmsg":""}}"#,
            Some(42001),
        ),
        (r#"{"base_resp":{"ret":1},"errcode":42001}"#, Some(42001)),
        (r#"{"base_resp":[],"errcode":42001}"#, Some(42001)),
        (r#"{"errcode":0,"errmsg":"ok"}"#, None),
        (r#"{"errcode":41001}"#, None),
        (r#"{"errcode":48001}"#, None),
        (r#"{"errcode":-40001}"#, None),
        (r#"{"errcode":400010}"#, None),
        (r#"{"errcode":4e4}"#, None),
        (r#"{"errcode":"40001x"}"#, None),
        (r#"{"errcode":99999999999999999999}"#, None),
        (r#"{"errcode":null}"#, None),
        (r#"{"errcode":{"errcode":40001}}"#, None),
        (r#"{"errcode":0,"base_resp":{"errcode":40001}}"#, None),
        (r#"{"a":"\"errcode\":40001"}"#, None),
        (r#"{"a":"errcode","b":40001}"#, None),
        (r#"{"data":{"errcode":40001}}"#, None),
        (r#"{"list":[{"errcode":40001}]}"#, None),
        (r#"{"base_resp":{"base_resp":{"errcode":40001}}}"#, None),
        (r#"{"base_resp":{"a":{"errcode":40001}}}"#, None),
        (
            r#"{"xerrcode":40001,"errcodex":40001,"Errcode":40001}"#,
            None,
        ),
        (r#"{} {"errcode":40001}"#, None),
        (r#"[{"errcode":40001}]"#, None),
        (r#""errcode":40001"#, None),
        (r#"{"errcode"40001}"#, None),
        (r#"{errcode:40001}"#, None),
        (r#"{"errcode":40001"#, None),
        (r#"{"errcode":"#, None),
        ("", None),
        ("   ", None),
        ("\u{89}PNG\r\n{\"errcode\":40001}", None),
    ] {
        assert_eq!(rejected(answer.as_bytes()), expected, "{answer}");
    }
}

#[test]
fn the_verdict_comes_as_early_as_it_can() {
    for (prefix, expected) in [
        ("", Sniff::NeedMore),
        (" ", Sniff::NeedMore),
        ("[", Sniff::No),
        ("\u{89}", Sniff::No),
        ("<", Sniff::No),
        ("{", Sniff::NeedMore),
        (r#"{"errcode":"#, Sniff::NeedMore),
        (r#"{"errcode":0"#, Sniff::NeedMore),
        (r#"{"errcode":0,"#, Sniff::No),
        (r#"{"errcode":40001"#, Sniff::NeedMore),
        (r#"{"errcode":40001,"#, Sniff::Rejected(40001)),
        (r#"{"errcode":"40001""#, Sniff::Rejected(40001)),
        (r#"{"errcode":{"#, Sniff::No),
        (r#"{"errcode":["#, Sniff::No),
        (r#"{"a":1}"#, Sniff::No),
    ] {
        assert_eq!(look(prefix.as_bytes(), false), expected, "{prefix}");
    }
}

#[test]
fn nothing_behind_the_limit_is_seen() {
    let answer = |pad: usize| format!(r#"{{"a":"{}","errcode":40001}}"#, "x".repeat(pad));
    let fits = LIMIT - answer(0).len();
    assert_eq!(look(answer(fits).as_bytes(), false), Sniff::Rejected(40001));
    assert_eq!(look(answer(fits + 1).as_bytes(), false), Sniff::No);
    assert_eq!(look(answer(10_000).as_bytes(), false), Sniff::No);
    let almost = "{\"".to_owned() + &"x".repeat(LIMIT - 3);
    assert_eq!(look(almost.as_bytes(), false), Sniff::NeedMore);
    assert_eq!(look((almost + "x").as_bytes(), false), Sniff::No);
}

#[test]
fn the_quick_search_finds_the_word_at_every_place() {
    for pad in ["x", "e", "r", "c", "o", "d", "errcod", "errc"] {
        for count in 0..20 {
            let before = pad.repeat(count);
            assert!(
                mentions_errcode(format!("{before}errcode").as_bytes()),
                "{before}"
            );
            assert!(
                mentions_errcode(format!("{before}errcode{pad}").as_bytes()),
                "{before}"
            );
            let expected = before.contains("errcode");
            assert_eq!(mentions_errcode(before.as_bytes()), expected, "{before}");
        }
    }
}

/// Documents of known shape: members in order, as text.
fn value(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        (-3_i64..3).prop_map(|n| n.to_string()),
        prop::sample::select(vec![
            "40001",
            "42001",
            "\"40014\"",
            "true",
            "null",
            "1.5e2",
            "\"errcode\""
        ])
        .prop_map(str::to_owned),
        any::<String>().prop_map(|text| Value::String(text).to_string()),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    prop_oneof![
        3 => leaf,
        1 => prop::collection::vec(value(depth - 1), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
        2 => object(depth - 1).prop_map(|members| write(&members)),
    ]
    .boxed()
}

fn object(depth: u32) -> BoxedStrategy<Vec<(String, String)>> {
    let key = prop_oneof![
        2 => prop::sample::select(vec!["errcode", "base_resp", "errmsg", "a", "errcodes"]).prop_map(str::to_owned),
        1 => "[a-z\"\\\\{}]{0,6}",
    ];
    prop::collection::vec((key, value(depth)), 0..4).boxed()
}

fn write(members: &[(String, String)]) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(key, value)| format!("{} :\n{value}", Value::String(key.clone())))
        .collect();
    format!("{{ {} }}", members.join(" ,"))
}

/// The first errcode by serde_json, which sees one member at a time so that order counts.
fn model(members: &[(String, String)], depth: u32) -> Option<Value> {
    members.iter().find_map(|(key, text)| {
        let value: Value = serde_json::from_str(text).unwrap();
        match (key.as_str(), &value) {
            ("errcode", _) => Some(value),
            ("base_resp", Value::Object(_)) if depth == 0 => model(&split(text), 1),
            _ => None,
        }
    })
}

/// The members of an object that `write` wrote, in order.
fn split(text: &str) -> Vec<(String, String)> {
    struct Members(Vec<(String, String)>);
    impl<'de> serde::Deserialize<'de> for Members {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Members;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Members, A::Error> {
                    let mut members = Vec::new();
                    while let Some((key, value)) = map.next_entry::<String, Value>()? {
                        members.push((key, value.to_string()));
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    serde_json::from_str::<Members>(text).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_verdict_is_that_of_a_real_parser(members in object(2)) {
        let document = write(&members);
        prop_assume!(document.len() <= LIMIT);
        let code = model(&members, 0).and_then(|value| match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        });
        let expected = code.filter(|code| [40001, 40014, 42001].contains(code));
        prop_assert_eq!(rejected(document.as_bytes()), expected, "{}", document);
    }

    #[test]
    fn a_cut_anywhere_changes_no_verdict(members in object(2), tail in any::<String>()) {
        let document = write(&members) + &tail;
        let whole = look(document.as_bytes(), true);
        for cut in 0..=document.len() {
            let verdict = look(&document.as_bytes()[..cut], false);
            prop_assert!(verdict == whole || (verdict == Sniff::NeedMore && cut < LIMIT), "{} {}", cut, document);
        }
    }

    #[test]
    fn any_bytes_get_the_same_verdict_however_they_are_cut(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let whole = look(&bytes, true);
        prop_assert_eq!(whole, Sniff::No);
        for cut in 0..=bytes.len() {
            prop_assert_ne!(look(&bytes[..cut], false), Sniff::Rejected(40001));
        }
    }
}
