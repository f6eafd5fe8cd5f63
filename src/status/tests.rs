mod page;

use std::time::Duration;

use serde_json::{json, Value};

use super::*;
use crate::config::Role;
use crate::record::Holder;
use crate::secret::Secret;
use crate::token::{Generation, Spent, Token, Trouble};

const NOW: Millis = Millis(10_000_000);
/// 2026-11-26 12:00 in Asia/Shanghai.
const WALL: UnixMillis = UnixMillis(1_795_665_600_000);

fn config(text: &str) -> Config {
    Config::parse(text.as_bytes(), &|_| None, Role::Status).unwrap()
}

fn two_apps() -> Config {
    config(
        r#"{"apps":[{"appid":"wx1","name":"shop","secret":{"env":"NOT_SET"},"token_api":"classic","sole_refresher":true},
                    {"appid":"wx2","secret":{"value":"the-secret"}}],"default_app":"wx1"}"#,
    )
}

fn record(lives: u64) -> AppRecord {
    AppRecord {
        term: 2,
        holder: Holder {
            slot: 3,
            incarnation: 1,
            primary: false,
        },
        generation: Generation(7),
        token: Some(Token {
            value: Secret::new("t0ken"),
            granted_at: Millis(0),
            deadline: NOW.after(Duration::from_secs(lives)),
        }),
        spent: Spent {
            day: WALL.shanghai_day(),
            since: Millis(NOW.0 - 5_000),
            calls: 12,
        },
        ..AppRecord::default()
    }
}

fn seen(record: AppRecord) -> Seen {
    Seen {
        record,
        note: Note::default(),
        last_beat: Some(NOW),
    }
}

fn get(page: Page, config: &Config, see: impl Fn(&str) -> Seen) -> (u16, Value) {
    let answer = page.answer(b"GET", config, NOW, WALL, see);
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

#[test]
fn the_pages_have_their_paths_and_no_other() {
    for (path, page) in [
        ("/", Some(Page::Html)),
        ("/?lang=zh", Some(Page::Html)),
        ("/status.json", Some(Page::Json)),
        ("/ready?x", Some(Page::Ready)),
        ("/stats/prometheus", None),
        ("/ready/", None),
        ("//", None),
        ("", None),
        ("?", None),
    ] {
        assert_eq!(Page::of(path.as_bytes()), page, "{path}");
    }
}

#[test]
fn other_methods_than_get_and_head_are_not_allowed() {
    let config = two_apps();
    for (method, status) in [("GET", 200), ("HEAD", 200), ("POST", 405), ("", 405)] {
        let see = |_: &str| seen(record(60));
        let answer = Page::Ready.answer(method.as_bytes(), &config, NOW, WALL, see);
        assert_eq!(answer.status, status, "{method}");
    }
}

#[test]
fn ready_is_every_app_with_a_live_token() {
    let config = two_apps();
    let failing = AppRecord {
        trouble: Some(Trouble {
            errcode: Some(-1),
            retry_at: NOW,
            open: true,
        }),
        ..record(60)
    };
    for (what, second, without) in [
        ("both live", record(60), json!([])),
        ("one lives, and its refresh fails", failing, json!([])),
        ("one is over", record(0), json!(["wx2"])),
        ("one has no record", AppRecord::default(), json!(["wx2"])),
    ] {
        let see = |appid: &str| match appid {
            "wx1" => seen(record(60)),
            _ => seen(second.clone()),
        };
        let ready = without == json!([]);
        let expected = json!({"ready": ready, "without_token": without});
        let status = if ready { 200 } else { 503 };
        assert_eq!(get(Page::Ready, &config, see), (status, expected), "{what}");
    }
}

#[test]
fn the_json_tells_everything_but_the_token() {
    let config = two_apps();
    let see = |appid: &str| match appid {
        "wx1" => Seen {
            record: AppRecord {
                trouble: Some(Trouble {
                    errcode: Some(40164),
                    retry_at: NOW.after(Duration::from_secs(50)),
                    open: true,
                }),
                ..record(60)
            },
            note: Note {
                refreshed: Some(Refreshed {
                    at: Millis(NOW.0 - 7_000_000),
                    result: "renewed".to_owned(),
                }),
                failed: Some(Failed {
                    at: Millis(NOW.0 - 10_000),
                    errcode: Some(40164),
                    detail: "errcode=40164 refused_ip=192.0.2.1".to_owned(),
                }),
                store: None,
            },
            last_beat: Some(Millis(NOW.0 - 5_000)),
        },
        _ => Seen::default(),
    };
    let (status, body) = get(Page::Json, &config, see);
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": false,
            "skipped": [],
            "apps": [{
                "appid": "wx1",
                "name": "shop",
                "token_api": "classic",
                "state": "failing",
                "remaining_seconds": 60,
                "generation": 7,
                "last_refresh": {"result": "renewed", "seconds_ago": 7_000},
                "last_error": {
                    "seconds_ago": 10,
                    "errcode": 40164,
                    "meaning": "the calling IP is not in the app's whitelist",
                    "advice": "add this Envoy's outgoing IP to the app's IP whitelist",
                    "detail": "errcode=40164 refused_ip=192.0.2.1",
                },
                "retry_in_seconds": 50,
                "breaker": "open",
                "budget_left": 988,
                "lease": {"holder": "worker", "term": 2, "slot": 3, "alive": false},
                "redis": null,
            }, {
                "appid": "wx2",
                "name": "wx2",
                "token_api": "stable",
                "state": "unkept",
                "remaining_seconds": 0,
                "generation": 0,
                "last_refresh": null,
                "last_error": null,
                "retry_in_seconds": null,
                "breaker": "closed",
                "budget_left": null,
                "lease": {"holder": "none", "term": 0, "slot": 0, "alive": false},
                "redis": null,
            }],
        })
    );
}

