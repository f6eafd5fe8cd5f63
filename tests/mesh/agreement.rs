//! How Envoys that share a store agree on one token, step by step.

use wechat_token::config::WhenDown;
use wechat_token::keeper::{Command, Event};
use wechat_token::record::AppRecord;
use wechat_token::store::{Nonce, Step, Version};
use wechat_token::time::{Millis, UnixMillis};
use wechat_token::token::{self, Moment, Report, Sample};
use wechat_token::wechat::Failure;

use super::model::Model;
use super::rig::{granted, rig, rig_with, LEAD, LIFE, S, START};

#[test]
fn the_first_one_reads_locks_calls_and_publishes() {
    let mut rig = rig(1);
    rig.tick(0);
    let done = rig.done(0);
    assert_eq!(
        done,
        ["read", "lock", "call", "tell", "report", "publish", "save"]
    );
    assert_eq!(
        (rig.token(0), rig.store().token()),
        (Some("t1"), Some("t1"))
    );
    assert!(!rig.store().is_locked());
    assert!(!rig.calls[0].detour);
}

#[test]
fn the_next_one_takes_the_token_over_without_a_call() {
    let mut rig = rig(2);
    rig.tick(0);
    rig.tick(1);
    assert_eq!(rig.done(1), ["read", "tell", "report"]);
    assert_eq!(rig.envoys[1].reports, [Report::Adopted]);
    assert_eq!((rig.token(1), rig.calls.len()), (Some("t1"), 1));
    let [first, second] = [0, 1].map(|n| rig.envoys[n].keeper.version());
    assert_eq!(first, second);
}

#[test]
fn whoever_finds_a_lock_waits_for_the_token_of_its_owner() {
    let mut rig = rig(2);
    rig.holds_calls = true;
    rig.tick(0);
    rig.tick(1);
    assert_eq!(rig.done(1), ["read", "lock"]);
    rig.pass(2 * S);
    // Four looks a second at most, as nobody has a token.
    let looks = rig.done(1);
    assert!((4..=14).contains(&looks.len()), "{looks:?}");
    assert_eq!(rig.calls.len(), 1);
    rig.handle(0, granted(1));
    rig.pass(S);
    assert_eq!(rig.tokens(), [Some("t1"), Some("t1")]);
    assert_eq!(rig.calls.len(), 1);
}

#[test]
fn a_lock_whose_owner_died_ends_and_the_next_one_calls() {
    let mut rig = rig(2);
    rig.holds_calls = true;
    rig.tick(0);
    rig.envoys.remove(0);
    rig.pass(13 * S);
    assert_eq!(rig.calls.len(), 1);
    rig.pass(3 * S);
    assert_eq!(rig.calls.len(), 2);
}

#[test]
fn one_of_many_renews_and_all_follow() {
    let mut rig = rig(20);
    rig.tick_all();
    rig.pass(LIFE - LEAD + 3 * S);
    assert_eq!(rig.calls.len(), 2);
    assert_eq!(rig.tokens(), vec![Some("t2"); 20]);
}

#[test]
fn the_store_is_read_seldom_while_the_token_is_young_and_every_second_when_it_is_not() {
    let mut rig = rig(1);
    rig.tick(0);
    rig.done(0);
    rig.pass(600 * S);
    let reads = rig.done(0).len();
    assert!((10..=20).contains(&reads), "{reads}");
    // Somebody else is about to renew it, and does not come to an end.
    rig.store.as_mut().unwrap().run(
        &Step::Lock {
            owner: Nonce(9),
            known: Version(u64::MAX),
            ttl: LIFE * 2,
            deadline: UnixMillis(u64::MAX),
        },
        rig.now,
    );
    rig.pass(LIFE - LEAD - 600 * S);
    rig.done(0);
    rig.pass(60 * S);
    let looks = rig.done(0).len();
    assert!((45..=80).contains(&looks), "{looks}");
    assert_eq!(rig.calls.len(), 1);
}

#[test]
fn a_silent_store_is_gone_round_and_gets_the_token_later() {
    let mut rig = rig(2);
    let store = rig.store.take();
    rig.tick(0);
    assert!(rig.calls[0].detour);
    assert_eq!(rig.token(0), Some("t1"));
    assert_eq!(
        rig.envoys[0].reports.first(),
        Some(&Report::StoreLost),
        "{:?}",
        rig.envoys[0].reports
    );
    // The stable endpoint has one token for everybody.
    rig.calls.clear();
    rig.tick(1);
    assert_eq!(rig.token(1), Some("t1"));
    rig.store = store;
    rig.pass(60 * S);
    assert_eq!(rig.store().token(), Some("t1"));
    assert!(rig.envoys[0].reports.contains(&Report::StoreBack));
    assert_eq!(rig.calls.len(), 1);
    let [first, second] = [0, 1].map(|n| rig.envoys[n].keeper.version());
    assert_eq!(first, second);
}

