//! The never-list, checked after every step: at each write of a record, each call, each request that leaves, and on time.

use std::collections::BTreeMap;

use wechat_token::record::AppRecord;

use super::plan::{Setup, APPS, THRIFTY};
use super::wechat::WeChat;

/// What a run must never do, and what it did so far.
#[derive(Debug, Default)]
pub struct Checks {
    /// The first rule that was broken.
    pub violation: Option<String>,
    /// What was seen, to prove that the run was worth something.
    pub seen: Seen,
    published: BTreeMap<(usize, u64), String>,
    generations: BTreeMap<String, u64>,
    /// Per app: the newest generation of which the epoch told.
    announced: [u64; APPS.len()],
    flights: [Option<Flight>; APPS.len()],
    last_early: [Option<u64>; APPS.len()],
    /// Calls of the thrifty app before and after midnight.
    spent: [u32; 2],
    workers: BTreeMap<usize, Worker>,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Generations per app.
    pub generations: [u64; APPS.len()],
    /// Requests that left with a token.
    pub injected: u64,
    /// Requests that WeChat took.
    pub accepted: u64,
    /// Requests that were parked.
    pub parked: u64,
    /// Requests that were resent.
    pub resent: u64,
    /// Answers of the plugin itself.
    pub replies: u64,
    /// Token calls.
    pub calls: u64,
    /// Refreshes caused by rejections.
    pub early: u64,
    /// Days on which the thrifty app's budget was spent.
    pub budgets: u64,
    /// Times that a lease changed its holder.
    pub takeovers: u64,
    /// Writes that lost the compare-and-swap.
    pub lost_writes: u64,
}

#[derive(Debug, Default)]
struct Worker {
    /// When the last tick that has ended had begun.
    ticked: Option<u64>,
    /// What it must know since that tick.
    known: [u64; APPS.len()],
    /// The newest generation that left.
    left: [u64; APPS.len()],
}

#[derive(Debug)]
struct Flight {
    call: u32,
    until: u64,
}

/// What a tick that begins will have to have seen.
#[derive(Clone, Copy, Debug)]
pub struct TickMark {
    at: u64,
    announced: [u64; APPS.len()],
}

impl Checks {
    /// Notes the first violation.
    pub fn fail(&mut self, now: u64, what: String) {
        self.violation
            .get_or_insert_with(|| format!("at {now} ms: {what}"));
    }

    /// A record is replaced.
    pub fn record(
        &mut self,
        now: u64,
        app: usize,
        old: &AppRecord,
        new: &AppRecord,
        wechat: &WeChat,
    ) {
        let name = APPS[app];
        let (g, was) = (new.generation.0, old.generation.0);
        if new.term < old.term || g < was {
            self.fail(
                now,
                format!(
                    "{name}: the record goes back from term {}, generation {was} to {}, {g}",
                    old.term, new.term
                ),
            );
        }
        if new.term > old.term && old.term > 0 {
            self.seen.takeovers += 1;
        }
        let Some(token) = &new.token else {
            if old.token.is_some() {
                self.fail(
                    now,
                    format!("{name}: the token of generation {was} is forgotten"),
                );
            }
            return;
        };
        let value = token.value.expose();
        let Some(issued) = wechat.issued(value) else {
            return self.fail(
                now,
                format!("{name}: publishes {value}, which WeChat never made"),
            );
        };
        if issued.app != app {
            self.fail(now, format!("{name}: publishes {value} of another app"));
        }
        if token.deadline.0 > issued.expires {
            self.fail(
                now,
                format!(
                    "{name}: {value} counts as live until {}, but expires at {}",
                    token.deadline.0, issued.expires
                ),
            );
        }
        let known = self
            .published
            .entry((app, g))
            .or_insert_with(|| value.to_owned());
        if known != value {
            let known = known.clone();
            self.fail(
                now,
                format!("{name}: generation {g} is both {known} and {value}"),
            );
        }
        self.generations.insert(value.to_owned(), g);
        self.seen.generations[app] = self.seen.generations[app].max(g);
        let before = old
            .token
            .as_ref()
            .and_then(|token| wechat.issued(token.value.expose()));
        if before.is_some_and(|before| before.number > issued.number) {
            self.fail(now, format!("{name}: {value} replaces a newer token"));
        }
    }

