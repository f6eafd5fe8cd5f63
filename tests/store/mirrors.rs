//! Keys for neighbours on a real Redis: what is written there, for how long, and what is read.

use std::time::Duration;

use wechat_token::secret::Secret;
use wechat_token::store::mirror::{Format, Found, Mirror};
use wechat_token::store::{Answer, Mirrored, Step};
use wechat_token::time::UnixMillis;

use crate::bed::{Bed, APPID, LIFE, ME, NONE};

const TOKEN: &str = "t0ken-of-the-mesh-t0ken-of-the-mesh-t0ken";

fn bed(mirrors: Vec<Mirror>) -> Bed {
    let mut bed = crate::bed::bed();
    bed.access.mirrors = mirrors;
    bed
}

/// Writes a token that has `left` to live.
pub(crate) fn write(bed: &Bed, left: Duration) -> Answer {
    let clock = bed.read().clock.0;
    let step = Step::Mirror {
        deadline: UnixMillis(clock + 1_000),
        token: Secret::new(TOKEN),
        left,
        end: UnixMillis(clock + u64::try_from(left.as_millis()).unwrap()),
    };
    bed.step(&step).unwrap()
}

fn found(bed: &Bed) -> Vec<Option<(String, Option<Duration>)>> {
    let found = |found| match found {
        Found::Token { value, left } => Some((value.expose().to_owned(), left)),
        Found::Nothing | Found::Other => None,
    };
    bed.read().mirrors.into_iter().map(found).collect()
}

#[test]
fn each_format_is_written_read_back_and_ends_with_the_token() {
    let bed = bed(vec![
        Mirror::plain("plain:{appid}"),
        Mirror {
            format: Format::Json,
            ..Mirror::plain("json")
        },
        Mirror {
            format: Format::Kryo5,
            ..Mirror::plain("kryo5")
        },
    ]);
    assert_eq!(found(&bed), [None, None, None]);
    let answer = write(&bed, LIFE);
    assert_eq!(answer.mirrored, Some(Mirrored::Done));
    // Read before it was written.
    assert_eq!(
        answer.mirrors,
        [Found::Nothing, Found::Nothing, Found::Nothing]
    );
    for found in found(&bed) {
        let (value, left) = found.unwrap();
        assert_eq!(value, TOKEN);
        let left = left.unwrap();
        assert!(
            left <= LIFE && left > LIFE - Duration::from_secs(10),
            "{left:?}"
        );
    }
    let plain: String = bed.redis.run(&["GET", &format!("plain:{APPID}")]);
    assert_eq!(plain, TOKEN);
    let json: String = bed.redis.run(&["GET", "json"]);
    assert_eq!(json, format!("\"{TOKEN}\""));
}

#[test]
fn a_mirror_may_end_sooner_and_tells_its_end_on_rediss_clock() {
    let bed = bed(vec![Mirror {
        ttl: Some(Duration::from_secs(6_600)),
        expires_at_key: Some("end".to_owned()),
        ..Mirror::plain("k")
    }]);
    write(&bed, LIFE);
    let [seconds, _]: [i64; 2] = bed.redis.run(&["TIME"]);
    let end: i64 = bed.redis.run(&["GET", "end"]);
    assert!((end - seconds - 6_600).abs() <= 10, "{end} {seconds}");
    for key in ["k", "end"] {
        let left: i64 = bed.redis.run(&["PTTL", key]);
        assert!((6_590_000..=6_600_000).contains(&left), "{key} {left}");
    }
    // One that has less left than the mirror allows.
    write(&bed, Duration::from_secs(60));
    let left: i64 = bed.redis.run(&["PTTL", "k"]);
    assert!((50_000..=60_000).contains(&left), "{left}");
}

#[test]
fn after_its_deadline_or_the_tokens_end_nothing_is_written() {
    let bed = bed(vec![Mirror::plain("k")]);
    let clock = bed.read().clock.0;
    let step = |deadline, end| Step::Mirror {
        deadline: UnixMillis(deadline),
        token: Secret::new(TOKEN),
        left: LIFE,
        end: UnixMillis(end),
    };
    for late in [step(clock - 1, clock + 60_000), step(clock + 60_000, clock)] {
        let answer = bed.step(&late).unwrap();
        assert_eq!(answer.mirrored, Some(Mirrored::Late));
        assert_eq!(found(&bed), [None]);
    }
    // A clock of Redis that went back since it was seen: no longer than what is left.
    let ahead = step(clock + 60_000, clock + 9_000_000);
    assert_eq!(bed.step(&ahead).unwrap().mirrored, Some(Mirrored::Done));
    let left: i64 = bed.redis.run(&["PTTL", "k"]);
    assert!(left <= 7_200_000, "{left}");
}

#[test]
fn what_is_not_a_string_is_left_alone_and_the_store_works_on() {
    let bed = bed(vec![Mirror::plain("k"), Mirror::plain("other")]);
    bed.redis.run::<()>(&["HSET", "k", "field", "value"]);
    let answer = write(&bed, LIFE);
    let refused = Mirrored::Refused("WRONGTYPE".to_owned());
    assert_eq!(answer.mirrored, Some(refused));
    let kept: String = bed.redis.run(&["HGET", "k", "field"]);
    assert_eq!(kept, "value");
    let answer = bed.read();
    assert_eq!(answer.mirrors[0], Found::Other);
    assert!(matches!(answer.mirrors[1], Found::Token { .. }));
    bed.give(NONE, 1, "t1");
}

#[test]
fn a_huge_value_at_a_neighbours_key_does_not_end_the_store() {
    let bed = bed(vec![Mirror::plain("k")]);
    bed.redis.run::<()>(&["SET", "k", &"x".repeat(1_000_000)]);
    assert_eq!(bed.read().mirrors, [Found::Other]);
    bed.give(NONE, 1, "t1");
}

#[test]
fn the_store_remembers_the_last_tokens() {
    let bed = bed(Vec::new());
    let mut version = NONE;
    for number in 0..20 {
        version = bed.give(version, number + 1, &format!("t{number}"));
    }
    let answer = bed.read();
    assert_eq!(answer.seen.len(), 16);
    let of = |number: u64| {
        let token = Secret::new(format!("t{number}"));
        wechat_token::store::seen::Fingerprint::of(&token)
    };
    assert_eq!(answer.seen, (4..20).map(of).collect::<Vec<_>>());
    // The same publication, once more: it is not another token.
    bed.step(&bed.publish(ME, version, 20, "t19")).unwrap();
    assert_eq!(bed.read().seen, answer.seen);
}
