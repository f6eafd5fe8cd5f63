//! The fake WeChat's state behind one lock: apps, the book of tokens, the script of faults and the report.
//!
//! The lock is held for short computations only, never over an await.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use rand::RngExt as _;
use serde_json::Value;
use tokio::sync::watch;

use super::faults::{Plan, Script};
use super::report::{Call, Outcome, Report, Rule, TokenCall, Violation};
use super::request::Received;
use super::seen::{show_headers, Seen};
use super::settings::{App, Settings};
use super::tokens::{Book, TokenApi};

/// How many of the last calls are kept.
const CALLS_KEPT: usize = 4_096;
/// How many violations are kept.
const VIOLATIONS_KEPT: usize = 1_000;
/// How many token calls are logged.
const TOKEN_LOG_KEPT: usize = 100_000;
/// How many different paths the report tells apart.
const PATHS_KEPT: usize = 10_000;
/// Shorter words are not looked up as tokens or secrets.
const SHORTEST_LEAK: usize = 8;

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    world: Mutex<World>,
    /// `true` holds all token calls.
    pub(super) gate: watch::Sender<bool>,
    pub(super) started: Instant,
    pub(super) png: Bytes,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) apps: HashMap<Arc<str>, App>,
    pub(super) secrets: HashSet<String>,
    pub(super) book: Book,
    pub(super) script: Script,
    pub(super) report: Report,
    calls: VecDeque<Seen>,
    /// The queries of refused calls, whole, by the `rid` in their answer; the last ones.
    refused: VecDeque<(String, String)>,
    in_flight: HashMap<String, u32>,
    in_flight_total: u32,
    /// Counts resets, so that a call that began before one does not write into the log after it.
    resets: u64,
}

/// What became of a token call, see [`TokenCall`].
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) outcome: Outcome,
    pub(super) token: Option<u64>,
    pub(super) expires_in: Option<u64>,
}

/// A token call in flight. Dropping it ends the call, also when the caller hung up.
#[derive(Debug)]
pub(super) struct TokenCallGuard {
    shared: Arc<Shared>,
    appid: String,
    index: Option<usize>,
    resets: u64,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        png.resize(settings.png_bytes.max(png.len()), 0x5a);
        let world = World::new(settings);
        Self {
            world: Mutex::new(world),
            gate: watch::Sender::new(false),
            started: Instant::now(),
            png: png.into(),
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_millis() as u64
    }

    pub(super) fn report(&self) -> Report {
        let uptime_ms = self.ms(Instant::now());
        Report {
            uptime_ms,
            ..self.world().report.clone()
        }
    }

    /// Every token and secret that ever was.
    pub(super) fn leaks(&self) -> Vec<String> {
        let world = self.world();
        let mut leaks = world.book.tokens();
        leaks.extend(world.secrets.iter().cloned());
        leaks
    }

    /// The last `tail` calls, oldest first, tokens and secrets shortened.
    pub(super) fn calls(&self, tail: usize) -> Vec<Call> {
        let world = self.world();
        let last = world.last_calls(tail);
        last.map(|seen| seen.show(self.ms(seen.at), |text| world.redact(text)))
            .collect()
    }

    /// The same as they came.
    pub(super) fn raw_calls(&self, tail: usize) -> Vec<Call> {
        let world = self.world();
        let last = world.last_calls(tail);
        last.map(|seen| seen.show(self.ms(seen.at), str::to_owned))
            .collect()
    }

    pub(super) fn violation(
        &self,
        world: &mut World,
        rule: Rule,
        path: &str,
        detail: &str,
        late: Option<Duration>,
    ) {
        world.report.violations_total += 1;
        if world.report.violations.len() < VIOLATIONS_KEPT {
            world.report.violations.push(Violation {
                at_ms: self.ms(Instant::now()),
                rule,
                path: path.to_owned(),
                detail: detail.to_owned(),
                late_ms: late.map(|late| late.as_millis() as u64),
            });
        }
    }

    /// Begins a token call: counts it and its neighbours in flight.
    pub(super) fn enter_token_call(
        self: &Arc<Self>,
        api: TokenApi,
        appid: &str,
        path: &str,
    ) -> TokenCallGuard {
        let mut world = self.world();
        let in_flight = world.in_flight.entry(appid.to_owned()).or_default();
        *in_flight += 1;
        let in_flight = *in_flight;
        world.in_flight_total += 1;
        let in_flight_total = world.in_flight_total;
        let report = &mut world.report;
        report.token_calls += 1;
        report.token_calls_at_once_max = report.token_calls_at_once_max.max(in_flight_total);
        report.token_calls_in_flight_max = report.token_calls_in_flight_max.max(in_flight);
        let app = report.apps.entry(appid.to_owned()).or_default();
        app.token_calls += 1;
        app.in_flight_max = app.in_flight_max.max(in_flight);
        let index = report.token_log.len();
        let logged = index < TOKEN_LOG_KEPT;
        if logged {
            report.token_log.push(TokenCall {
                at_ms: self.ms(Instant::now()),
                ended_ms: None,
                api,
                appid: appid.to_owned(),
                outcome: Outcome::Pending,
                token: None,
                expires_in: None,
            });
        }
        if in_flight > world.settings.parallel_token_calls {
            let detail = format!("{in_flight} token calls of {appid} in flight");
            self.violation(&mut world, Rule::ParallelTokenCalls, path, &detail, None);
        }
        let resets = world.resets;
        TokenCallGuard {
            shared: Arc::clone(self),
            appid: appid.to_owned(),
            index: logged.then_some(index),
            resets,
        }
    }
}

