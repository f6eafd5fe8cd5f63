//! WeChat's rules for tokens, on a virtual clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::wechat::{Book, Grant, Quotas, Settings, Verdict};

const MINUTE: Duration = Duration::from_secs(60);
const LIFETIME: Duration = Duration::from_secs(7200);
const OVERLAP: Duration = Duration::from_secs(300);

struct World {
    book: Book,
    appid: Arc<str>,
    start: Instant,
}

fn setup() -> World {
    setup_with(&Settings::default())
}

fn setup_with(settings: &Settings) -> World {
    World {
        book: Book::new(settings),
        appid: "wx1".into(),
        start: Instant::now(),
    }
}

impl World {
    fn classic(&mut self, at: Duration) -> (Arc<str>, Duration) {
        granted(self.book.call_classic(&self.appid, self.start + at))
    }

    fn stable(&mut self, at: Duration) -> (Arc<str>, Duration) {
        granted(self.book.call_stable(&self.appid, false, self.start + at))
    }

    fn forced(&mut self, at: Duration) -> (Arc<str>, Duration) {
        granted(self.book.call_stable(&self.appid, true, self.start + at))
    }

    /// 0 where the token works, otherwise the errcode.
    fn errcode(&self, token: &str, at: Duration) -> i64 {
        match self.book.verify(token, self.start + at) {
            Verdict::Live { .. } => 0,
            Verdict::Unknown => 40014,
            Verdict::Expired { .. } => 42001,
            Verdict::Stale { errcode, .. } => errcode,
        }
    }
}

fn granted(grant: Grant) -> (Arc<str>, Duration) {
    match grant {
        Grant::Granted {
            token, remaining, ..
        } => (token, remaining),
        Grant::Refused(errcode) => panic!("refused: {errcode}"),
    }
}

#[test]
fn a_classic_call_makes_a_new_token_and_the_previous_one_works_for_five_minutes() {
    let mut world = setup();
    let (first, remaining) = world.classic(Duration::ZERO);
    assert_eq!(remaining, LIFETIME);
    let (second, _) = world.classic(MINUTE);
    assert_ne!(first, second);
    let just_before = MINUTE + OVERLAP - Duration::from_millis(1);
    assert_eq!(world.errcode(&first, just_before), 0);
    assert_eq!(world.errcode(&first, MINUTE + OVERLAP), 40001);
    assert_eq!(world.errcode(&second, MINUTE + OVERLAP), 0);
}

#[test]
fn two_classic_calls_in_a_row_let_only_the_last_two_tokens_work() {
    let mut world = setup();
    let tokens: Vec<_> = (0..3).map(|n| world.classic(MINUTE * n).0).collect();
    assert_eq!(world.errcode(&tokens[0], MINUTE * 2 + OVERLAP), 40001);
    assert_eq!(world.errcode(&tokens[1], MINUTE + OVERLAP), 0);
    assert_eq!(world.errcode(&tokens[1], MINUTE * 2 + OVERLAP), 40001);
    assert_eq!(world.errcode(&tokens[2], MINUTE * 2 + OVERLAP), 0);
}

#[test]
fn a_token_ends_with_its_life() {
    let mut world = setup();
    let (token, _) = world.classic(Duration::ZERO);
    assert_eq!(
        world.errcode(&token, LIFETIME - Duration::from_millis(1)),
        0
    );
    assert_eq!(world.errcode(&token, LIFETIME), 42001);
    assert_eq!(world.errcode("82_never_handed_out", Duration::ZERO), 40014);
}

#[test]
fn the_stable_endpoint_hands_out_the_same_token_until_its_last_five_minutes() {
    let mut world = setup();
    let (first, _) = world.stable(Duration::ZERO);
    let (again, remaining) = world.stable(MINUTE * 60);
    assert_eq!((&again, remaining), (&first, MINUTE * 60));
    let last_moment = LIFETIME - OVERLAP - Duration::from_millis(1);
    assert_eq!(world.stable(last_moment).0, first);
    let renewed_at = LIFETIME - OVERLAP;
    let (second, remaining) = world.stable(renewed_at);
    assert_ne!(second, first);
    assert_eq!(remaining, LIFETIME);
    assert_eq!(
        world.errcode(&first, LIFETIME - Duration::from_millis(1)),
        0,
        "both work"
    );
    assert_eq!(world.errcode(&second, renewed_at), 0);
    assert_ne!(world.errcode(&first, LIFETIME), 0);
}

#[test]
fn a_stable_token_that_nobody_renewed_is_replaced_after_its_end() {
    let mut world = setup();
    let (first, _) = world.stable(Duration::ZERO);
    let (second, remaining) = world.stable(LIFETIME + MINUTE);
    assert_ne!(second, first);
    assert_eq!(remaining, LIFETIME);
}

