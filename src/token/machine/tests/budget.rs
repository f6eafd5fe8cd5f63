//! The day's budget of calls.

use super::*;

#[test]
fn a_budget_stops_the_classic_endpoint_until_midnight() {
    let mut d = setup(Policy {
        daily_budget: Some(1),
        ..policy()
    });
    d.fetch();
    d.grant("a", 7200);
    d.now = d.machine.next_wakeup();
    assert_eq!(
        d.handle(Event::Timer),
        [Command::Publish, Command::Report(Report::BudgetSpent)]
    );
    assert_eq!(
        d.machine.next_wakeup(),
        d.now.after(at(d.now).wall.until_shanghai_midnight())
    );
    d.fetch();
}

#[test]
fn a_budget_is_that_of_the_app_whoever_makes_the_calls() {
    let policy = || Policy {
        daily_budget: Some(3),
        ..policy()
    };
    let mut d = setup(policy());
    let mut record = AppRecord::default();
    for calls in 1..=3 {
        // Each holder dies during its call.
        d.fetch();
        d.machine.store(&mut record);
        assert_eq!(record.spent.calls, calls, "stored before the call is over");
        d.machine = Machine::adopt(policy(), &record, &at(d.now));
    }
    assert_eq!(
        d.handle(Event::Timer),
        [Command::Publish, Command::Report(Report::BudgetSpent)]
    );
    d.machine.store(&mut record);
    d.now = d.machine.next_wakeup();
    d.machine = Machine::adopt(policy(), &record, &at(d.now));
    d.fetch();
    d.machine.store(&mut record);
    assert_eq!(record.spent.calls, 1, "of the new day");
}

#[test]
fn a_call_that_was_not_sent_costs_nothing_and_is_tried_again_soon() {
    let mut d = setup(Policy {
        daily_budget: Some(1),
        ..policy()
    });
    for n in 1..=100 {
        d.fetch();
        let is_told = [16, 32, 64].contains(&n);
        assert_eq!(d.handle(Event::NotSent).len(), usize::from(is_told), "{n}");
        assert_eq!(d.machine.next_wakeup(), d.now.after(NOT_SENT_PAUSE));
    }
    let mut record = AppRecord::default();
    d.machine.store(&mut record);
    assert_eq!(record.spent.calls, 0);
    d.fetch();
    d.grant("a", 7200);
}

#[test]
fn a_wall_clock_that_was_ahead_withholds_the_next_budget_for_a_day_at_most() {
    const DAY: u64 = 86_400_000;
    for steps_back in [DAY / 24, DAY, 365 * DAY] {
        let mut d = setup(Policy {
            daily_budget: Some(1),
            ..policy()
        });
        // While it is ahead, the budget is spent.
        let ahead = 1_000 * DAY;
        let first = d.now;
        let moment = |now: Millis, wall: u64| Moment {
            wall: UnixMillis(wall + now.0),
            ..at(now)
        };
        let timer = |d: &mut Driver, wall| d.machine.handle(Event::Timer, &moment(d.now, wall));
        assert_eq!(timer(&mut d, ahead), [Command::Fetch(Attempt::default())]);
        d.grant("a", 7200);
        d.now = d.machine.next_wakeup();
        let mut tries = 0;
        while timer(&mut d, ahead - steps_back) != [Command::Fetch(Attempt::default())] {
            tries += 1;
            assert!(tries <= 2, "{steps_back}");
            d.now = d.machine.next_wakeup();
        }
        let waited = d.now.since(first);
        assert!(
            waited <= Duration::from_millis(DAY),
            "{steps_back}: {waited:?}"
        );
    }
}
