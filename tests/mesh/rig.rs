//! Envoys that share a store, on a virtual clock: each does at once what its keeper says.

use std::time::Duration;

use super::model::Model;
use wechat_token::config::WhenDown;
use wechat_token::keeper::{Command, Event, Keeper, StorePolicy};
use wechat_token::record::AppRecord;
use wechat_token::secret::Secret;
use wechat_token::store::link::Pace;
use wechat_token::store::{Problem, Step};
use wechat_token::time::{Millis, UnixMillis};
use wechat_token::token::{self, Attempt, Backoff, Moment, Policy, Report, Sample};

pub(crate) const S: Duration = Duration::from_secs(1);
pub(crate) const LIFE: Duration = Duration::from_secs(7_200);
pub(crate) const CALL: Duration = Duration::from_secs(5);
pub(crate) const START: Millis = Millis(1_000_000);
/// The lead, and no jitter: when a token is refreshed.
pub(crate) const LEAD: Duration = Duration::from_secs(300);

/// Envoys that share a store, and the WeChat behind them. Answers come at once, unless a test holds them back.
pub(crate) struct Rig {
    pub(crate) now: Millis,
    pub(crate) luck: u64,
    pub(crate) store: Option<Model>,
    pub(crate) envoys: Vec<Envoy>,
    /// Token calls that were made.
    pub(crate) calls: Vec<Attempt>,
    pub(crate) holds_calls: bool,
}

pub(crate) struct Envoy {
    pub(crate) keeper: Keeper,
    /// What it was told to do, in words.
    pub(crate) log: Vec<&'static str>,
    pub(crate) reports: Vec<Report>,
}

pub(crate) fn rig(envoys: usize) -> Rig {
    rig_with(envoys, WhenDown::Stable)
}

pub(crate) fn rig_with(envoys: usize, when_down: WhenDown) -> Rig {
    let mut rig = Rig {
        now: START,
        luck: 1,
        store: Some(Model::ahead_by(1_700_000_000_000)),
        envoys: Vec::new(),
        calls: Vec::new(),
        holds_calls: false,
    };
    for _ in 0..envoys {
        rig.join(when_down, &AppRecord::default());
    }
    rig
}

/// How tokens are kept here.
pub(crate) fn policy(jitter: Duration) -> Policy {
    Policy {
        lead: LEAD,
        jitter,
        backoff: Backoff::default(),
        rejected_interval: 60 * S,
        secrets: 1,
        upstreams: 1,
        daily_budget: Some(1_000),
        call_timeout: CALL,
    }
}

/// On the classic endpoint.
pub(crate) fn store_policy(when_down: WhenDown) -> StorePolicy {
    StorePolicy {
        pace: Pace {
            step: S,
            call: CALL,
        },
        when_down,
        is_exclusive: true,
        adopts: false,
    }
}

impl Rig {
    pub(crate) fn join(&mut self, when_down: WhenDown, record: &AppRecord) {
        let store = store_policy(when_down);
        self.join_with(Some(store), record);
    }

    /// One more Envoy, that continues what `record` tells.
    pub(crate) fn join_with(&mut self, store: Option<StorePolicy>, record: &AppRecord) {
        let policy = policy(Duration::ZERO);
        let moment = self.moment();
        self.envoys.push(Envoy {
            keeper: Keeper::adopt(policy, store, record, &moment),
            log: Vec::new(),
            reports: Vec::new(),
        });
    }

    pub(crate) fn moment(&mut self) -> Moment {
        self.luck += 1;
        Moment {
            now: self.now,
            wall: UnixMillis(1_700_000_000_000),
            sample: Sample(self.luck).derive(7),
        }
    }

    /// Hands an event to an Envoy and does what it says, until there is nothing left.
    pub(crate) fn handle(&mut self, envoy: usize, event: Event<'_>) {
        let mut commands = {
            let moment = self.moment();
            self.envoys[envoy].keeper.handle(event, &moment)
        };
        while !commands.is_empty() {
            let mut next = Vec::new();
            for command in commands {
                let (word, event) = self.obey(envoy, command);
                self.envoys[envoy].log.push(word);
                if let Some(event) = event {
                    let moment = self.moment();
                    next.extend(self.envoys[envoy].keeper.handle(event, &moment));
                }
            }
            commands = next;
        }
    }

    pub(crate) fn obey(
        &mut self,
        envoy: usize,
        command: Command,
    ) -> (&'static str, Option<Event<'static>>) {
        match command {
            Command::Ask(step) => {
                let word = match step {
                    Step::Read => "read",
                    Step::Lock { .. } => "lock",
                    Step::Publish { .. } => "publish",
                    Step::Release { .. } => "release",
                    Step::Mirror { .. } => "mirror",
                };
                let answer = match &mut self.store {
                    Some(store) => Ok(store.run(&step, self.now)),
                    None => Err(Problem::Unreachable("no connection")),
                };
                (word, Some(Event::Answered(answer)))
            }
            Command::Fetch(attempt) => {
                self.calls.push(attempt);
                (
                    "call",
                    (!self.holds_calls).then(|| granted(self.calls.len())),
                )
            }
            Command::Publish => ("tell", None),
            Command::Save => ("save", None),
            Command::Report(report) => {
                self.envoys[envoy].reports.push(report);
                ("report", None)
            }
        }
    }

    pub(crate) fn tick(&mut self, envoy: usize) {
        self.handle(envoy, Event::Timer);
    }

    pub(crate) fn tick_all(&mut self) {
        for envoy in 0..self.envoys.len() {
            self.tick(envoy);
        }
    }

    /// Lets time pass, with a tick of each every quarter of a second.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        while self.now < end {
            self.now = self.now.after(Duration::from_millis(250)).min(end);
            self.tick_all();
        }
    }

    pub(crate) fn token(&self, envoy: usize) -> Option<&str> {
        let token = self.envoys[envoy].keeper.machine().serve(self.now)?;
        Some(token.value.expose())
    }

    pub(crate) fn tokens(&self) -> Vec<Option<&str>> {
        (0..self.envoys.len()).map(|n| self.token(n)).collect()
    }

    /// What an Envoy did since this was asked last.
    pub(crate) fn done(&mut self, envoy: usize) -> Vec<&'static str> {
        std::mem::take(&mut self.envoys[envoy].log)
    }

    pub(crate) fn rejected(&mut self, envoy: usize) {
        let generation = self.envoys[envoy].keeper.machine().generation();
        let event = token::Event::Rejected(generation);
        self.handle(envoy, Event::Token(event));
        // As the driver does it: what is due because of it begins at once.
        self.tick(envoy);
    }

    pub(crate) fn store(&self) -> &Model {
        self.store.as_ref().unwrap()
    }
}

pub(crate) fn granted(number: usize) -> Event<'static> {
    Event::Token(token::Event::Granted {
        token: Secret::new(format!("t{number}")),
        expires_in: LIFE,
    })
}
