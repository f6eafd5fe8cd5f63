//! Neighbours on a virtual clock: services beside the mesh that read the token from keys of Redis, and some that refresh by
//! themselves.

use std::time::Duration;

use wechat_token::config::WhenDown;
use wechat_token::keeper::StorePolicy;
use wechat_token::record::AppRecord;
use wechat_token::time::Millis;
use wechat_token::token::Report;

use super::model::Model;
use super::rig::{granted, rig, store_policy, Rig, LEAD, LIFE, S};

/// Envoys with two keys for neighbours.
fn neighbours(envoys: usize, adopts: bool) -> Rig {
    let mut rig = rig(0);
    rig.keys().resize(2, None);
    for _ in 0..envoys {
        rig.join_neighbours(adopts);
    }
    rig
}

impl Rig {
    fn join_neighbours(&mut self, adopts: bool) {
        let store = StorePolicy {
            adopts,
            ..store_policy(WhenDown::Stable)
        };
        self.join_with(Some(store), &AppRecord::default());
    }

    fn keys(&mut self) -> &mut Vec<Option<(String, Millis)>> {
        &mut self.store.as_mut().unwrap().mirrors
    }

    fn key(&mut self, key: usize) -> Option<String> {
        self.keys()[key].clone().map(|(token, _)| token)
    }

    /// Redis loses everything.
    fn empty(&mut self) {
        let store = self.store.as_mut().unwrap();
        let keys = store.mirrors.len();
        *store = Model::ahead_by(store.ahead);
        store.mirrors.resize(keys, None);
    }

    /// A neighbour writes a token.
    fn write(&mut self, key: usize, token: &str, left: Duration) {
        let end = self.now.after(left);
        self.keys()[key] = Some((token.to_owned(), end));
    }

    fn saw(&self, envoy: usize, report: Report) -> usize {
        let reports = &self.envoys[envoy].reports;
        reports.iter().filter(|seen| **seen == report).count()
    }
}

#[test]
fn a_token_is_written_for_the_neighbours_once_it_is_published() {
    let mut rig = neighbours(2, false);
    rig.tick(0);
    let done = rig.done(0);
    assert_eq!(done[3..], ["tell", "report", "publish", "save", "mirror"]);
    let end = rig.now.after(LIFE);
    let expected = Some(("t1".to_owned(), end));
    assert_eq!(rig.keys(), &[expected.clone(), expected]);
    // Nobody else writes, and it is written once.
    rig.pass(600 * S);
    assert!(!rig.done(0).contains(&"mirror") && !rig.done(1).contains(&"mirror"));
    // The next one as well, by whoever made it.
    rig.pass(LIFE - LEAD);
    assert_eq!(rig.key(0).as_deref(), Some("t2"));
    assert_eq!(rig.calls.len(), 2);
}

#[test]
fn a_key_that_was_lost_or_has_an_older_token_is_written_again() {
    for what in ["lost", "older"] {
        let mut rig = neighbours(2, true);
        rig.pass(LIFE);
        assert_eq!(rig.tokens(), [Some("t2"), Some("t2")]);
        let written = rig.keys().clone();
        match what {
            "lost" => rig.keys()[0] = None,
            _ => rig.write(0, "t1", LIFE),
        }
        // One look in a minute at least, and a second one soon after.
        rig.pass(64 * S);
        let repaired = rig.keys().clone();
        assert_eq!(rig.key(0).as_deref(), Some("t2"), "{what}");
        for (now, before) in repaired.iter().zip(&written) {
            let ends = [now, before].map(|key| key.as_ref().unwrap().1);
            assert!(ends[0] <= ends[1], "{what}: it does not outlive the token");
        }
        assert_eq!(rig.calls.len(), 2, "{what}");
        assert_eq!(rig.saw(0, Report::NeighbourFollowed), 0);
    }
}

#[test]
fn whoever_dies_before_it_told_the_neighbours_is_made_up_for() {
    let mut rig = neighbours(2, false);
    rig.tick_all();
    rig.keys().fill(None);
    // The first one is gone; the second one sees twice that the keys lack what all have.
    rig.envoys.remove(0);
    rig.pass(64 * S);
    assert_eq!(rig.key(1).as_deref(), Some("t1"));
    assert_eq!(rig.calls.len(), 1);
}

#[test]
fn a_neighbour_that_refreshes_by_itself_is_followed_by_all() {
    let mut rig = neighbours(3, true);
    rig.pass(600 * S);
    rig.write(0, "theirs", LIFE);
    rig.pass(64 * S);
    assert_eq!(rig.tokens(), [Some("theirs"); 3]);
    assert_eq!(rig.store().token(), Some("theirs"));
    // The other key has it too, and nothing was called for it.
    assert_eq!(rig.key(1).as_deref(), Some("theirs"));
    assert_eq!(rig.calls.len(), 1);
    let seen: usize = (0..3).map(|n| rig.saw(n, Report::NeighbourFollowed)).sum();
    assert!((1..=3).contains(&seen), "{seen}");
    // It is refreshed as any other.
    rig.pass(LIFE);
    assert_eq!(rig.tokens(), [Some("t2"); 3]);
    assert_eq!(rig.key(0).as_deref(), Some("t2"));
}

#[test]
fn without_adopt_a_neighbours_token_is_told_once_and_left_where_it_is() {
    let mut rig = neighbours(1, false);
    rig.pass(600 * S);
    rig.write(0, "theirs", LIFE);
    rig.pass(600 * S);
    assert_eq!(rig.token(0), Some("t1"));
    assert_eq!(rig.key(0).as_deref(), Some("theirs"));
    assert_eq!(rig.saw(0, Report::NeighbourIgnored), 1);
    // The next token of ours is written over it.
    rig.pass(LIFE - LEAD);
    assert_eq!(rig.key(0).as_deref(), Some("t2"));
}

