mod budget;
mod rejected;

use super::*;
use crate::time::UnixMillis;
use crate::token::Backoff;
use crate::token::Sample;

const S: Duration = Duration::from_secs(1);

struct Driver {
    machine: Machine,
    now: Millis,
}

fn policy() -> Policy {
    Policy {
        lead: 300 * S,
        jitter: Duration::ZERO,
        backoff: Backoff::try_new(S, 60 * S).unwrap(),
        rejected_interval: 60 * S,
        secrets: 1,
        upstreams: 1,
        daily_budget: None,
        call_timeout: 5 * S,
    }
}

fn setup(policy: Policy) -> Driver {
    let mut driver = Driver {
        machine: Machine::adopt(policy, &AppRecord::default(), &at(Millis(1_000))),
        now: Millis(1_000),
    };
    driver.now = Millis(1_000);
    driver
}

fn at(now: Millis) -> Moment {
    Moment {
        now,
        wall: UnixMillis(now.0),
        sample: Sample(u64::MAX / 2),
    }
}

fn wechat(errcode: i64) -> Failure {
    Failure::Errcode {
        errcode,
        rid: None,
        refused_ip: None,
        errmsg: String::new(),
    }
}

impl Driver {
    fn handle(&mut self, event: Event<'_>) -> Vec<Command> {
        self.machine.handle(event, &at(self.now))
    }

    /// Jumps to the next wake-up and expects a call.
    fn fetch(&mut self) -> Attempt {
        self.now = self.now.max(self.machine.next_wakeup());
        match self.handle(Event::Timer).as_slice() {
            [Command::Fetch(attempt)] => *attempt,
            other => panic!("no call but {other:?} in {:?}", self.machine.state()),
        }
    }

    fn grant(&mut self, token: &str, seconds: u32) -> Vec<Command> {
        self.handle(Event::Granted {
            token: Secret::new(token),
            expires_in: S * seconds,
        })
    }

    fn fail(&mut self, failure: &Failure) -> Duration {
        assert_eq!(
            self.handle(Event::Failed(failure)),
            [Command::Publish, Command::Report(Report::Failed)],
            "{failure}"
        );
        self.machine.next_wakeup().since(self.now)
    }
}

#[test]
fn a_token_is_fetched_at_once_and_again_one_lead_before_its_end() {
    let mut d = setup(policy());
    assert_eq!(d.machine.next_wakeup(), Millis(0));
    d.fetch();
    assert_eq!(
        d.grant("a", 7200),
        [Command::Publish, Command::Report(Report::Renewed)]
    );
    assert_eq!(d.machine.generation(), Generation(1));
    assert_eq!(d.machine.next_wakeup(), d.now.after(6900 * S));
}

#[test]
fn lifetime_counts_from_the_dispatch_of_the_call() {
    let mut d = setup(policy());
    d.fetch();
    let dispatched = d.now;
    d.now = d.now.after(4 * S);
    d.grant("a", 7200);
    let deadline = dispatched.after(7200 * S);
    assert!(d
        .machine
        .serve(deadline.before(Duration::from_millis(1)))
        .is_some());
    assert!(d.machine.serve(deadline).is_none());
}

#[test]
fn the_lead_is_at_most_half_of_what_is_left_and_refreshes_keep_a_distance() {
    for (lifetime, pause) in [(7200, 6900), (100, 50), (8, 4), (4, 2), (1200, 900)] {
        let mut d = setup(policy());
        d.fetch();
        d.grant("a", lifetime);
        assert_eq!(
            d.machine.next_wakeup(),
            d.now.after(S * pause),
            "lifetime {lifetime}"
        );
    }
}

#[test]
fn the_same_token_moves_the_deadline_without_a_new_generation() {
    let mut d = setup(policy());
    d.fetch();
    d.grant("a", 600);
    d.fetch();
    assert_eq!(
        d.grant("a", 900),
        [Command::Publish, Command::Report(Report::Same)]
    );
    assert_eq!(d.machine.generation(), Generation(1));
    assert_eq!(
        d.machine.serve(d.now).unwrap().deadline,
        d.now.after(900 * S)
    );
    let deadline = d.machine.serve(d.now).unwrap().deadline;
    d.fetch();
    d.grant("a", 1);
    assert_eq!(
        d.machine.serve(d.now).unwrap().deadline,
        deadline,
        "never earlier"
    );
}

#[test]
fn the_old_token_serves_while_the_refresh_fails() {
    let mut d = setup(policy());
    d.fetch();
    d.grant("a", 7200);
    let deadline = d.machine.serve(d.now).unwrap().deadline;
    let mut calls = 0;
    while d.now < deadline {
        d.fetch();
        calls += 1;
        if d.now < deadline {
            assert!(d.machine.serve(d.now).is_some());
        }
        d.fail(&Failure::Unreachable("timeout"));
    }
    assert!((5..40).contains(&calls), "{calls} calls in the last 300 s");
}

#[test]
fn each_errcode_has_its_own_waiting_rule() {
    for (errcode, least, most) in [
        (-1, 0, 1),
        (40164, 60, 66),
        (40013, 300, 330),
        (45011, 60, 66),
        (89503, 300, 330),
        (89507, 3600, 3960),
        (89506, 86_400, 95_040),
        (99999, 0, 1),
    ] {
        let mut d = setup(policy());
        d.fetch();
        let wait = d.fail(&wechat(errcode));
        assert!(
            (S * least..=S * most).contains(&wait),
            "errcode {errcode}: {wait:?}"
        );
        let open = least > 0;
        assert_eq!(d.machine.trouble().unwrap().open, open, "errcode {errcode}");
        assert_eq!(d.machine.trouble().unwrap().errcode, Some(errcode));
    }
}