impl World {
    fn new(settings: Settings) -> Self {
        let mut script = Script::default();
        for fault in &settings.faults {
            script.arm(fault.clone(), Instant::now());
        }
        let mut world = Self {
            apps: HashMap::new(),
            secrets: HashSet::new(),
            book: Book::new(&settings),
            script,
            report: Report::default(),
            calls: VecDeque::new(),
            refused: VecDeque::new(),
            in_flight: HashMap::new(),
            in_flight_total: 0,
            resets: 0,
            settings,
        };
        for app in std::mem::take(&mut world.settings.apps) {
            world.put_app(app);
        }
        world
    }

    /// Adds an app or puts it in the place of the one with the same id. Old secrets stay known as secrets.
    pub(super) fn put_app(&mut self, app: App) {
        self.secrets.extend(app.secrets.iter().cloned());
        self.apps.insert(Arc::from(app.appid.as_str()), app);
    }

    /// Forgets what was counted and the faults; `tokens` also forgets every token.
    pub(super) fn reset(&mut self, tokens: bool) {
        self.report = Report::default();
        self.calls.clear();
        self.script.clear();
        self.resets += 1;
        if tokens {
            self.book = Book::new(&self.settings);
        }
    }

    /// Keeps a refused call for who asks for it, and gives it a `rid`.
    pub(super) fn refuse(&mut self, request: &Received) -> String {
        let mut rng = rand::rng();
        let [a, b, c] = rng.random::<[u32; 3]>();
        let rid = format!("{a:08x}-{b:08x}-{c:08x}");
        if self.refused.len() == 100 {
            self.refused.pop_front();
        }
        let query = request.parts.uri.query().unwrap_or_default();
        self.refused.push_back((rid.clone(), query.to_owned()));
        rid
    }

    /// The query of the refused call that a request asks for: `{"rid": "…"}`.
    pub(super) fn refused(&self, request: &Received) -> Option<&str> {
        let body: Value = serde_json::from_slice(&request.body_head).ok()?;
        let mut known = self.refused.iter();
        let (_, query) = known.find(|(rid, _)| body["rid"] == rid.as_str())?;
        Some(query)
    }

    /// What the script says about a call; counts it.
    pub(super) fn plan(&mut self, token: bool, appid: &str, path: &str) -> Plan {
        let plan = self.script.plan(token, appid, path, Instant::now());
        for name in &plan.names {
            *self.report.faults.entry((*name).to_owned()).or_default() += 1;
        }
        plan
    }

    /// Counts a finished call and keeps it.
    pub(super) fn record(&mut self, path: &str, seen: Seen) {
        let known =
            self.report.endpoints.contains_key(path) || self.report.endpoints.len() < PATHS_KEPT;
        let path = if known { path } else { "(more)" };
        match self
            .report
            .endpoints
            .get_mut(path)
            .and_then(|results| results.get_mut(&seen.result))
        {
            Some(count) => *count += 1,
            None => {
                let results = self.report.endpoints.entry(path.to_owned()).or_default();
                results.insert(seen.result.clone(), 1);
            }
        }
        if self.calls.len() == CALLS_KEPT {
            self.calls.pop_front();
        }
        self.calls.push_back(seen);
    }

    /// `text` with every token and secret that this WeChat knows shortened to its first characters.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            let (run, tail) = rest.split_at(end);
            if self.is_leak(run) {
                shown.extend(run.chars().take(6));
                shown.push_str("...");
            } else {
                shown.push_str(run);
            }
            let next = tail.find(word).unwrap_or(tail.len());
            shown.push_str(&tail[..next]);
            rest = &tail[next..];
        }
        shown
    }

    /// Whether a token or a secret stands in `text`.
    pub(super) fn leaks(&self, text: &[u8]) -> bool {
        let runs = text.split(|byte| !word(char::from(*byte)));
        runs.filter_map(|run| std::str::from_utf8(run).ok())
            .any(|run| self.is_leak(run))
    }

    fn is_leak(&self, run: &str) -> bool {
        run.len() >= SHORTEST_LEAK && (self.book.knows(run) || self.secrets.contains(run))
    }

    pub(super) fn show_headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        show_headers(headers, |text| self.redact(text))
    }

    fn last_calls(&self, tail: usize) -> impl Iterator<Item = &Seen> {
        let skip = self.calls.len().saturating_sub(tail);
        self.calls.iter().skip(skip)
    }
}

impl Settled {
    /// Without a token.
    pub(super) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            token: None,
            expires_in: None,
        }
    }
}

impl TokenCallGuard {
    /// Counts a new token, also where a fault keeps it from the caller.
    pub(super) fn count_token(&self) {
        let mut world = self.shared.world();
        let app = world.report.apps.entry(self.appid.clone()).or_default();
        app.tokens_made += 1;
    }

    /// Writes what became of the call; without this it counts as abandoned.
    pub(super) fn settle(&self, settled: Settled) {
        let mut world = self.shared.world();
        if let Some(call) = self.logged(&mut world) {
            call.outcome = settled.outcome;
            call.token = settled.token;
            call.expires_in = settled.expires_in;
        }
    }

    fn logged<'a>(&self, world: &'a mut World) -> Option<&'a mut TokenCall> {
        let same = self.resets == world.resets;
        self.index
            .filter(|_| same)
            .and_then(|index| world.report.token_log.get_mut(index))
    }
}

impl Drop for TokenCallGuard {
    fn drop(&mut self) {
        let ended = self.shared.ms(Instant::now());
        let mut world = self.shared.world();
        if let Some(in_flight) = world.in_flight.get_mut(&self.appid) {
            *in_flight -= 1;
        }
        world.in_flight_total -= 1;
        if let Some(call) = self.logged(&mut world) {
            call.ended_ms = Some(ended);
            if call.outcome == Outcome::Pending {
                call.outcome = Outcome::Abandoned;
            }
        }
    }
}

fn word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}
