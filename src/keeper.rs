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
//! Keys for neighbours are written after a publication, and read with every step: whoever keeps a token there that the
//! mesh never had has refreshed by itself.
//!
//! Like the machine it reads no clock and makes no call, and spurious events do no harm.

mod neighbours;
mod shared;

use crate::config::{App, Config, TokenApi, WhenDown};
use crate::record::AppRecord;
use crate::store::link::{Link, Pace};
use crate::store::{Answer, Problem, Step, Version};
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
    adopts: bool,
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
    /// A newer token that a neighbour wrote is taken over.
    pub adopts: bool,
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
            adopts: redis.adopt,
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
                adopts: store.adopts,
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
