//! The refresher: keeps the tokens of all apps whose lease it holds.
//!
//! It drives one [`Keeper`] per app: carries out its commands, writes its record under the lease, and tells the
//! workers. The singleton's root has one (primary), and so has every injector's root that knows the secrets (standby).

mod calls;
mod lease;
mod patrol;
mod report;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use self::calls::{Call, Fetch};
use self::patrol::Patrol;
use self::report::Gauges;
use crate::config::Config;
use crate::host::metrics::Metrics;
use crate::host::slot::Slot;
use crate::host::Host;
use crate::keeper::{Command, Event, Keeper};
use crate::time::Millis;
use crate::token::{self, Generation, Moment, Sample};

/// Calls on their way at once, to WeChat and to Redis: 1,000 apps must not become 1,000 connections.
const MOST_CALLS: usize = 32;

/// The apps whose tokens this root keeps, or would keep.
pub struct Refresher {
    config: Rc<Config>,
    index: BTreeMap<String, usize>,
    /// By the index of the app.
    kept: Vec<Option<Box<Kept>>>,
    /// When each kept app is due; `Millis(0)` for those that somebody waits for.
    schedule: BTreeSet<(Millis, usize)>,
    /// Calls on their way.
    calls: Vec<Call>,
    patrol: Patrol,
    /// When it was told last that Redis has failed, or is back: news that come to all apps at once.
    redis_failed_at: Option<Millis>,
    redis_back_at: Option<Millis>,
}

struct Kept {
    keeper: Keeper,
    term: u64,
    due: Millis,
    /// The status page knows how Redis is.
    has_noted_store: bool,
    /// What the gauges were told last; none since the lease was taken.
    told: Option<Gauges>,
}

impl Refresher {
    /// A refresher for the apps of `config` that have a secret.
    pub fn new(config: Rc<Config>) -> Refresher {
        let mut index = BTreeMap::new();
        for (n, app) in config.apps.iter().enumerate() {
            if !app.secrets.is_empty() {
                index.insert(app.appid.clone(), n);
            }
        }
        Refresher {
            index,
            kept: config.apps.iter().map(|_| None).collect(),
            schedule: BTreeSet::new(),
            calls: Vec::new(),
            patrol: Patrol::new(config.apps.len()),
            redis_failed_at: None,
            redis_back_at: None,
            config,
        }
    }

    /// Looks after leases, starts what is due, updates gauges.
    pub fn handle_tick<H: Host>(&mut self, host: &H, slot: &Slot, metrics: &mut Metrics) {
        self.end_failed(host, slot, metrics);
        let now = host.now();
        if self.patrol.is_due(now) {
            self.patrol(host, slot, now);
            self.gauge(host, slot, metrics);
        }
        self.start_due(host, slot, metrics);
    }

    /// Somebody waits for an app's first token: it goes to the front.
    pub fn handle_want<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        appid: &str,
    ) {
        let now = host.now();
        if let Some(app) = self.index.get(appid).copied() {
            if let Some(kept) = of_app(&mut self.kept, app) {
                if !kept.keeper.is_busy() && kept.keeper.next_wakeup() <= now {
                    self.schedule.remove(&(kept.due, app));
                    kept.due = Millis(0);
                    self.schedule.insert((Millis(0), app));
                }
            }
        }
        self.start_due(host, slot, metrics);
    }

    /// WeChat rejected a business call.
    pub fn handle_rejected<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        appid: &str,
        generation: Generation,
    ) {
        if let Some(app) = self.index.get(appid).copied() {
            let event = Event::Token(token::Event::Rejected(generation));
            self.drive(host, slot, metrics, app, event, "");
        }
        self.start_due(host, slot, metrics);
    }

    /// Gives all leases up without a word: the slot was lost.
    pub fn step_down(&mut self) {
        self.kept.fill_with(|| None);
        self.schedule.clear();
        self.calls.clear();
        self.patrol.restart();
    }

    fn start_due<H: Host>(&mut self, host: &H, slot: &Slot, metrics: &mut Metrics) {
        let now = host.now();
        while let Some((due, app)) = self.schedule.first().copied() {
            if due > now {
                return;
            }
            if self.calls.len() >= MOST_CALLS {
                // An app that is due while its call is on its way gets no answer any more: that call is lost.
                let kept = &self.kept;
                self.calls.retain(
                    |call| matches!(kept.get(call.app), Some(Some(kept)) if kept.due > now),
                );
                if self.calls.len() >= MOST_CALLS {
                    return;
                }
            }
            self.calls.retain(|call| call.app != app);
            self.drive(host, slot, metrics, app, Event::Timer, "");
            // Whatever happened, the app must not stay at the front unchanged.
            if self.schedule.first() == Some(&(due, app)) {
                return;
            }
        }
    }

    /// Hands an event to an app's keeper and carries out what it says; `why` is what the log says of a failure.
    fn drive<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        app: usize,
        event: Event<'_>,
        why: &str,
    ) {
        let config = Rc::clone(&self.config);
        let Some(entry) = config.apps.get(app) else {
            return;
        };
        let Some(kept) = of_app(&mut self.kept, app) else {
            return;
        };
        let commands = kept.keeper.handle(event, &moment(host));
        for command in commands {
            match command {
                Command::Publish | Command::Save => {
                    if !self.save(host, slot, app, entry, command == Command::Publish) {
                        return;
                    }
                }
                Command::Report(report) => self.report(host, metrics, app, entry, report, why),
                Command::Ask(step) => {
                    if let Err(problem) = self.ask(host, app, entry, &step) {
                        let why = problem.to_string();
                        let event = Event::Answered(Err(problem));
                        self.drive(host, slot, metrics, app, event, &why);
                    }
                }
                Command::Fetch(attempt) => match self.fetch(host, slot, app, entry, attempt) {
                    Ok(()) => {}
                    Err(Fetch::LeaseLost) => return self.drop_app(app),
                    Err(Fetch::NotSent) => {
                        let event = Event::Token(token::Event::NotSent);
                        self.drive(host, slot, metrics, app, event, "");
                    }
                },
            }
        }
        self.reschedule(app);
    }

    /// Whether it keeps any app.
    #[cfg(feature = "trap")]
    pub fn is_holder(&self) -> bool {
        self.kept.iter().any(Option::is_some)
    }

    fn kept(&self, app: usize) -> Option<&Kept> {
        self.kept.get(app)?.as_deref()
    }

    fn reschedule(&mut self, app: usize) {
        if let Some(kept) = of_app(&mut self.kept, app) {
            let due = kept.keeper.next_wakeup();
            self.schedule.remove(&(kept.due, app));
            kept.due = due;
            self.schedule.insert((due, app));
        }
    }
}

/// What is kept of an app; not a method, so that other fields can be borrowed meanwhile.
fn of_app(kept: &mut [Option<Box<Kept>>], app: usize) -> Option<&mut Kept> {
    kept.get_mut(app)?.as_deref_mut()
}

fn moment<H: Host>(host: &H) -> Moment {
    Moment {
        now: host.now(),
        wall: host.wall(),
        sample: Sample(host.random()),
    }
}
