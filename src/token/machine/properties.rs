//! Any events in any order: what the machine never does, and that it always goes on.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::time::{UnixMillis, DAY_MS};
use crate::token::{Backoff, Sample};

/// What may happen to a machine and to who drives it.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in milliseconds.
    Pass(u64),
    /// The wall clock is set back.
    SetBack(u64),
    /// Time passes until the machine wants to be woken.
    Sleep,
    Timer,
    NotSent,
    Granted {
        token: u8,
        seconds: u64,
    },
    Failed(Failure),
    /// A rejection of the current generation or one that is so much older.
    Rejected(u64),
    /// The holder dies; another one goes on with the record.
    HandOver,
}

struct Run {
    machine: Machine,
    policy: Policy,
    /// What lies in shared data.
    record: AppRecord,
    now: Millis,
    wall: UnixMillis,
    luck: u64,
    /// When the call on its way was sent.
    flight: Option<Millis>,
    /// No call before: a dead holder's is on its way.
    not_before: Millis,
    /// Per token, the latest end that WeChat gave it.
    ends: BTreeMap<String, Millis>,
    day: u64,
    day_since: Millis,
    calls: u32,
    /// When the rejection was admitted that the next call answers, and the last one that was answered.
    admitted: Option<Millis>,
    last_admitted: Option<Millis>,
}

impl Run {
    fn new(policy: Policy) -> Run {
        let now = Millis(1_000);
        let wall = UnixMillis(20_000 * DAY_MS);
        let moment = Moment {
            now,
            wall,
            sample: Sample(0),
        };
        Run {
            machine: Machine::adopt(policy.clone(), &AppRecord::default(), &moment),
            policy,
            record: AppRecord::default(),
            now,
            wall,
            luck: 1,
            flight: None,
            not_before: Millis(0),
            ends: BTreeMap::new(),
            day: 0,
            day_since: Millis(0),
            calls: 0,
            admitted: None,
            last_admitted: None,
        }
    }

    fn moment(&mut self) -> Moment {
        self.luck = self.luck.wrapping_mul(0x5851_F42D_4C95_7F2D) + 1;
        Moment {
            now: self.now,
            wall: self.wall,
            sample: Sample(self.luck),
        }
    }

    fn pass(&mut self, span: u64) {
        self.now = Millis(self.now.0 + span);
        self.wall = UnixMillis(self.wall.0 + span);
    }

    fn step(&mut self, step: &Step) -> TestCaseResult {
        match step {
            Step::Pass(span) => self.pass(*span),
            Step::SetBack(span) => self.wall = UnixMillis(self.wall.0.saturating_sub(*span)),
            Step::Sleep => self.pass(self.machine.next_wakeup().0.saturating_sub(self.now.0)),
            Step::HandOver => self.hand_over()?,
            Step::Timer => self.handle(Event::Timer)?,
            Step::NotSent => self.handle(Event::NotSent)?,
            Step::Failed(failure) => self.handle(Event::Failed(failure))?,
            Step::Granted { token, seconds } => self.handle(Event::Granted {
                token: Secret::new(format!("token-{token}")),
                expires_in: Duration::from_secs(*seconds),
            })?,
            Step::Rejected(age) => {
                let generation = self.machine.generation().0.saturating_sub(*age);
                self.handle(Event::Rejected(Generation(generation)))?;
            }
        }
        self.check_serving()
    }

    fn handle(&mut self, event: Event<'_>) -> TestCaseResult {
        let before = self.told();
        let was_due = self.machine.next_wakeup() <= self.now;
        let flight = self.flight;
        let is_reply = matches!(event, Event::Granted { .. } | Event::Failed(_));
        let is_answer = is_reply || matches!(event, Event::NotSent);
        let is_timer = matches!(event, Event::Timer);
        // Neither another secret nor another upstream helps.
        let needs_pause = flight.is_some()
            && matches!(
                event,
                Event::Failed(Failure::Http(_) | Failure::Unreadable(_))
            );
        let is_old_news =
            matches!(event, Event::Rejected(generation) if generation != before.generation);
        if let (Event::Granted { token, expires_in }, Some(since)) = (&event, flight) {
            let end = self.ends.entry(token.expose().to_owned()).or_default();
            *end = (*end).max(since.after(*expires_in));
        }
        if matches!(event, Event::NotSent) && flight.is_some() {
            self.calls -= u32::from(self.policy.daily_budget.is_some());
            self.record.in_flight_until = Millis(0);
        }
        let moment = self.moment();
        let commands = self.machine.handle(event, &moment);
        let after = self.told();

        prop_assert!(after.generation >= before.generation, "generation falls");
        prop_assert!(after.settled <= after.generation);
        let is_published = commands.contains(&Command::Publish);
        prop_assert!(
            is_published || before == after,
            "{before:?} became {after:?} in silence"
        );
        let is_due = self.machine.next_wakeup() <= self.now;
        prop_assert!(!(needs_pause && is_due), "no pause after a failure");
        prop_assert!(
            !is_old_news || commands.is_empty(),
            "a late rejection counts"
        );
        if is_answer {
            prop_assert!(
                flight.is_some() || commands.is_empty(),
                "nobody waits: {commands:?}"
            );
            self.flight = None;
        }
        if is_timer && flight.is_some() && !commands.is_empty() {
            // Its reply is lost.
            let overdue = self.policy.call_timeout + LOST_REPLY_GRACE;
            prop_assert!(flight.is_some_and(|since| self.now >= since.after(overdue)));
            prop_assert!(commands.contains(&Command::Report(Report::Failed)));
            self.flight = None;
        }
        for command in &commands {
            match command {
                Command::Fetch(attempt) => {
                    prop_assert!(is_timer && was_due, "a call before its time");
                    prop_assert!(flight.is_none(), "a second call");
                    prop_assert!(attempt.secret < self.policy.secrets);
                    prop_assert!(attempt.upstream < self.policy.upstreams);
                    self.fetch(&moment)?;
                }
                Command::Publish => self.machine.store(&mut self.record),
                Command::Report(Report::RejectedRefresh) => self.admitted = Some(self.now),
                Command::Report(_) => {}
            }
        }
        prop_assert_eq!(self.machine.is_refreshing(), self.flight.is_some());
        Ok(())
    }