#[test]
fn a_spent_quota_waits_for_midnight_in_shanghai() {
    let mut d = setup(policy());
    d.fetch();
    let wait = d.fail(&wechat(45009));
    let midnight = at(d.now).wall.until_shanghai_midnight();
    assert!((midnight..=midnight + 60 * S).contains(&wait), "{wait:?}");
}

#[test]
fn secrets_are_tried_in_order_and_then_the_breaker_opens() {
    let mut d = setup(Policy {
        secrets: 3,
        ..policy()
    });
    for secret in 0..3 {
        assert_eq!(d.fetch().secret, secret);
        let wait = d.fail(&wechat(40001));
        assert_eq!(
            wait.is_zero(),
            secret < 2,
            "after secret {secret}: {wait:?}"
        );
    }
    assert!(matches!(d.machine.state(), State::Open { .. }));
    assert_eq!(d.fetch().secret, 0);
    d.fail(&wechat(40001));
    assert_eq!(d.fetch().secret, 1);
    d.grant("a", 7200);
    assert_eq!(d.fetch().secret, 1, "the one that worked is kept");
}

#[test]
fn a_connection_failure_goes_to_the_next_upstream_at_once() {
    let mut d = setup(Policy {
        upstreams: 2,
        ..policy()
    });
    assert_eq!(d.fetch().upstream, 0);
    assert_eq!(d.fail(&Failure::Unreachable("reset")), Duration::ZERO);
    assert_eq!(d.fetch().upstream, 1);
    assert!(d.fail(&Failure::Unreachable("reset")) > Duration::ZERO);
    assert_eq!(d.fetch().upstream, 0);
}

#[test]
fn many_failures_open_the_breaker_for_a_single_trial() {
    let mut d = setup(policy());
    for n in 1..=8 {
        d.fetch();
        d.fail(&Failure::Http(500));
        assert_eq!(d.machine.trouble().unwrap().open, n == 8, "failure {n}");
    }
    d.fetch();
    d.fail(&Failure::Http(500));
    assert!(matches!(d.machine.state(), State::Open { .. }));
    d.fetch();
    d.grant("a", 7200);
    assert_eq!(d.machine.trouble(), None);
}

#[test]
fn a_cluster_that_takes_no_calls_leaves_them_to_the_next_upstream() {
    let mut d = setup(Policy {
        upstreams: 2,
        ..policy()
    });
    let begun = d.now;
    while d.fetch().upstream == 0 {
        d.handle(Event::NotSent);
        assert!(d.now.since(begun) < 10 * S, "it stays with the first");
    }
    assert!(
        d.now.since(begun) > 3 * S,
        "the first may only not be warm yet"
    );
    d.grant("a", 7200);
    assert_eq!(d.fetch().upstream, 1, "the one that worked is kept");
}

#[test]
fn a_reply_that_never_comes_counts_as_a_failure() {
    let mut d = setup(policy());
    d.fetch();
    d.now = d.machine.next_wakeup();
    assert_eq!(
        d.handle(Event::Timer),
        [Command::Publish, Command::Report(Report::Failed)]
    );
    assert_eq!(d.grant("late", 7200), [], "nobody waits for it any more");
}

#[test]
fn a_new_holder_goes_on_where_the_record_ends_and_waits_for_a_call_on_its_way() {
    let mut d = setup(policy());
    d.fetch();
    d.grant("a", 7200);
    let mut record = AppRecord::default();
    d.machine.store(&mut record);
    record.in_flight_until = d.now.after(5 * S);
    let heir = Machine::adopt(policy(), &record, &at(d.now));
    assert_eq!(heir.serve(d.now), d.machine.serve(d.now));
    assert_eq!(heir.next_wakeup(), d.now.after(6900 * S));
    record.token = None;
    let heir = Machine::adopt(policy(), &record, &at(d.now));
    assert_eq!(heir.next_wakeup(), d.now.after(5 * S));
    heir.store(&mut record);
    assert_eq!(
        record.in_flight_until,
        d.now.after(5 * S),
        "for the next heir"
    );
}

#[test]
fn a_new_holder_keeps_to_the_pause_and_knows_whether_the_breaker_is_open() {
    let d = setup(policy());
    let until = d.now.after(30 * S);
    for (open, state) in [
        (true, State::Open { until }),
        (false, State::BackingOff { until }),
    ] {
        let record = AppRecord {
            trouble: Some(Trouble {
                errcode: None,
                retry_at: until,
                open,
            }),
            ..AppRecord::default()
        };
        let heir = Machine::adopt(policy(), &record, &at(d.now));
        assert_eq!((heir.state(), heir.next_wakeup()), (state, until));
    }
}

#[test]
fn jitter_takes_half_of_the_lead_at_most() {
    let mut d = setup(Policy {
        jitter: 400 * S,
        ..policy()
    });
    d.fetch();
    d.grant("a", 7200);
    // The sample is a half.
    let refresh = d.machine.next_wakeup().since(d.now).as_secs();
    assert_eq!(refresh, 7200 - 300 + 75 - 1, "rounded down");
}

#[test]
fn an_open_breaker_pauses_between_half_and_all_of_the_longest_pause() {
    let mut d = setup(policy());
    for failures in 1..=10 {
        d.fetch();
        let pause = d.fail(&Failure::Http(500));
        let is_open = matches!(d.machine.state(), State::Open { .. });
        assert_eq!(is_open, failures >= 8, "{failures}");
        let bounds = if is_open {
            30 * S..=60 * S
        } else {
            Duration::ZERO..=60 * S
        };
        assert!(bounds.contains(&pause), "{failures}: {pause:?}");
    }
}
