use std::collections::HashSet;

use serde_json::Value;

use super::*;

const ALL: [Rejection; 11] = [
    Rejection::UnknownApp,
    Rejection::AppConflict,
    Rejection::AppMissing,
    Rejection::ShowsToken,
    Rejection::WaitTimeout,
    Rejection::WaitOverflow,
    Rejection::Refused {
        errcode: Some(40164),
    },
    Rejection::Refused {
        errcode: Some(-77_777),
    },
    Rejection::Refused { errcode: None },
    Rejection::Unavailable,
    Rejection::Internal,
];

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let mut values = reply.headers.iter().filter(|(known, _)| *known == name);
    let value = values.next().map(|(_, value)| value.as_str());
    assert!(values.next().is_none(), "{name} is there twice");
    value
}

#[test]
fn every_reply_has_wechats_shape_and_its_reason() {
    for rejection in ALL {
        let reply = rejection.reply(503, None);
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(body["errcode"], -1, "{rejection:?}");
        let errmsg = body["errmsg"].as_str().unwrap();
        assert!(
            errmsg.starts_with("envoy-wechat-token: "),
            "{rejection:?}: {errmsg}"
        );
        assert_eq!(body.as_object().unwrap().len(), 2, "{rejection:?}");
        assert_eq!(header(&reply, "content-type"), Some("application/json"));
        assert_eq!(
            header(&reply, "x-wechat-token-error"),
            Some(rejection.reason())
        );
    }
}

#[test]
fn the_list_of_reasons_is_complete() {
    let reasons: HashSet<_> = ALL.iter().map(Rejection::reason).collect();
    assert_eq!(reasons, HashSet::from(Rejection::REASONS));
    for reason in reasons {
        assert!(
            reason.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{reason}"
        );
    }
}

#[test]
fn status_and_retry_after_say_who_has_to_act() {
    let ms = Duration::from_millis;
    for (rejection, given, status, retry_after) in [
        (Rejection::UnknownApp, Some(ms(5_000)), 400, None),
        (Rejection::AppConflict, None, 400, None),
        (Rejection::AppMissing, None, 400, None),
        (Rejection::ShowsToken, Some(ms(5_000)), 403, None),
        (Rejection::WaitTimeout, None, 504, Some("1")),
        (Rejection::WaitOverflow, Some(ms(1_001)), 504, Some("2")),
        (Rejection::Unavailable, Some(ms(0)), 504, Some("1")),
        (Rejection::Unavailable, Some(ms(3_000)), 504, Some("3")),
        (
            Rejection::Unavailable,
            Some(Duration::MAX),
            504,
            Some("18446744073709551615"),
        ),
        (Rejection::Refused { errcode: None }, None, 504, None),
        (
            Rejection::Refused { errcode: None },
            Some(ms(59_999)),
            504,
            Some("60"),
        ),
        (Rejection::Internal, None, 504, None),
    ] {
        let reply = rejection.reply(504, given);
        assert_eq!(reply.status, status, "{rejection:?} {given:?}");
        assert_eq!(
            header(&reply, "retry-after"),
            retry_after,
            "{rejection:?} {given:?}"
        );
    }
}

#[test]
fn a_refusal_says_what_wechat_said_and_what_to_do() {
    let refused = |errcode| Rejection::Refused { errcode }.reply(503, None).body;
    for (errcode, expected) in [
        (
            Some(40164),
            "(errcode 40164: the calling IP is not in the app's whitelist); add this Envoy's outgoing IP",
        ),
        (Some(40013), "(errcode 40013: invalid appid); check the appid"),
        (Some(40002), "(errcode 40002: invalid grant_type)\""),
        (Some(12), "(errcode 12)\""),
        (None, "WeChat refuses to hand out an access_token\""),
    ] {
        let body = refused(errcode);
        assert!(body.contains(expected), "{errcode:?}: {body}");
    }
}