#[test]
fn the_two_endpoints_and_two_apps_do_not_touch_each_other() {
    let mut world = setup();
    let (stable, _) = world.stable(Duration::ZERO);
    let (classic, _) = world.classic(Duration::ZERO);
    let other: Arc<str> = "wx2".into();
    let (foreign, _) = granted(world.book.call_classic(&other, world.start));
    world.classic(MINUTE);
    assert_eq!(world.errcode(&stable, MINUTE * 30), 0);
    assert_eq!(world.errcode(&classic, MINUTE * 30), 40001);
    assert_eq!(world.errcode(&foreign, MINUTE * 30), 0);
}

#[test]
fn a_forced_refresh_kills_the_old_token_at_once_but_not_twice_in_thirty_seconds() {
    let mut world = setup();
    let (first, _) = world.stable(Duration::ZERO);
    let (second, _) = world.forced(MINUTE);
    assert_ne!(second, first);
    assert_eq!(world.errcode(&first, MINUTE), 40001);
    assert_eq!(
        world.forced(MINUTE + Duration::from_secs(29)).0,
        second,
        "too soon"
    );
    assert_ne!(world.forced(MINUTE + Duration::from_secs(30)).0, second);
}

#[test]
fn the_twenty_first_forced_refresh_of_a_day_does_not_refresh() {
    let mut world = setup();
    let mut last = world.stable(Duration::ZERO).0;
    for number in 1..=20 {
        let (token, _) = world.forced(MINUTE * number);
        assert_ne!(token, last, "forced refresh {number}");
        last = token;
    }
    assert_eq!(world.forced(MINUTE * 21).0, last);
}

#[test]
fn the_quotas_are_kept_and_begin_anew() {
    let quotas = Quotas {
        classic_per_day: 2,
        stable_per_minute: 2,
        stable_per_day: 3,
        ..Quotas::default()
    };
    let mut world = setup_with(&Settings {
        quotas,
        ..Settings::default()
    });
    let day = Duration::from_secs(24 * 3600);
    world.classic(Duration::ZERO);
    world.classic(Duration::ZERO);
    let at = world.start;
    assert_eq!(
        world.book.call_classic(&world.appid, at),
        Grant::Refused(45009)
    );
    world.classic(day);
    world.stable(Duration::ZERO);
    world.stable(Duration::ZERO);
    assert_eq!(
        world.book.call_stable(&world.appid, false, at),
        Grant::Refused(45011)
    );
    world.stable(MINUTE);
    assert_eq!(
        world.book.call_stable(&world.appid, false, at + MINUTE),
        Grant::Refused(45009)
    );
    world.stable(day);
}

#[test]
fn the_real_quotas_are_the_default() {
    let mut world = setup();
    for _ in 0..2_000 {
        world.classic(Duration::ZERO);
    }
    let at = world.start;
    assert_eq!(
        world.book.call_classic(&world.appid, at),
        Grant::Refused(45009)
    );
    for _ in 0..10_000 {
        world.stable(Duration::ZERO);
    }
    assert_eq!(
        world.book.call_stable(&world.appid, false, at),
        Grant::Refused(45011)
    );
}

#[test]
fn a_revoked_token_fails_as_told_and_the_next_call_makes_another() {
    let mut world = setup();
    let (first, _) = world.stable(Duration::ZERO);
    world.book.revoke("wx1", 40014);
    assert_eq!(world.errcode(&first, MINUTE), 40014);
    let (second, _) = world.stable(MINUTE);
    assert_ne!(second, first);
    assert_eq!(world.errcode(&second, MINUTE), 0);
    assert_eq!(world.errcode(&first, MINUTE), 40014);
}

#[test]
fn a_scaled_lifetime_scales_the_windows() {
    let mut world = setup_with(&Settings::default().with_token_lifetime(Duration::from_secs(72)));
    let (first, remaining) = world.stable(Duration::ZERO);
    assert_eq!(remaining, Duration::from_secs(72));
    assert_eq!(world.stable(Duration::from_secs(68)).0, first);
    assert_ne!(world.stable(Duration::from_secs(69)).0, first);
}

#[test]
fn tokens_look_like_wechats() {
    for (asked, length) in [(136, 136), (512, 512), (9_999, 512), (1, 32)] {
        let mut world = setup_with(&Settings {
            token_length: asked,
            ..Settings::default()
        });
        let (token, _) = world.classic(Duration::ZERO);
        assert_eq!(token.len(), length);
        let (number, rest) = token.split_once('_').expect("an underscore");
        assert!(
            number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit()),
            "{token}"
        );
        assert!(
            rest.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)),
            "{token}"
        );
    }
}