    fn fetch(&mut self, moment: &Moment) -> TestCaseResult {
        prop_assert!(self.now >= self.not_before, "beside a dead holder's call");
        self.flight = Some(self.now);
        self.machine.store(&mut self.record);
        self.record.in_flight_until = self.now.after(self.policy.call_timeout);
        let is_day_over = self.now.0 >= self.day_since.0 + DAY_MS;
        if moment.wall.shanghai_day() > self.day || is_day_over {
            self.day = moment.wall.shanghai_day();
            self.day_since = self.now;
            self.calls = 0;
        }
        if let Some(budget) = self.policy.daily_budget {
            self.calls += 1;
            prop_assert!(self.calls <= budget, "{} calls of {budget}", self.calls);
        }
        if let Some(admitted) = self.admitted.take() {
            let next = self
                .last_admitted
                .map(|last| last.after(self.policy.rejected_interval));
            prop_assert!(
                next.is_none_or(|next| admitted >= next),
                "rejections too often"
            );
            self.last_admitted = Some(admitted);
        }
        Ok(())
    }

    /// What others need to know.
    fn told(&self) -> AppRecord {
        let mut record = AppRecord::default();
        self.machine.store(&mut record);
        AppRecord {
            rejected_interval: Duration::ZERO,
            rejected_not_before: Millis(0),
            spent: Default::default(),
            ..record
        }
    }

    fn hand_over(&mut self) -> TestCaseResult {
        let moment = self.moment();
        let heir = Machine::adopt(self.policy.clone(), &self.record, &moment);
        prop_assert_eq!(heir.serve(self.now), self.machine.serve(self.now));
        prop_assert_eq!(heir.generation(), self.machine.generation());
        prop_assert!(heir.next_wakeup() >= self.record.in_flight_until);
        if let Some(since) = self.flight.take() {
            self.not_before = self.not_before.max(since.after(self.policy.call_timeout));
        }
        self.admitted = None;
        self.machine = heir;
        Ok(())
    }

    fn check_serving(&self) -> TestCaseResult {
        let Some(token) = self.machine.serve(self.now) else {
            return Ok(());
        };
        prop_assert!(token.deadline > self.now, "serves an expired token");
        let end = self.ends.get(token.value.expose());
        prop_assert!(
            end.is_some_and(|end| token.deadline <= *end),
            "serves for longer than WeChat said"
        );
        prop_assert!(self.machine.serve(token.deadline).is_none());
        Ok(())
    }

    /// Woken when it wants to be, the machine calls or knows when it will: it is never due for ever.
    fn check_progress(&mut self) -> TestCaseResult {
        self.step(&Step::Sleep)?;
        for _ in 0..3 {
            self.handle(Event::Timer)?;
            if self.machine.next_wakeup() > self.now {
                return Ok(());
            }
        }
        prop_assert!(false, "due for ever in {:?}", self.machine.state());
        Ok(())
    }
}

fn failures() -> impl Strategy<Value = Failure> {
    const ERRCODES: [i64; 9] = [-1, 40001, 40013, 40164, 45009, 45011, 89503, 89507, 99999];
    prop_oneof![
        prop::sample::select(&ERRCODES[..]).prop_map(|errcode| Failure::Errcode {
            errcode,
            rid: None,
            refused_ip: None,
            errmsg: String::new(),
        }),
        Just(Failure::Http(500)),
        Just(Failure::Unreachable("reset")),
        Just(Failure::Unreadable("html")),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pass = prop_oneof![
        0..500_u64,
        0..120_000_u64,
        0..8_000_000_u64,
        0..100_000_000_u64
    ];
    let granted = (0..4_u8, prop_oneof![1..60_u64, 1..7_200_u64])
        .prop_map(|(token, seconds)| Step::Granted { token, seconds });
    let step = prop_oneof![
        2 => pass.prop_map(Step::Pass),
        1 => (0..200_000_000_u64).prop_map(Step::SetBack),
        5 => Just(Step::Sleep),
        8 => Just(Step::Timer),
        1 => Just(Step::NotSent),
        4 => granted,
        3 => failures().prop_map(Step::Failed),
        3 => (0..3_u64).prop_map(Step::Rejected),
        1 => Just(Step::HandOver),
    ];
    prop::collection::vec(step, 1..150)
}

fn policies() -> impl Strategy<Value = Policy> {
    let span = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    (
        span(0..3_600_000),
        span(0..3_600_000),
        (100..5_000_u64, 1..60_u64),
        span(10_000..120_000),
        (1..4_usize, 1..4_usize),
        prop::option::of(1..6_u32),
        span(100..10_000),
    )
        .prop_map(
            |(lead, jitter, (initial, times), interval, (secrets, upstreams), budget, timeout)| {
                let initial = Duration::from_millis(initial);
                Policy {
                    lead,
                    jitter,
                    backoff: Backoff::try_new(initial, initial * times as u32).unwrap(),
                    rejected_interval: interval,
                    secrets,
                    upstreams,
                    daily_budget: budget,
                    call_timeout: timeout,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold_and_the_machine_goes_on(policy in policies(), steps in steps()) {
        let mut run = Run::new(policy);
        for step in &steps {
            run.step(step)?;
        }
        run.check_progress()?;
    }
}