#[test]
fn a_detour_costs_nothing_of_the_classic_endpoints_budget() {
    let mut rig = rig(1);
    let mut record = AppRecord::default();
    rig.store = None;
    rig.tick(0);
    rig.envoys[0].keeper.store(&mut record);
    assert_eq!((rig.calls.len(), record.spent.calls), (1, 0));
}

#[test]
fn where_no_call_is_made_without_the_store_callers_are_told_when_to_come_back() {
    let mut rig = rig_with(1, WhenDown::Hold);
    let store = rig.store.take();
    rig.tick(0);
    assert_eq!((rig.calls.len(), rig.token(0)), (0, None));
    let trouble = rig.envoys[0].keeper.machine().trouble().unwrap();
    assert!(trouble.retry_at > rig.now && !trouble.open);
    rig.pass(600 * S);
    assert_eq!(rig.calls.len(), 0);
    assert!(rig.envoys[0].keeper.machine().trouble().unwrap().open);
    rig.store = store;
    rig.pass(120 * S);
    assert_eq!(rig.token(0), Some("t1"));
    assert_eq!(rig.envoys[0].keeper.machine().trouble(), None);
}

#[test]
fn an_old_token_serves_on_while_the_store_is_silent() {
    let mut rig = rig_with(1, WhenDown::Hold);
    rig.tick(0);
    rig.store = None;
    rig.pass(LIFE - S);
    assert_eq!((rig.token(0), rig.calls.len()), (Some("t1"), 1));
}

#[test]
fn a_rejection_makes_the_store_be_read_before_anything_else() {
    let mut rig = rig(2);
    rig.tick_all();
    rig.pass(2 * S);
    rig.done(1);
    // The other one has met the rejection already.
    rig.rejected(0);
    assert_eq!((rig.calls.len(), rig.token(0)), (2, Some("t2")));
    rig.rejected(1);
    assert_eq!(rig.done(1), ["read", "tell", "report"]);
    assert_eq!((rig.calls.len(), rig.token(1)), (2, Some("t2")));
}

#[test]
fn without_a_store_that_answers_a_rejection_refreshes_by_a_detour() {
    let mut rig = rig(1);
    rig.tick(0);
    rig.pass(2 * S);
    rig.store = None;
    rig.rejected(0);
    rig.pass(2 * S);
    assert_eq!((rig.calls.len(), rig.token(0)), (2, Some("t2")));
    assert!(rig.calls[1].detour);
}

#[test]
fn what_the_store_has_lost_is_published_again() {
    let mut rig = rig(2);
    rig.tick_all();
    let version = rig.envoys[0].keeper.version();
    rig.store.as_mut().unwrap().clone_from(&Model::default());
    rig.pass(61 * S);
    assert_eq!((rig.store().token(), rig.calls.len()), (Some("t1"), 1));
    assert!(rig.envoys[0].keeper.version() > version);
}

#[test]
fn an_older_record_of_a_replica_is_replaced_by_what_is_known_here() {
    let mut rig = rig(1);
    rig.tick(0);
    let replica = rig.store.clone();
    rig.pass(LIFE - LEAD + S);
    assert_eq!(rig.token(0), Some("t2"));
    let version = rig.envoys[0].keeper.version();
    rig.store = replica;
    rig.pass(61 * S);
    assert_eq!((rig.store().token(), rig.calls.len()), (Some("t2"), 2));
    assert!(rig.envoys[0].keeper.version() > version);
}

#[test]
fn after_a_pause_longer_than_its_lock_an_envoy_makes_no_call() {
    let mut rig = rig(1);
    let store = rig.store.as_mut().unwrap();
    // Its answer to the lock comes after the process was paused.
    let keeper = &mut rig.envoys[0].keeper;
    let at = |now: Millis| Moment {
        now,
        wall: UnixMillis(0),
        sample: Sample(5),
    };
    let commands = keeper.handle(Event::Timer, &at(START));
    assert_eq!(commands, [Command::Ask(Step::Read)]);
    let answer = store.run(&Step::Read, START);
    let commands = keeper.handle(Event::Answered(Ok(answer)), &at(START));
    let [Command::Ask(lock)] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    let answer = store.run(lock, START);
    let late = START.after(60 * S);
    let commands = keeper.handle(Event::Answered(Ok(answer)), &at(late));
    assert!(
        matches!(commands.as_slice(), [Command::Ask(Step::Lock { .. })]),
        "{commands:?}"
    );
}

