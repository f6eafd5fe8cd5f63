//! What keeps one app's token: its life cycle ([`Machine`]), and its side of the shared store ([`Link`]) where there is one.
//!
//! Without a store, events and commands pass through. With one, a token call is the last resort:
//!
//! 1. A call is due: lock. The same step says whether somebody else was faster; then its token is taken over.
//! 2. The lock is ours: the call may be made. What it brings is served here at once, and published.
//! 3. The lock is somebody else's: try again in about a second, until the version moves or the lock ends.
//! 4. The store is silent: `when_down` decides between `stable_token`, which needs nobody's consent, and waiting.
//!
//! Between calls the store is read: what is newer is taken over, and what the store has lost, or could not be told, is
//! published again by whoever still has it. A token that WeChat rejected makes the store be read first.
//!
//! Like the machine it reads no clock and makes no call, and spurious events do no harm.

use crate::config::{App, Config, TokenApi, WhenDown};
use crate::record::AppRecord;
use crate::store::link::{as_local, Link, Pace};
use crate::store::{Answer, Outcome, Problem, Step, Version};
use crate::time::Millis;
use crate::token::{self, Attempt, Generation, Machine, Moment, Policy, Report};

/// What happened to an app.
#[derive(Debug)]
pub enum Event<'a> {
    /// Time has passed, or something changed: something to do if [`Keeper::next_wakeup`] is reached.
    Timer,
    /// What became of a token call, or of a business call.
    Token(token::Event<'a>),
    /// What became of a [`Command::Ask`].
    Answered(Result<Answer, Problem>),
}

/// What the driver has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask WeChat for a token; report what became of it as [`Event::Token`].
    Fetch(Attempt),
    /// Ask the store; report [`Event::Answered`].
    Ask(Step),
    /// Write the record and tell the workers.
    Publish,
    /// Write the record; there is nothing in it for the workers.
    Save,
    /// For the log.
    Report(Report),
}

/// One app's token and whatever keeps it.
#[derive(Debug)]
pub struct Keeper {
    machine: Machine,
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    link: Link,
    when_down: WhenDown,
    /// A rejection that waits for the store's word.
    rejected: Option<Generation>,
    is_exclusive: bool,
    /// The token call on its way went round the store.
    is_detour: bool,
}

/// What the keeper needs to know of a store.
#[derive(Clone, Copy, Debug)]
pub struct StorePolicy {
    /// How long things may take.
    pub pace: Pace,
    /// What happens while the store is silent.
    pub when_down: WhenDown,
    /// Each call ends the token before: the classic endpoint.
    pub is_exclusive: bool,
}

impl StorePolicy {
    /// The policy of `app`, where a store is configured.
    pub fn new(config: &Config, app: &App) -> Option<StorePolicy> {
        config.redis.as_ref().map(|redis| StorePolicy {
            pace: Pace {
                step: redis.timeout,
                call: config.call_timeout,
            },
            when_down: redis.when_down,
            is_exclusive: app.token_api == TokenApi::Classic,
        })
    }
}

impl Keeper {
    /// A keeper that continues what `record` tells.
    pub fn adopt(
        policy: Policy,
        store: Option<StorePolicy>,
        record: &AppRecord,
        moment: &Moment,
    ) -> Keeper {
        Keeper {
            machine: Machine::adopt(policy, record, moment),
            shared: store.map(|store| Shared {
                link: Link::new(store.pace, record.version),
                when_down: store.when_down,
                rejected: None,
                is_exclusive: store.is_exclusive,
                is_detour: false,
            }),
        }
    }

    /// Takes an event and says what is to be done.
    pub fn handle(&mut self, event: Event<'_>, moment: &Moment) -> Vec<Command> {
        let mut todo = Todo::default();
        match event {
            Event::Timer => {}
            Event::Token(event) => self.handle_token(event, moment, &mut todo),
            Event::Answered(answer) => self.handle_answer(answer, moment, &mut todo),
        }
        self.go_on(moment, &mut todo);
        todo.0
    }

    /// When [`Event::Timer`] has something to do.
    pub fn next_wakeup(&self) -> Millis {
        let machine = self.machine.next_wakeup();
        match &self.shared {
            Some(shared) if self.machine.is_refreshing() && !shared.link.is_asking() => machine,
            Some(shared) => shared.link.next_wakeup(machine),
            None => machine,
        }
    }

    /// The life cycle.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The newest version that is known of the store.
    pub fn version(&self) -> Version {
        let shared = self.shared.as_ref();
        shared.map_or(Version::default(), |shared| shared.link.known())
    }

    /// Whether a call of any kind is on its way.
    pub fn is_busy(&self) -> bool {
        let is_asking = |shared: &Shared| shared.link.is_asking();
        self.machine.is_refreshing() || self.shared.as_ref().is_some_and(is_asking)
    }

    /// Writes what is known into `record`, see [`Machine::store`].
    pub fn store(&self, record: &mut AppRecord) {
        self.machine.store(record);
        record.version = self.version();
    }

    fn handle_token(&mut self, event: token::Event<'_>, moment: &Moment, todo: &mut Todo) {
        let Some(shared) = &mut self.shared else {
            return todo.add(self.machine.handle(event, moment));
        };
        match event {
            // Somebody may have a newer token already.
            token::Event::Rejected(generation)
                if generation == self.machine.generation()
                    && !self.machine.is_refreshing()
                    && !shared.link.is_silent(moment.now)
                    && !shared.link.is_fresh(moment.now) =>
            {
                shared.rejected = Some(generation);
            }
            token::Event::Granted { .. } => {
                let before = (self.machine.generation(), self.machine.end());
                todo.add(self.machine.handle(event, moment));
                if (self.machine.generation(), self.machine.end()) != before {
                    let is_rival = shared.is_exclusive && !shared.is_detour;
                    shared.link.owe(is_rival, moment.now, moment.sample);
                }
            }
            token::Event::NotSent => {
                shared.link.rest_after_unsent(moment.now);
                todo.add(self.machine.handle(event, moment));
            }
            event => todo.add(self.machine.handle(event, moment)),
        }
    }