#[test]
fn a_key_without_an_end_is_told_and_not_followed() {
    let mut rig = neighbours(1, true);
    rig.pass(600 * S);
    rig.write(0, "theirs", LIFE);
    rig.store.as_mut().unwrap().is_endless = true;
    rig.pass(600 * S);
    assert_eq!(rig.token(0), Some("t1"));
    assert_eq!(rig.saw(0, Report::NeighbourIgnored), 1);
}

#[test]
fn a_mesh_that_comes_to_a_running_service_begins_with_its_token() {
    let mut rig = neighbours(2, true);
    rig.write(1, "theirs", 1_800 * S);
    rig.tick_all();
    assert_eq!(rig.tokens(), [Some("theirs"); 2]);
    assert_eq!(rig.key(0).as_deref(), Some("theirs"));
    rig.pass(1_800 * S - LEAD - 10 * S);
    assert_eq!(rig.calls.len(), 0);
    rig.pass(20 * S);
    assert_eq!(rig.tokens(), [Some("t1"); 2]);
}

#[test]
fn a_token_that_wechat_rejected_is_never_taken_over_again() {
    let mut rig = neighbours(2, true);
    rig.pass(600 * S);
    rig.write(0, "theirs", LIFE);
    rig.pass(64 * S);
    assert_eq!(rig.token(0), Some("theirs"));
    rig.pass(120 * S);
    rig.rejected(0);
    assert_eq!(rig.token(0), Some("t2"));
    // The neighbour insists.
    for _ in 0..10 {
        rig.write(0, "theirs", LIFE);
        rig.pass(61 * S);
    }
    assert_eq!(rig.tokens(), [Some("t2"); 2]);
    assert_eq!(rig.calls.len(), 2);
    // An Envoy that was not there knows it from the store.
    rig.write(0, "theirs", LIFE);
    rig.join_neighbours(true);
    rig.pass(10 * S);
    assert_eq!(rig.token(2), Some("t2"));
}

#[test]
fn what_an_emptied_redis_has_forgotten_the_envoys_still_know() {
    let mut rig = neighbours(2, true);
    rig.pass(LIFE);
    assert_eq!(rig.tokens(), [Some("t2"); 2]);
    // With the record its memory of earlier tokens is gone. Who comes with one of them is not followed.
    rig.empty();
    rig.pass(64 * S);
    rig.write(0, "t1", LIFE);
    rig.pass(128 * S);
    assert_eq!(rig.tokens(), [Some("t2"); 2]);
    assert_eq!(rig.key(0).as_deref(), Some("t2"));
    let followed = [0, 1].map(|envoy| rig.saw(envoy, Report::NeighbourFollowed));
    assert_eq!(followed, [0, 0]);
}

#[test]
fn a_rejected_caller_finds_the_token_of_the_neighbour_that_ended_ours() {
    let mut rig = neighbours(1, true);
    rig.pass(600 * S);
    // Its call ended our token; the next read would be half a minute away.
    rig.write(1, "theirs", LIFE);
    rig.rejected(0);
    assert_eq!(rig.token(0), Some("theirs"));
    assert_eq!(rig.calls.len(), 1);
    assert_eq!(rig.saw(0, Report::RejectedRefresh), 0);
}

#[test]
fn a_neighbours_call_beside_ours_is_settled_by_a_third() {
    let mut rig = neighbours(2, true);
    rig.holds_calls = true;
    rig.tick(0);
    assert_eq!(rig.calls.len(), 1);
    // It calls while ours is on its way, and whose token came last nobody knows.
    rig.write(0, "theirs", LIFE);
    rig.handle(0, granted(1));
    rig.holds_calls = false;
    rig.pass(75 * S);
    assert_eq!(rig.calls.len(), 2);
    assert_eq!(rig.tokens(), [Some("t2"); 2]);
    assert_eq!(rig.key(0).as_deref(), Some("t2"));
    // And that is the end of it.
    rig.pass(600 * S);
    assert_eq!(rig.calls.len(), 2);
}

#[test]
fn beside_a_short_lived_token_there_is_doubt_for_a_part_of_its_life_only() {
    for (age, calls) in [(5 * S, 2), (12 * S, 1)] {
        let mut rig = neighbours(1, true);
        rig.pass(600 * S);
        rig.write(0, "theirs", 160 * S);
        rig.rejected(0);
        assert_eq!(rig.token(0), Some("theirs"));
        rig.pass(age);
        // A sixteenth of 160 s is 10 s.
        rig.write(0, "their-next", LIFE);
        rig.rejected(0);
        rig.pass(30 * S);
        assert_eq!(rig.calls.len(), calls, "{age:?}");
    }
}

#[test]
fn under_the_lock_a_neighbours_token_is_found_before_a_call_is_made() {
    let mut rig = neighbours(1, true);
    rig.pass(LIFE - LEAD - 2 * S);
    rig.write(0, "theirs", LIFE);
    rig.pass(10 * S);
    assert_eq!(rig.token(0), Some("theirs"));
    assert_eq!(rig.calls.len(), 1);
    assert!(!rig.store().is_locked());
}

#[test]
fn keys_that_redis_refuses_are_tried_again_and_told_less_and_less_often() {
    let mut rig = neighbours(1, false);
    rig.store.as_mut().unwrap().refuses_mirrors = true;
    rig.pass(600 * S);
    let told = rig.saw(0, Report::MirrorRefused);
    assert!((3..=6).contains(&told), "{told}");
    assert_eq!(rig.saw(0, Report::StoreLost), 0);
    rig.store.as_mut().unwrap().refuses_mirrors = false;
    rig.pass(64 * S);
    assert_eq!(rig.key(0).as_deref(), Some("t1"));
}
