use super::*;
use proptest::prelude::*;

/// What Kryo 5 itself wrote for these, as WxJava left it in a Redis (tests/interop).
#[test]
fn kryo_5_writes_a_length_of_one_or_two_bytes() {
    for (length, head) in [
        (33, [3, 0xA2].as_slice()),
        (40, &[3, 0xA9]),
        (62, &[3, 0xBF]),
        (63, &[3, 0xC0, 1]),
        (136, &[3, 0xC9, 2]),
        (512, &[3, 0xC1, 8]),
    ] {
        let text = "x".repeat(length);
        let bytes = [head, text.as_bytes()].concat();
        assert_eq!(Format::Kryo5.encode(&text), bytes.as_slice(), "{length}");
        assert_eq!(Format::Kryo5.decode(&bytes), Some(text), "{length}");
    }
}

#[test]
fn what_is_in_another_format_is_no_token() {
    let formats = [Format::Plain, Format::Json, Format::Kryo5];
    let token = "t0ken_-.".repeat(10);
    for written in formats {
        for read in formats {
            let expected = (written == read).then(|| token.clone());
            let bytes = written.encode(&token);
            assert_eq!(read.decode(&bytes), expected, "{written:?} as {read:?}");
        }
    }
    let long = "x".repeat(513);
    let object = br#"{"access_token":"t"}"#.as_slice();
    for (format, bytes) in [
        (Format::Plain, b"".as_slice()),
        (Format::Plain, b"a b"),
        (Format::Plain, b"\xff"),
        (Format::Plain, object),
        (Format::Plain, b"a,b"),
        (Format::Plain, long.as_bytes()),
        (Format::Json, b"\""),
        (Format::Json, b"\"\""),
        (Format::Json, b"\"a\\u0041\""),
        (Format::Json, object),
        (Format::Kryo5, b""),
        (Format::Kryo5, &[3]),
        (Format::Kryo5, &[3, 0x80]),
        (Format::Kryo5, &[3, 0xC1]),
        (Format::Kryo5, &[3, 0xC1, 0x88, 1]),
        (Format::Kryo5, &[3, 0x83, b'x']),
        (Format::Kryo5, &[3, 0x02, b'x']),
        (Format::Kryo5, &[4, 0x82, b'x']),
    ] {
        assert_eq!(format.decode(bytes), None, "{format:?} {bytes:?}");
    }
}

#[test]
fn what_is_found_is_a_token_something_else_or_nothing() {
    let plain = Mirror::plain("k");
    let bulk = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
    let token = |left| Found::Token {
        value: Secret::new("t"),
        left,
    };
    let second = Duration::from_secs(1);
    for (replies, found) in [
        ([bulk("t"), Reply::Integer(1_000)], token(Some(second))),
        ([bulk("t"), Reply::Integer(-1)], token(None)),
        ([bulk(""), Reply::Integer(-2)], Found::Nothing),
        ([bulk("a b"), Reply::Integer(1_000)], Found::Other),
        ([bulk("t"), Reply::Error("NOPERM".to_owned())], Found::Other),
        (
            [Reply::Error("WRONGTYPE".to_owned()), Reply::Integer(1)],
            Found::Other,
        ),
    ] {
        assert_eq!(plain.found(&replies), found, "{replies:?}");
    }
}

#[test]
fn a_write_has_an_end_of_its_own_and_the_ends_key_comes_first() {
    let mirror = Mirror {
        key: "k:{appid}".to_owned(),
        format: Format::Json,
        ttl: Some(Duration::from_secs(6_600)),
        expires_at_key: Some("k:{appid}:end".to_owned()),
    };
    let token = Secret::new("t");
    let write = |left| Write {
        deadline: UnixMillis(1_000_500),
        token: &token,
        left: Duration::from_secs(left),
        end: UnixMillis(1_000_000 + left * 1_000),
    };
    let words = |left| {
        let mut pipeline = Vec::new();
        mirror.push_write(&mut pipeline, "wx1", &write(left));
        let text = String::from_utf8(pipeline).unwrap();
        let words = text.split("\r\n").filter(|word| !word.starts_with('$'));
        let words = words.map(str::to_owned).collect::<Vec<_>>();
        words.join(" ").replace(SCRIPT.trim_end(), "SCRIPT")
    };
    let script = SCRIPT.replace("\r\n", " ");
    assert!(
        !script.contains('\r'),
        "the test splits at line ends of RESP"
    );
    // Two hours are cut to what the mirror allows; what is shorter stays as it is.
    let long = words(7_200);
    assert!(
        long.contains("wx1:end 1000500 7600000 6600000 7600"),
        "{long}"
    );
    assert!(
        long.contains("k:wx1 1000500 7600000 6600000 \"t\""),
        "{long}"
    );
    let short = words(60);
    assert!(
        short.contains("wx1:end 1000500 1060000 60000 1060"),
        "{short}"
    );
    assert_eq!(mirror.writes(), 2);
}

#[test]
fn writing_is_done_when_every_key_was_written() {
    let code = |error: &str| error.split(' ').next().unwrap_or_default().to_owned();
    let (one, zero) = (Reply::Integer(1), Reply::Integer(0));
    let error = Reply::Error("NOPERM no".to_owned());
    for (replies, outcome) in [
        (vec![], Mirrored::Done),
        (vec![one.clone(), one.clone()], Mirrored::Done),
        (vec![one.clone(), zero.clone()], Mirrored::Late),
        (vec![zero, error], Mirrored::Refused("NOPERM".to_owned())),
    ] {
        assert_eq!(mirrored(&replies, code), outcome, "{replies:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(token in "[A-Za-z0-9_-]{33,512}") {
        for format in [Format::Plain, Format::Json, Format::Kryo5] {
            let bytes = format.encode(&token);
            prop_assert_eq!(format.decode(&bytes), Some(token.clone()));
        }
    }

    #[test]
    fn any_value_is_read_without_a_panic(bytes: Vec<u8>) {
        for format in [Format::Plain, Format::Json, Format::Kryo5] {
            let _ = format.decode(&bytes);
        }
    }
}