#[test]
fn a_token_that_came_beside_another_envoys_makes_for_a_third() {
    let mut rig = rig(2);
    rig.holds_calls = true;
    rig.tick(0);
    // Paused with its call on the way, until the lock has ended and the other one has called, too.
    for _ in 0..80 {
        rig.now = rig.now.after(S / 4);
        rig.tick(1);
        if rig.calls.len() == 2 {
            break;
        }
    }
    assert_eq!(rig.calls.len(), 2);
    rig.holds_calls = false;
    rig.handle(1, granted(2));
    rig.handle(0, granted(1));
    // The store's token is served, though nobody knows which of the two WeChat has ended...
    assert_eq!(rig.tokens(), [Some("t2"), Some("t2")]);
    // ...and soon, while both still work, it is replaced.
    rig.pass(75 * S);
    assert_eq!(rig.calls.len(), 3);
    assert_eq!(rig.tokens(), [Some("t3"), Some("t3")]);
}

#[test]
fn a_step_whose_answer_is_lost_is_given_up_and_asked_again() {
    let mut rig = rig(1);
    let moment = rig.moment();
    let keeper = &mut rig.envoys[0].keeper;
    assert_eq!(
        keeper.handle(Event::Timer, &moment),
        [Command::Ask(Step::Read)]
    );
    assert!(keeper.is_busy());
    assert_eq!(keeper.handle(Event::Timer, &moment), []);
    let lost_at = keeper.next_wakeup();
    assert!(lost_at > rig.now);
    rig.now = lost_at;
    rig.tick(0);
    // Silent is silent: a detour serves meanwhile.
    assert!(rig.calls[0].detour);
    rig.pass(40 * S);
    assert_eq!(rig.store().token(), Some("t1"));
}

#[test]
fn after_a_failed_call_the_lock_is_given_back() {
    let mut rig = rig(1);
    rig.holds_calls = true;
    rig.tick(0);
    let failure = Failure::Unreachable("no connection");
    rig.done(0);
    rig.handle(0, Event::Token(token::Event::Failed(&failure)));
    assert_eq!(rig.done(0), ["tell", "report", "release"]);
    assert!(!rig.store().is_locked());
}

#[test]
fn a_cluster_that_is_not_there_yet_does_not_make_the_lock_be_taken_all_the_time() {
    let mut rig = rig(1);
    rig.holds_calls = true;
    rig.tick(0);
    rig.done(0);
    for _ in 0..40 {
        if rig.envoys[0].keeper.machine().is_refreshing() {
            rig.handle(0, Event::Token(token::Event::NotSent));
        }
        rig.pass(S / 4);
    }
    let locks = rig.done(0).iter().filter(|word| **word == "lock").count();
    assert!((5..=14).contains(&locks), "{locks}");
}

#[test]
fn a_clock_of_redis_that_jumps_makes_one_step_late_and_no_more() {
    let mut rig = rig(1);
    rig.tick(0);
    rig.pass(LIFE - LEAD - S);
    rig.store.as_mut().unwrap().ahead += 3_600_000;
    rig.pass(3 * S);
    assert_eq!((rig.calls.len(), rig.token(0)), (2, Some("t2")));
    assert_eq!(rig.store().token(), Some("t2"));
}

#[test]
fn an_heir_knows_the_version_that_its_record_tells() {
    let mut rig = rig(1);
    rig.tick(0);
    let mut record = AppRecord::default();
    rig.envoys[0].keeper.store(&mut record);
    assert_eq!(record.version, rig.envoys[0].keeper.version());
    rig.join(WhenDown::Stable, &record);
    rig.done(0);
    rig.tick(1);
    assert_eq!(rig.done(1), ["read"]);
    assert_eq!(rig.envoys[1].keeper.version(), record.version);
}

#[test]
fn without_a_store_everything_is_the_life_cycles_matter() {
    let mut rig = rig(0);
    rig.join_with(None, &AppRecord::default());
    rig.tick(0);
    assert_eq!(rig.done(0), ["call", "tell", "report"]);
    assert_eq!(rig.envoys[0].keeper.version(), Version::default());
    assert!(!rig.envoys[0].keeper.is_busy());
}
