//! What the fuzz targets do with their input: one function each, also run over the checked-in corpus by `make test`
//! (`tests/corpus.rs`). Each may do more than not panic: it checks what must hold for every input.

// A target uses one of them.
#![allow(dead_code)]

use wechat_token::config::{Config, Role};
use wechat_token::host::headers::HeaderMap;
use wechat_token::message::Message;
use wechat_token::record::{decode_epoch, encode_epoch, AppRecord, SlotRecord};
use wechat_token::resp::{decode, MAX_REPLY};
use wechat_token::rewrite::{inject, redact, scan, strip, CallerTokens, NamedApp};
use wechat_token::secret::Secret;
use wechat_token::store::mirror::{Format, Found, Mirror};
use wechat_token::store::wire::{Access, Login};
use wechat_token::wechat::sniff::{look, Sniff, LIMIT};
use wechat_token::wechat::{is_token, parse_token_reply};

/// Takes one input; panics where it breaks a promise.
pub(crate) type Target = fn(&[u8]);

/// All of them, by the name of their folder in `corpus/`.
pub(crate) const ALL: [(&str, Target); 8] = [
    ("configuration", configuration),
    ("token_reply", token_reply),
    ("sniff", sniff),
    ("rewrite", rewrite),
    ("records", records),
    ("messages", messages),
    ("headers", headers),
    ("redis_reply", redis_reply),
];

/// A document is taken, or refused in one short line.
pub(crate) fn configuration(data: &[u8]) {
    let env =
        |name: &str| (name == "SECRET").then(|| "5ec2e7a0b1c2d3e4f5061728394a5b6c".to_owned());
    for role in [Role::Refresher, Role::Injector] {
        match Config::parse(data, &env, role) {
            Ok(config) => {
                assert!(!config.apps.is_empty() && !config.upstreams.is_empty());
                assert!(config.default_app.is_none_or(|app| app < config.apps.len()));
            }
            Err(error) => {
                let line = error.to_string();
                assert!(
                    !line.is_empty() && line.len() < 4_096,
                    "{} bytes",
                    line.len()
                );
                assert!(!line.contains(['\n', '\r', '\0']), "{line:?}");
            }
        }
    }
}

/// An answer of the token endpoint, the status in its first two bytes. No token and no line break gets into a log line.
pub(crate) fn token_reply(data: &[u8]) {
    let Some((status, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    match parse_token_reply(u16::from_le_bytes(*status), body) {
        Ok(grant) => {
            let token = grant.token.expose();
            assert!(
                (1..=512).contains(&token.len())
                    && token.bytes().all(|byte| byte.is_ascii_graphic())
            );
            assert!(!grant.expires_in.is_zero());
        }
        Err(failure) => {
            let line = failure.to_string();
            assert!(
                line.len() < 2_048 && !line.contains(char::is_control),
                "{line:?}"
            );
        }
    }
}

/// A verdict, once given, does not change when more of the answer comes.
pub(crate) fn sniff(data: &[u8]) {
    let whole = look(data, true);
    assert_ne!(whole, Sniff::NeedMore);
    let shown = data.get(..LIMIT).unwrap_or(data);
    for cut in 0..shown.len() {
        match look(&shown[..cut], false) {
            Sniff::NeedMore => {}
            verdict => return assert_eq!(verdict, whole, "after {cut} bytes"),
        }
    }
}

/// A `:path`: with our token in it once, however often it is rewritten; without secrets in what a log may show.
pub(crate) fn rewrite(data: &[u8]) {
    let original = scan(data);
    let (mut first, mut again, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    inject(&original, "TOKEN-A", &mut first);
    let injected = scan(&first);
    assert_eq!(injected.caller_tokens(), CallerTokens::Values);
    let values: Vec<_> = injected.token_values().collect();
    assert_eq!(values, [b"TOKEN-A".as_slice()]);
    assert_eq!(*injected.from_appid(), NamedApp::Absent);
    inject(&injected, "TOKEN-B", &mut again);
    inject(&original, "TOKEN-B", &mut direct);
    assert_eq!(again, direct);
    let mut shown = Vec::new();
    redact(&injected, &mut shown);
    assert!(!scan(&shown).carries_secret());
    redact(&original, &mut shown);
    assert!(!scan(&shown).carries_secret());
    strip(&original, &mut shown);
    let stripped = scan(&shown);
    assert_eq!(*stripped.from_appid(), NamedApp::Absent);
    assert_eq!(
        stripped.token_values().collect::<Vec<_>>(),
        original.token_values().collect::<Vec<_>>()
    );
}

/// Records: what can be read can be written and read again.
pub(crate) fn records(data: &[u8]) {
    if let Some(record) = AppRecord::decode(data) {
        assert_eq!(AppRecord::decode(&record.encode()).as_ref(), Some(&record));
    }
    if let Some(slot) = SlotRecord::decode(data) {
        assert_eq!(slot.encode(), data);
    }
    if let Some(epoch) = decode_epoch(data) {
        assert_eq!(encode_epoch(epoch), data);
    }
}

/// Messages: what can be read is written the same.
pub(crate) fn messages(data: &[u8]) {
    if let Some(message) = Message::decode(data) {
        assert_eq!(message.encode(), data);
    }
}

/// Header maps: reading ends, and what was read can be written and read again.
pub(crate) fn headers(data: &[u8]) {
    let map = HeaderMap::from_bytes(data.to_vec());
    let pairs: Vec<_> = map.pairs().collect();
    let again = HeaderMap::from_bytes(HeaderMap::encode(&pairs));
    assert_eq!(again.pairs().collect::<Vec<_>>(), pairs);
}

/// An answer of Redis. What is read is a token or none; what is refused is one short line that repeats nothing but a code.
pub(crate) fn redis_reply(data: &[u8]) {
    let (replies, fault) = decode(data);
    assert!(fault.is_some() || data.len() <= MAX_REPLY);
    assert!(replies.len() <= data.len());
    let known = Login {
        username: None,
        password: Some(Secret::new("a-password")),
        database: 1,
    };
    let mirror = |format| Mirror {
        format,
        ..Mirror::plain("k")
    };
    let neighbourly = Access {
        mirrors: [Format::Plain, Format::Json, Format::Kryo5]
            .map(mirror)
            .to_vec(),
        ..Access::default()
    };
    let known = Access {
        login: known,
        ..Access::default()
    };
    for (access, writes_mirrors) in [
        (&Access::default(), false),
        (&known, false),
        (&neighbourly, false),
        (&neighbourly, true),
    ] {
        match access.read_answer(writes_mirrors, data) {
            Ok(answer) => {
                if let Some(token) = answer.token {
                    assert!(is_token(token.value.expose()) && token.left <= token.life);
                }
                assert_eq!(answer.mirrors.len(), access.mirrors.len());
                assert_eq!(answer.mirrored.is_some(), writes_mirrors);
                for found in answer.mirrors {
                    if let Found::Token { value, .. } = found {
                        assert!(is_token(value.expose()));
                    }
                }
            }
            Err(problem) => {
                let line = problem.to_string();
                assert!(
                    line.len() < 256 && !line.contains(['\n', '\r', '\0']),
                    "{line:?}"
                );
            }
        }
    }
}
