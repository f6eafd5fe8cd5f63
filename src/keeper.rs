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
            }),
        }
    }

    /// Takes an event and says what is to be done.
    pub fn handle(&mut self, event: Event<'_>, moment: &Moment) -> Vec<Command> {
        let mut todo = Todo::default();
        match (&mut self.shared, event) {
            (Some(shared), event) => shared.handle(&mut self.machine, event, moment, &mut todo),
            (None, Event::Timer) => {
                todo.add(self.machine.handle(token::Event::Timer, moment));
            }
            (None, Event::Token(event)) => todo.add(self.machine.handle(event, moment)),
            (None, Event::Answered(_)) => {}
        }
        todo.0
    }

    /// When [`Event::Timer`] has something to do.
    pub fn next_wakeup(&self) -> Millis {
        let machine = self.machine.next_wakeup();
        match &self.shared {
            Some(shared) if shared.link.is_asking() => shared.link.next_wakeup(machine),
            Some(_) if self.machine.is_refreshing() => machine,
            Some(shared) if shared.rejected.is_some() => Millis(0),
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
}

impl Shared {
    fn handle(
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
        todo.add(machine.handle(event, moment));
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
                let is_live = machine.serve(moment.now).is_some();
                let window = machine.window().filter(|_| is_live);
                self.link.pause(moment.now, window, moment.sample);
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
        if let Some(step) = link.publish_step(now, machine.serve(now)) {
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
        link.release_step(now).or(read)
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