#[test]
fn one_word_says_how_an_app_is() {
    let config = config(r#"{"apps":[{"appid":"wx1"}]}"#);
    let refreshed = |at: u64| {
        let result = "renewed".to_owned();
        Some(Refreshed {
            at: Millis(NOW.0 - at),
            result,
        })
    };
    let failed = |at: u64| {
        Some(Failed {
            at: Millis(NOW.0 - at),
            errcode: None,
            detail: "calls_not_sent".to_owned(),
        })
    };
    let none = || AppRecord {
        token: None,
        generation: Generation(0),
        ..record(60)
    };
    for (what, record, refreshed, failed, silent_ms, state) in [
        ("all is well", record(60), refreshed(9_000), None, 900, "ok"),
        (
            "an old failure",
            record(60),
            refreshed(9_000),
            failed(9_001),
            900,
            "ok",
        ),
        (
            "no call can be sent",
            record(60),
            refreshed(9_000),
            failed(8_999),
            900,
            "failing",
        ),
        (
            "its holder is gone",
            record(60),
            refreshed(9_000),
            None,
            10_001,
            "failing",
        ),
        (
            "its holder is late",
            record(60),
            refreshed(9_000),
            None,
            10_000,
            "ok",
        ),
        ("the first one", none(), None, None, 900, "starting"),
        (
            "no first call can be sent",
            none(),
            None,
            failed(900),
            900,
            "down",
        ),
        ("it is over", record(0), refreshed(9_000), None, 900, "down"),
    ] {
        let see = |_: &str| Seen {
            record: record.clone(),
            note: Note {
                refreshed: refreshed.clone(),
                failed: failed.clone(),
                store: None,
            },
            last_beat: Some(Millis(NOW.0 - silent_ms)),
        };
        let (_, body) = get(Page::Json, &config, see);
        assert_eq!(body["apps"][0]["state"], state, "{what}");
    }
}

#[test]
fn the_state_of_redis_is_told_since_when_it_is_so() {
    let config = config(r#"{"apps":[{"appid":"wx1"}],"redis":{"username":{"env":"NOT_SET"}}}"#);
    let mut note = Note::default();
    let told = |note: &Note| {
        let see = |_: &str| Seen {
            note: note.clone(),
            ..seen(record(60))
        };
        get(Page::Json, &config, see).1["apps"][0]["redis"].clone()
    };
    let unknown = json!({"state": "unknown", "for_seconds": null, "problem": null});
    assert_eq!(told(&note), unknown);
    note.set_store(Millis(NOW.0 - 9_000), None);
    note.set_store(Millis(NOW.0 - 1_000), None);
    let ok = json!({"state": "ok", "for_seconds": 9, "problem": null});
    assert_eq!(told(&note), ok);
    note.set_store(Millis(NOW.0 - 4_000), Some("unreachable=\"no connection\""));
    note.set_store(NOW, Some("redis_error=NOAUTH"));
    let failed = json!({"state": "failed", "for_seconds": 4, "problem": "redis_error=NOAUTH"});
    assert_eq!(told(&note), failed);
}

#[test]
fn apps_that_were_left_out_are_told() {
    let config = config(
        r#"{"on_bad_app":"skip","apps":[{"appid":"wx1"},{"appid":"wx2","token_api":"classic"}],"default_app":"wx1"}"#,
    );
    let (_, body) = get(Page::Json, &config, |_| seen(record(60)));
    let skipped = body["skipped"][0].as_str().unwrap_or_default();
    assert!(skipped.starts_with("apps[1].token_api: "), "{body}");
    assert_eq!(body["ready"], json!(true));
}

#[test]
fn an_app_that_was_left_out_for_want_of_a_secret_hinders_no_other_one() {
    let document = |on_bad_app: &str| {
        let apps = r#"[{"appid":"wx1","secret":{"value":"x"}},{"appid":"wx2","secret":{"env":"NOT_SET"}}]"#;
        format!(r#"{{"on_bad_app":"{on_bad_app}","apps":{apps},"default_app":"wx1"}}"#)
    };
    let text = document("skip");
    let refresher = Config::parse(text.as_bytes(), &|_| None, Role::Refresher).unwrap();
    assert_eq!((refresher.apps.len(), refresher.skipped.len()), (1, 1));
    let waiting = AppRecord {
        token: None,
        generation: Generation(0),
        ..record(60)
    };
    for (what, on_bad_app, records, states, status) in [
        (
            "one is kept",
            "skip",
            [record(60), AppRecord::default()],
            ["ok", "unkept"],
            200,
        ),
        (
            "all are wanted",
            "refuse",
            [record(60), AppRecord::default()],
            ["ok", "unkept"],
            503,
        ),
        (
            "the other one waits too",
            "skip",
            [waiting.clone(), AppRecord::default()],
            ["starting", "unkept"],
            503,
        ),
        (
            "nobody is there yet",
            "skip",
            [AppRecord::default(), AppRecord::default()],
            ["unkept", "unkept"],
            503,
        ),
        (
            "it is kept",
            "skip",
            [record(60), waiting.clone()],
            ["ok", "starting"],
            503,
        ),
    ] {
        let config = config(&document(on_bad_app));
        let see = |appid: &str| seen(records[usize::from(appid == "wx2")].clone());
        let (_, body) = get(Page::Json, &config, see);
        let shown = [0, 1].map(|place| body["apps"][place]["state"].clone());
        assert_eq!(shown, states.map(Value::from), "{what}");
        assert_eq!(get(Page::Ready, &config, see).0, status, "{what}");
    }
}
