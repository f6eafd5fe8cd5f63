//! Redis in a day of a mesh: its clock jumps, it freezes, it fails over to a replica that lacks the last write, and it does so
//! many steps a second and no more. What it is asked is counted by the second, and each write is checked.

use std::time::Duration;

use wechat_token::store::{Answer, Nonce, Outcome, Step};
use wechat_token::time::Millis;

use super::model::Model;
use super::rig::S;

/// A Redis and its replica.
#[derive(Debug)]
pub(crate) struct Redis {
    model: Model,
    /// As it was before the last write, and whether that was a publication.
    replica: Model,
    lacks_publication: bool,
    start: Millis,
    /// How many steps it does in a second; any number without it.
    capacity: Option<u32>,
    /// When it has done what it has been asked, in microseconds.
    busy_until: u64,
    frozen_until: Millis,
    /// Steps, by the second in which they came.
    pub(crate) by_second: Vec<u32>,
    /// Publications that a fail-over took with it.
    pub(crate) undone: usize,
    /// Locks that their owners lost before they gave them back.
    pub(crate) fences: usize,
    /// Who got the lock, in their order.
    owners: Vec<Nonce>,
    /// Publications by somebody after whom another one had got the lock, while nobody had it.
    pub(crate) unfenced: usize,
}

/// How far the true time is ahead of the day's.
const AHEAD: u64 = 1_700_000_000_000;

impl Redis {
    pub(crate) fn new(start: Millis, capacity: Option<u32>) -> Redis {
        let model = Model::ahead_by(AHEAD);
        Redis {
            replica: model.clone(),
            model,
            lacks_publication: false,
            start,
            capacity,
            busy_until: 0,
            frozen_until: Millis(0),
            by_second: Vec::new(),
            undone: 0,
            fences: 0,
            owners: Vec::new(),
            unfenced: 0,
        }
    }

    /// A step comes in; when it is done.
    pub(crate) fn arrives(&mut self, now: Millis) -> Millis {
        let second = usize::try_from(now.since(self.start).as_secs()).expect("a second");
        if self.by_second.len() <= second {
            self.by_second.resize(second + 1, 0);
        }
        self.by_second[second] += 1;
        let begin = now.max(self.frozen_until);
        let Some(capacity) = self.capacity else {
            return begin;
        };
        self.busy_until = self.busy_until.max(begin.0 * 1_000) + 1_000_000 / u64::from(capacity);
        Millis(self.busy_until / 1_000)
    }

    /// It does a step.
    pub(crate) fn run(&mut self, step: &Step, now: Millis) -> Answer {
        if *step == Step::Read {
            return self.model.run(step, now);
        }
        let mut before = self.model.clone();
        // What has ended by now is not there any more.
        before.run(&Step::Read, now);
        let holder = before.holder(now);
        let answer = self.model.run(step, now);
        match (step, answer.outcome) {
            (Step::Lock { owner, .. }, Outcome::Locked) => self.owners.push(*owner),
            (
                Step::Publish {
                    owner,
                    known,
                    nonce,
                    ..
                },
                Outcome::Published,
            ) if !before.has(*nonce) => {
                assert!(
                    holder.is_none_or(|holder| holder == *owner),
                    "a write by somebody else than the lock's owner"
                );
                assert!(before.version() <= *known, "a write over a newer token");
                let had_it = self.owners.contains(owner) && self.owners.last() != Some(owner);
                self.unfenced += usize::from(holder.is_none() && had_it);
            }
            (Step::Release { .. }, _) => {}
            _ => return answer,
        }
        self.replica = before;
        self.lacks_publication = matches!(step, Step::Publish { .. });
        answer
    }

    /// Its clock jumps to so far from the true time; whoever has the lock may lose it.
    pub(crate) fn jump(&mut self, skew: i64, now: Millis) {
        let had = self.model.holder(now);
        self.model.ahead = AHEAD.saturating_add_signed(skew);
        self.fences += usize::from(had.is_some() && self.model.holder(now) != had);
    }

    /// The replica takes over: the last write is not there, and its clock is so far from the true time.
    pub(crate) fn fail_over(&mut self, skew: i64, now: Millis) {
        let had = self.model.holder(now);
        self.model = self.replica.clone();
        self.model.ahead = AHEAD.saturating_add_signed(skew);
        self.fences += usize::from(had.is_some() && self.model.holder(now) != had);
        self.undone += usize::from(std::mem::take(&mut self.lacks_publication));
    }

    /// It does nothing for a while.
    pub(crate) fn freeze(&mut self, span: Duration, now: Millis) {
        self.frozen_until = now.after(span);
    }

    /// The most steps in a second, after a minute in which all have started.
    pub(crate) fn peak(&self) -> u32 {
        let settled = self.by_second.iter().skip(60);
        settled.copied().max().unwrap_or_default()
    }

    /// In how many seconds of the day it was asked by more than a tenth of the Envoys.
    pub(crate) fn busy(&self, envoys: usize) -> Duration {
        let busy = |steps: &&u32| **steps as usize > envoys / 10;
        S * u32::try_from(self.by_second.iter().filter(busy).count()).expect("seconds")
    }

    /// All steps.
    pub(crate) fn steps(&self) -> u64 {
        self.by_second.iter().map(|steps| u64::from(*steps)).sum()
    }
}