    /// The epoch was raised for a change of an app's record.
    pub fn announced(&mut self, app: usize) {
        self.announced[app] = self.seen.generations[app];
    }

    /// A token call is sent while the app's record is `record`.
    pub fn call(
        &mut self,
        now: u64,
        app: usize,
        call: u32,
        record: &AppRecord,
        setup: &Setup,
        wechat: &WeChat,
    ) {
        let name = APPS[app];
        self.seen.calls += 1;
        if self.flights[app]
            .as_ref()
            .is_some_and(|flight| flight.until > now)
        {
            self.fail(now, format!("{name}: a second token call is in flight"));
        }
        self.flights[app] = Some(Flight {
            call,
            until: now + setup.call_timeout,
        });
        if app == THRIFTY {
            self.spend(now, setup);
        }
        let Some(token) = &record.token else {
            return;
        };
        // Beyond the lead, and not to mend a failure: only a rejection explains this call.
        if now + setup.lead >= token.deadline.0 || record.trouble.is_some() {
            return;
        }
        self.seen.early += 1;
        if !wechat.rejected.contains(token.value.expose()) {
            self.fail(
                now,
                format!("{name}: a fresh token that WeChat never rejected is refreshed"),
            );
        }
        if self.last_early[app].is_some_and(|last| now < last + setup.rejected_interval) {
            self.fail(
                now,
                format!(
                    "{name}: rejections cause more refreshes than one per {} ms",
                    setup.rejected_interval
                ),
            );
        }
        self.last_early[app] = Some(now);
    }

    fn spend(&mut self, now: u64, setup: &Setup) {
        let calls = &mut self.spent[usize::from(now >= setup.midnight)];
        *calls += 1;
        let (calls, budget) = (*calls, setup.budget);
        self.seen.budgets += u64::from(calls == budget);
        if calls > budget {
            let what = format!(
                "{}: {calls} token calls in a day exceed its budget of {budget}",
                APPS[THRIFTY]
            );
            self.fail(now, what);
        }
    }

    /// A token call was answered, or counts as over.
    pub fn call_ended(&mut self, app: usize, call: u32) {
        if self.flights[app]
            .as_ref()
            .is_some_and(|flight| flight.call == call)
        {
            self.flights[app] = None;
        }
    }

    /// A tick begins.
    pub fn tick_begins(&self, now: u64) -> TickMark {
        TickMark {
            at: now,
            announced: self.announced,
        }
    }

    /// The tick has ended.
    pub fn tick_ended(&mut self, vm: usize, mark: TickMark) {
        let worker = self.workers.entry(vm).or_default();
        worker.ticked = Some(mark.at);
        worker.known = mark.announced;
    }

    /// A request of `app` leaves with the token `value` that the plugin just set.
    pub fn leaves(&mut self, now: u64, vm: usize, app: usize, value: &str, wechat: &WeChat) {
        let name = APPS[app];
        self.seen.injected += 1;
        let Some(issued) = wechat.issued(value) else {
            return self.fail(
                now,
                format!("{name}: a request leaves with {value}, which WeChat never made"),
            );
        };
        if issued.app != app {
            return self.fail(
                now,
                format!("{name}: a request leaves with {value} of another app"),
            );
        }
        let worker = self.workers.entry(vm).or_default();
        let (ticked, known) = (worker.ticked, worker.known[app]);
        let generation = self.generations.get(value).copied().unwrap_or_default();
        let newest = worker.left[app];
        worker.left[app] = newest.max(generation);
        if generation < newest {
            self.fail(
                now,
                format!("{name}: vm {vm} goes back from generation {newest} to {generation}"),
            );
        }
        if generation < known {
            self.fail(now, format!("{name}: vm {vm} uses generation {generation} a tick after {known} was announced"));
        }
        if ticked.is_some_and(|ticked| ticked >= issued.expires) {
            self.fail(
                now,
                format!(
                    "{name}: vm {vm} uses {value}, expired at {}, after a tick",
                    issued.expires
                ),
            );
        }
    }
}
