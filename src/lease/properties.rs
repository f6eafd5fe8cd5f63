//! Any holders, beating, dying and looking in any order, with one app's record between them.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::record::SlotRecord;
use crate::time::UnixMillis;
use crate::token::{Backoff, Command, Event, Machine, Moment, Policy, Sample};

const HOLDERS: usize = 4;
const CALL: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    /// A holder says that it lives.
    Beat(usize),
    /// A holder's slot gets a new owner.
    Reload(usize),
    /// A holder looks, and takes the lease if it may.
    Look(usize),
    /// A holder calls WeChat, if it has the lease and its machine says so.
    Call(usize),
}

/// The first two holders are primary: there is one singleton, but nothing may depend on that.
struct World {
    now: Millis,
    record: AppRecord,
    holders: [Holder; HOLDERS],
    slots: [SlotRecord; HOLDERS],
    machines: [Option<Machine>; HOLDERS],
    incarnations: u64,
    /// Who called last, and until when that call may be on its way.
    call: Option<(Holder, Millis)>,
}

impl World {
    fn new() -> World {
        let now = Millis(100_000);
        let holder = |n: usize| Holder {
            slot: n as u32,
            incarnation: n as u64 + 1,
            primary: n < 2,
        };
        let holders = std::array::from_fn(holder);
        World {
            now,
            record: AppRecord::default(),
            slots: holders.map(|holder| SlotRecord {
                incarnation: holder.incarnation,
                heartbeat: now,
            }),
            holders,
            machines: Default::default(),
            incarnations: HOLDERS as u64,
            call: None,
        }
    }

    fn lives(&self, holder: &Holder) -> bool {
        lives(
            last_beat(holder, self.slots.get(holder.slot as usize)),
            self.now,
        )
    }

    fn claim(&self, n: usize) -> Claim {
        let alive = self.lives(&self.record.holder);
        judge(&self.record, &self.holders[n], alive, self.now)
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            wall: UnixMillis(self.now.0),
            sample: Sample(0),
        }
    }

    fn step(&mut self, step: &Step) -> TestCaseResult {
        match *step {
            Step::Pass(span) => self.now = Millis(self.now.0 + span),
            Step::Beat(n) => self.slots[n].heartbeat = self.now,
            Step::Reload(n) => {
                self.incarnations += 1;
                self.holders[n].incarnation = self.incarnations;
                self.machines[n] = None;
                self.slots[n] = SlotRecord {
                    incarnation: self.incarnations,
                    heartbeat: self.now,
                };
            }
            Step::Look(n) if self.claim(n) == Claim::Free => self.take(n)?,
            Step::Look(_) => {}
            Step::Call(n) if self.claim(n) == Claim::Mine => self.call(n)?,
            Step::Call(_) => {}
        }
        self.check()
    }

    fn take(&mut self, n: usize) -> TestCaseResult {
        let before = self.record.clone();
        let me = self.holders[n];
        self.record = take(&before, &me);
        prop_assert_eq!(self.record.term, before.term + 1);
        prop_assert_eq!(self.claim(n), Claim::Mine);
        let kept = AppRecord {
            term: before.term,
            holder: before.holder,
            ..self.record.clone()
        };
        prop_assert_eq!(kept, before, "nothing but the lease changes");
        let machine = Machine::adopt(policy(), &self.record, &self.moment());
        prop_assert!(machine.next_wakeup() >= self.record.in_flight_until);
        self.machines[n] = Some(machine);
        Ok(())
    }

    fn call(&mut self, n: usize) -> TestCaseResult {
        let moment = self.moment();
        let Some(machine) = &mut self.machines[n] else {
            return Ok(());
        };
        for command in machine.handle(Event::Timer, &moment) {
            if !matches!(command, Command::Fetch(_)) {
                continue;
            }
            let me = self.holders[n];
            if let Some((other, until)) = self.call.replace((me, self.now.after(CALL))) {
                prop_assert!(
                    other == me || until <= self.now,
                    "{me:?} calls while a call of {other:?} may be on its way"
                );
            }
            self.record.in_flight_until = self.now.after(CALL);
        }
        Ok(())
    }

    fn check(&self) -> TestCaseResult {
        let claims: Vec<_> = (0..HOLDERS).map(|n| self.claim(n)).collect();
        let mine = claims.iter().filter(|claim| **claim == Claim::Mine).count();
        prop_assert!(mine <= 1, "{claims:?}");
        let holder = self.record.holder;
        for (claim, me) in claims.iter().zip(&self.holders) {
            prop_assert!(
                *claim != Claim::Mine || *me == holder,
                "{:?} is not {:?}",
                me,
                holder
            );
        }
        let is_gone = !self.holders.contains(&holder);
        prop_assert!(!(is_gone && self.lives(&holder)), "{:?} is gone", holder);
        if self.record.term == 0 || !self.lives(&holder) {
            return Ok(());
        }
        for (claim, me) in claims.iter().zip(&self.holders) {
            let outranks = me.primary && !holder.primary && self.record.in_flight_until <= self.now;
            prop_assert_eq!(
                *claim == Claim::Free,
                outranks,
                "{:?} of {:?} while {:?} lives",
                claim,
                me,
                holder
            );
        }
        Ok(())
    }
}

fn policy() -> Policy {
    Policy {
        lead: Duration::ZERO,
        jitter: Duration::ZERO,
        backoff: Backoff::default(),
        rejected_interval: Duration::from_secs(60),
        secrets: 1,
        upstreams: 1,
        daily_budget: None,
        call_timeout: CALL,
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..HOLDERS;
    let step = prop_oneof![
        4 => prop_oneof![0..400_u64, 0..4_000_u64].prop_map(Step::Pass),
        4 => who.clone().prop_map(Step::Beat),
        1 => who.clone().prop_map(Step::Reload),
        4 => who.clone().prop_map(Step::Look),
        4 => who.prop_map(Step::Call),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_holder_at_a_time_and_no_call_beside_anothers(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step)?;
        }
    }
}