    fn handle_answer(&mut self, answer: Result<Answer, Problem>, moment: &Moment, todo: &mut Todo) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let Some((step, asked_at)) = shared.link.take_asked() else {
            return;
        };
        match answer {
            Ok(answer) => {
                if shared.link.heard(&step, &answer, moment.now, moment.sample) {
                    todo.report(Report::StoreBack);
                }
                self.learn(&step, &answer, asked_at, moment, todo);
                self.plan_read(moment);
            }
            Err(_) => {
                if shared.link.missed(moment.now, moment.sample) {
                    todo.report(Report::StoreLost);
                }
            }
        }
        self.settle_rejection(moment, todo);
    }

    /// Compares what the store has with what is here.
    fn learn(
        &mut self,
        step: &Step,
        answer: &Answer,
        asked_at: Millis,
        moment: &Moment,
        todo: &mut Todo,
    ) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let link = &mut shared.link;
        if answer.outcome == Outcome::Published {
            link.settle();
            link.learn(answer.version);
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
                    todo.add(self.machine.handle(event, moment));
                }
                None => todo.push(Command::Save),
            }
        } else if *step == Step::Read && !link.owes() && answer.locked_for.is_none() {
            let here = self.machine.serve(moment.now).map(|token| &token.value);
            let there = answer.token.as_ref().map(|token| &token.value);
            let is_due = self.machine.next_wakeup() <= moment.now;
            if here.is_some() && here != there && !is_due && shared.rejected.is_none() {
                link.owe(false, moment.now, moment.sample);
            }
        }
    }

    /// The store is silent: a call that is due goes round it, or is withheld.
    fn do_without(&mut self, moment: &Moment, todo: &mut Todo) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let event = match shared.when_down {
            WhenDown::Stable => token::Event::Detour,
            WhenDown::Hold => token::Event::Withheld,
        };
        shared.is_detour = true;
        todo.add(self.machine.handle(event, moment));
    }

    /// A rejection waits until the store was asked whether somebody has a newer token already.
    fn settle_rejection(&mut self, moment: &Moment, todo: &mut Todo) {
        let rejected = self
            .shared
            .as_mut()
            .and_then(|shared| shared.rejected.take());
        if let Some(generation) = rejected {
            let event = token::Event::Rejected(generation);
            todo.add(self.machine.handle(event, moment));
        }
    }

    /// Does what is due now, one thing at a time.
    fn go_on(&mut self, moment: &Moment, todo: &mut Todo) {
        let now = moment.now;
        let Some(shared) = &mut self.shared else {
            return todo.add(self.machine.handle(token::Event::Timer, moment));
        };
        if shared.link.is_asking() {
            if now < shared.link.next_wakeup(now) {
                return;
            }
            let lost = Problem::Unreachable("the reply never came");
            self.handle_answer(Err(lost), moment, todo);
            return self.go_on(moment, todo);
        }
        if self.machine.is_refreshing() {
            return todo.add(self.machine.handle(token::Event::Timer, moment));
        }
        let is_due = self.machine.next_wakeup() <= now;
        if shared.link.is_silent(now) {
            if is_due {
                self.do_without(moment, todo);
            }
            return;
        }
        if let Some(step) = self.next_step(is_due, moment, todo) {
            self.ask(step, now, todo);
        }
    }

    /// What to ask the store now, if anything; or makes the token call, where the lock is ours.
    fn next_step(&mut self, is_due: bool, moment: &Moment, todo: &mut Todo) -> Option<Step> {
        let now = moment.now;
        let shared = self.shared.as_mut()?;
        let link = &mut shared.link;
        if shared.rejected.is_some() {
            return Some(Step::Read);
        }
        if let Some(step) = link.publish_step(now, self.machine.serve(now)) {
            return Some(step);
        }
        if is_due && link.has_lock(now) {
            shared.is_detour = false;
            todo.add(self.machine.handle(token::Event::Timer, moment));
            if self.machine.is_refreshing() {
                return None;
            }
        } else if is_due {
            if let Some(step) = link.lock_step(now, moment.sample) {
                return Some(step);
            }
        }
        let read = link.wants_read(now).then_some(Step::Read);
        link.release_step(now).or(read)
    }

    fn ask(&mut self, step: Step, now: Millis, todo: &mut Todo) {
        if let Some(shared) = &mut self.shared {
            shared.link.asked(step.clone(), now);
            todo.push(Command::Ask(step));
        }
    }

    fn plan_read(&mut self, moment: &Moment) {
        let is_live = self.machine.serve(moment.now).is_some();
        let window = self.machine.window().filter(|_| is_live);
        if let Some(shared) = &mut self.shared {
            shared.link.pause(moment.now, window, moment.sample);
        }
    }
}

/// What has to be done, in its order.
#[derive(Default)]
struct Todo(Vec<Command>);

impl Todo {
    fn push(&mut self, command: Command) {
        self.0.push(command);
    }

    fn report(&mut self, report: Report) {
        self.push(Command::Report(report));
    }

    fn add(&mut self, commands: Vec<token::Command>) {
        self.0
            .extend(commands.into_iter().map(|command| match command {
                token::Command::Fetch(attempt) => Command::Fetch(attempt),
                token::Command::Publish => Command::Publish,
                token::Command::Report(report) => Command::Report(report),
            }));
    }
}
