//! The life cycle and the store brought together: what an answer means for the token that is here, and what to ask next.

use super::{Command, Event, Shared, Todo};
use crate::config::WhenDown;
use crate::store::link::as_local;
use crate::store::{Answer, Outcome, Problem, Step};
use crate::time::Millis;
use crate::token::{self, Generation, Machine, Moment, Report};

impl Shared {
    pub(super) fn handle(
        &mut self,
        machine: &mut Machine,
        event: Event<'_>,
        moment: &Moment,
        todo: &mut Todo,
    ) {
        match event {
            Event::Timer => {}
            // By itself a rejection sends nothing: it is for the driver to say how many calls there may be at once.
            Event::Token(token::Event::Rejected(generation)) => {
                return self.handle_rejected(machine, generation, moment, todo);
            }
            Event::Token(event) => self.handle_token(machine, event, moment, todo),
            Event::Answered(answer) => self.handle_answer(machine, answer, moment, todo),
        }
        self.go_on(machine, moment, todo);
    }

    /// Somebody may have a newer token already: the store is asked first, where it answers and was not asked just now.
    fn handle_rejected(
        &mut self,
        machine: &mut Machine,
        generation: Generation,
        moment: &Moment,
        todo: &mut Todo,
    ) {
        if generation == machine.generation()
            && !machine.is_refreshing()
            && !self.link.is_silent(moment.now)
            && !self.link.is_fresh(moment.now)
        {
            self.rejected = Some(generation);
        } else {
            let event = token::Event::Rejected(generation);
            todo.add(machine.handle(event, moment));
        }
    }

    fn handle_token(
        &mut self,
        machine: &mut Machine,
        event: token::Event<'_>,
        moment: &Moment,
        todo: &mut Todo,
    ) {
        if matches!(event, token::Event::NotSent) {
            self.link.rest_after_unsent(moment.now);
        }
        let before = (machine.generation(), machine.end());
        let is_granted = matches!(event, token::Event::Granted { .. });
        let is_refused = matches!(event, token::Event::Failed(failure) if failure.is_for_all());
        todo.add(machine.handle(event, moment));
        if is_refused {
            self.link.keep_lock(machine.next_wakeup());
        }
        if is_granted && (machine.generation(), machine.end()) != before {
            let is_rival = self.is_exclusive && !machine.is_detour();
            self.link.owe(is_rival, moment.now, moment.sample);
        }
    }

    fn handle_answer(
        &mut self,
        machine: &mut Machine,
        answer: Result<Answer, Problem>,
        moment: &Moment,
        todo: &mut Todo,
    ) {
        let Some((step, asked_at)) = self.link.take_asked() else {
            return;
        };
        match answer {
            Ok(answer) => {
                if self.link.heard(&step, &answer, moment.now, moment.sample) {
                    todo.report(Report::StoreBack);
                }
                self.learn(machine, &step, &answer, asked_at, moment, todo);
                let is_wrong = self.meet(machine, &answer, asked_at, moment, todo);
                let is_live = machine.serve(moment.now).is_some();
                let window = machine.window().zip(machine.end()).filter(|_| is_live);
                self.link.pause(moment.now, window, moment.sample);
                self.link.suspect(is_wrong, moment.now);
            }
            Err(_) => {
                if self.link.missed(moment.now, moment.sample) {
                    todo.report(Report::StoreLost);
                }
            }
        }
        if let Some(generation) = self.rejected.take() {
            let event = token::Event::Rejected(generation);
            todo.add(machine.handle(event, moment));
        }
    }

    /// Compares what the store has with what is here.
    fn learn(
        &mut self,
        machine: &mut Machine,
        step: &Step,
        answer: &Answer,
        asked_at: Millis,
        moment: &Moment,
        todo: &mut Todo,
    ) {
        let link = &mut self.link;
        if answer.outcome == Outcome::Published {
            link.settle();
            link.learn(answer.version);
            if !answer.mirrors.is_empty() {
                link.owe_mirrors(moment.now);
            }
            todo.push(Command::Save);
        } else if answer.version > link.known() {
            link.learn(answer.version);
            // Ours came from a call beside the one whose token is there. Which of them WeChat answered last nobody can tell.
            let is_doubtful = link.owes_rival();
            link.settle();
            match &answer.token {
                Some(stored) => {
                    let token = as_local(stored, asked_at);
                    let event = token::Event::Adopted { token, is_doubtful };
                    todo.add(machine.handle(event, moment));
                }
                None => todo.push(Command::Save),
            }
        } else if *step == Step::Read && !link.owes() && answer.locked_for.is_none() {
            let here = machine.serve(moment.now).map(|token| &token.value);
            let there = answer.token.as_ref().map(|token| &token.value);
            let is_due = machine.next_wakeup() <= moment.now;
            if here.is_some() && here != there && !is_due && self.rejected.is_none() {
                link.owe(false, moment.now, moment.sample);
            }
        }
    }

    /// Does what is due now, one thing at a time.
    fn go_on(&mut self, machine: &mut Machine, moment: &Moment, todo: &mut Todo) {
        let now = moment.now;
        if self.link.is_asking() {
            if now < self.link.next_wakeup(now) {
                return;
            }
            let lost = Problem::Unreachable("the reply never came");
            self.handle_answer(machine, Err(lost), moment, todo);
            return self.go_on(machine, moment, todo);
        }
        if machine.is_refreshing() {
            return todo.add(machine.handle(token::Event::Timer, moment));
        }
        let is_due = machine.next_wakeup() <= now;
        if self.link.is_silent(now) {
            if is_due {
                // A call that is due goes round the store, or is withheld.
                let event = match self.when_down {
                    WhenDown::Stable => token::Event::Detour,
                    WhenDown::Hold => token::Event::Withheld,
                };
                todo.add(machine.handle(event, moment));
            }
            return;
        }
        if let Some(step) = self.next_step(machine, is_due, moment, todo) {
            self.link.asked(step.clone(), now);
            todo.push(Command::Ask(step));
        }
    }

    /// What to ask the store now, if anything; or makes the token call, where the lock is ours.
    fn next_step(
        &mut self,
        machine: &mut Machine,
        is_due: bool,
        moment: &Moment,
        todo: &mut Todo,
    ) -> Option<Step> {
        let now = moment.now;
        let link = &mut self.link;
        if self.rejected.is_some() {
            return Some(Step::Read);
        }
        let token = machine.serve(now);
        let owed = link.publish_step(now, token);
        if let Some(step) = owed.or_else(|| link.mirror_step(now, token)) {
            return Some(step);
        }
        if is_due && link.has_lock(now) {
            todo.add(machine.handle(token::Event::Timer, moment));
            if machine.is_refreshing() {
                return None;
            }
        } else if is_due {
            if let Some(step) = link.lock_step(now, moment.sample) {
                return Some(step);
            }
        }
        let read = link.wants_read(now).then_some(Step::Read);
        let is_refused = machine.trouble().is_some();
        link.release_step(now, is_refused).or(read)
    }
}
