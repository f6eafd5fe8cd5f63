use super::*;

#[test]
fn a_rejection_of_the_current_generation_refreshes_and_a_late_one_does_not() {
    let mut d = setup(policy());
    d.fetch();
    d.grant("a", 7200);
    d.now = d.now.after(100 * S);
    assert_eq!(
        d.handle(Event::Rejected(Generation(7))),
        [],
        "unknown generation"
    );
    assert_eq!(
        d.handle(Event::Rejected(Generation(1))),
        [Command::Publish, Command::Report(Report::RejectedRefresh)]
    );
    d.fetch();
    assert_eq!(d.handle(Event::Rejected(Generation(1))), [], "on its way");
    d.grant("b", 7200);
    assert_eq!(d.handle(Event::Rejected(Generation(1))), [], "late");
    assert_eq!(d.machine.next_wakeup(), d.now.after(6900 * S));
}

#[test]
fn endless_rejections_cause_at_most_two_calls_a_minute() {
    let mut d = setup(policy());
    d.fetch();
    d.grant("t0", 7200);
    let mut calls = Vec::new();
    for n in 0..3_600 {
        let generation = d.machine.generation();
        d.handle(Event::Rejected(generation));
        if d.machine.next_wakeup() <= d.now {
            d.fetch();
            calls.push(d.now);
            d.grant(&format!("t{n}"), 7200);
        }
        d.now = d.now.after(S);
    }
    for pair in calls.windows(3) {
        assert!(pair[2].since(pair[0]) >= 60 * S, "{calls:?}");
    }
    assert!(calls.len() <= 7, "the interval doubles: {}", calls.len());
}

#[test]
fn the_same_string_back_after_a_rejection_settles_it() {
    let mut d = setup(policy());
    d.fetch();
    d.grant("a", 7200);
    d.now = d.now.after(100 * S);
    d.handle(Event::Rejected(Generation(1)));
    d.fetch();
    d.grant("a", 7100);
    let mut record = AppRecord::default();
    d.machine.store(&mut record);
    assert_eq!(
        (record.generation, record.settled),
        (Generation(1), Generation(1))
    );
    assert_eq!(d.handle(Event::Rejected(Generation(1))), []);
}

#[test]
fn a_token_that_is_rejected_within_the_limit_is_renewed_as_soon_as_the_limit_allows() {
    let mut d = setup(policy());
    d.fetch();
    d.grant("a", 7200);
    d.now = d.now.after(100 * S);
    d.handle(Event::Rejected(Generation(1)));
    d.fetch();
    d.grant("b", 7200);
    d.now = d.now.after(10 * S);
    assert_eq!(
        d.handle(Event::Rejected(Generation(2))),
        [Command::Publish, Command::Report(Report::RejectedLimited)]
    );
    d.now = d.now.after(40 * S);
    assert_eq!(d.handle(Event::Rejected(Generation(2))), [], "the limit");
    d.now = d.now.after(10 * S);
    assert_eq!(
        d.handle(Event::Rejected(Generation(2))),
        [Command::Publish, Command::Report(Report::RejectedRefresh)]
    );
    let mut record = AppRecord::default();
    d.machine.store(&mut record);
    assert_eq!(record.settled, Generation(1), "it is worth waiting again");
    assert_eq!(d.handle(Event::Rejected(Generation(2))), [], "due anyway");
    d.fetch();
    d.grant("b", 7000);
    let again = |d: &mut Driver, seconds: u32| {
        d.now = d.now.after(S * seconds);
        d.handle(Event::Rejected(Generation(2))).len()
    };
    assert_eq!(
        again(&mut d, 119),
        0,
        "twice the interval, as it was in vain"
    );
    assert_eq!(again(&mut d, 1), 2);
}

#[test]
fn while_the_breaker_is_open_nobody_waits_for_a_newer_token() {
    let mut d = setup(Policy {
        lead: 3600 * S,
        ..policy()
    });
    d.fetch();
    d.grant("a", 7200);
    for _ in 0..8 {
        d.fetch();
        d.fail(&Failure::Http(500));
    }
    assert!(matches!(d.machine.state(), State::Open { .. }));
    assert!(d.machine.serve(d.now).is_some(), "the old one lives");
    let mut record = AppRecord::default();
    d.machine.store(&mut record);
    assert_eq!(record.settled, Generation(1));
    assert_eq!(d.handle(Event::Rejected(Generation(1))), []);
}
