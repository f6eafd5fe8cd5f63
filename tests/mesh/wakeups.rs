//! When a keeper wants to be called again: the driver sleeps until then, so a wrong answer is a token that comes late, or a
//! loop that never rests.

use std::time::Duration;

use wechat_token::config::WhenDown;
use wechat_token::keeper::{Command, Event, Keeper};
use wechat_token::record::AppRecord;
use wechat_token::secret::Secret;
use wechat_token::store::Step;
use wechat_token::time::{Millis, UnixMillis};
use wechat_token::token::{self, Moment, Sample};

use super::model::Model;
use super::rig::{policy, store_policy, CALL, LEAD, LIFE, S, START};

/// A callback that is lost counts as failed this long after its timeout.
const GRACE: Duration = Duration::from_secs(2);

fn moment(now: Millis) -> Moment {
    Moment {
        now,
        wall: UnixMillis(1_700_000_000_000),
        sample: Sample(0),
    }
}

fn keeper(now: Millis) -> Keeper {
    let store = Some(store_policy(WhenDown::Stable));
    let policy = policy(Duration::ZERO);
    Keeper::adopt(policy, store, &AppRecord::default(), &moment(now))
}

/// What it asks of the store.
fn step(commands: &[Command]) -> &Step {
    let step = commands.iter().find_map(|command| match command {
        Command::Ask(step) => Some(step),
        _ => None,
    });
    step.expect("a step")
}

/// A keeper that has just published its first token.
fn settled(store: &mut Model) -> Keeper {
    let mut keeper = keeper(START);
    let mut commands = keeper.handle(Event::Timer, &moment(START));
    loop {
        let is_call = |command: &&Command| matches!(command, Command::Ask(_) | Command::Fetch(_));
        let event = match commands.iter().find(is_call) {
            Some(Command::Ask(step)) => Event::Answered(Ok(store.run(step, START))),
            Some(Command::Fetch(_)) => Event::Token(token::Event::Granted {
                token: Secret::new("t1"),
                expires_in: LIFE,
            }),
            _ => return keeper,
        };
        commands = keeper.handle(event, &moment(START));
    }
}

#[test]
fn each_part_of_a_refresh_has_its_own_wakeup() {
    let mut store = Model::ahead_by(0);
    let mut keeper = keeper(START);
    assert!(keeper.next_wakeup() <= START, "it begins at once");
    let mut commands = keeper.handle(Event::Timer, &moment(START));
    for expected in ["read", "lock"] {
        // A step is on its way: nothing to do before it counts as lost.
        assert_eq!(
            keeper.next_wakeup(),
            START.after(S).after(GRACE),
            "{expected}"
        );
        assert_eq!(keeper.handle(Event::Timer, &moment(START)), []);
        let answer = store.run(step(&commands), START);
        commands = keeper.handle(Event::Answered(Ok(answer)), &moment(START));
    }
    // Now it is a token call.
    assert!(
        matches!(commands.as_slice(), [Command::Fetch(_)]),
        "{commands:?}"
    );
    assert_eq!(keeper.next_wakeup(), START.after(CALL).after(GRACE));
    let granted = token::Event::Granted {
        token: Secret::new("t1"),
        expires_in: LIFE,
    };
    let commands = keeper.handle(Event::Token(granted), &moment(START));
    let answer = store.run(step(&commands), START);
    keeper.handle(Event::Answered(Ok(answer)), &moment(START));
    // And then a seldom read, long before the token is due.
    let read = keeper.next_wakeup();
    assert!(
        read >= START.after(30 * S) && read <= START.after(60 * S),
        "{read:?}"
    );
    assert!(read < START.after(LIFE - LEAD));
}

#[test]
fn a_rejection_wants_the_store_to_be_read_now_and_nothing_else_does() {
    let mut keeper = settled(&mut Model::ahead_by(0));
    let later = START.after(10 * S);
    assert!(keeper.next_wakeup() > later);
    let generation = keeper.machine().generation();
    let rejected = Event::Token(token::Event::Rejected(generation));
    assert_eq!(keeper.handle(rejected, &moment(later)), []);
    assert_eq!(keeper.next_wakeup(), Millis(0), "it waits for a free call");
    let commands = keeper.handle(Event::Timer, &moment(later));
    assert_eq!(*step(&commands), Step::Read);
    assert_eq!(keeper.next_wakeup(), later.after(S).after(GRACE));
}

#[test]
fn a_rejection_of_an_older_token_or_right_after_a_look_does_not_make_the_store_be_read() {
    let mut keeper = settled(&mut Model::ahead_by(0));
    let before = keeper.next_wakeup();
    let older = token::Generation(keeper.machine().generation().0 - 1);
    let later = START.after(10 * S);
    let rejected = |generation| Event::Token(token::Event::Rejected(generation));
    assert_eq!(keeper.handle(rejected(older), &moment(later)), []);
    assert_eq!(keeper.next_wakeup(), before);
    // The store was heard just now: the token is due at once.
    let generation = keeper.machine().generation();
    let commands = keeper.handle(rejected(generation), &moment(START));
    assert!(!commands.is_empty());
    assert_eq!(keeper.next_wakeup(), START);
}

#[test]
fn a_rejection_during_a_call_is_the_calls_matter() {
    let mut store = Model::ahead_by(0);
    let mut keeper = keeper(START);
    let mut commands = keeper.handle(Event::Timer, &moment(START));
    for _ in 0..2 {
        let answer = store.run(step(&commands), START);
        commands = keeper.handle(Event::Answered(Ok(answer)), &moment(START));
    }
    let later = START.after(3 * S);
    let generation = keeper.machine().generation();
    let rejected = Event::Token(token::Event::Rejected(generation));
    assert_eq!(keeper.handle(rejected, &moment(later)), []);
    let granted = token::Event::Granted {
        token: Secret::new("t1"),
        expires_in: LIFE,
    };
    let commands = keeper.handle(Event::Token(granted), &moment(later));
    assert!(
        matches!(step(&commands), Step::Publish { .. }),
        "{commands:?}"
    );
}
