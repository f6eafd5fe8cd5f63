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
