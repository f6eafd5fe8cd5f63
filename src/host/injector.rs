//! The injector: gives each request that is ours its token, or lets it wait for one.
//!
//! While a request is served nothing is read but its headers and the worker's own [`View`]: no shared data, no clock,
//! no metric. Only a request that finds no token looks into shared data (once), reads the clock and waits.

use std::collections::BTreeMap;
use std::rc::Rc;

use log::{error, warn};

use crate::config::{Config, OnUnavailable};
use crate::host::metrics::Metrics;
use crate::host::slot::{epoch, tell};
use crate::host::stream::{Carried, Stream};
use crate::host::view::View;
use crate::host::{Flow, Headers, Host};
use crate::message::Message;
use crate::record::{app_key, AppRecord};
use crate::reply::Rejection;
use crate::rewrite::{inject, redact, scan, strip, CallerTokens, Scan};
use crate::route::{Passed, Route, Routes};
use crate::time::Millis;
use crate::token::Generation;
use crate::waiters::{Waiter, Waiters};
use crate::wechat::sniff::{look, worth_looking, Sniff, LIMIT};

const APPID_HEADER: &str = "x-wechat-appid";
const ORIGINAL_PATH: &str = "x-envoy-original-path";
const RETRY_HEADER: &str = "x-wechat-token-retry";
/// An answer whose headers are held is let go after this many ticks (about a second), whatever its body does.
const MOST_HELD_TICKS: u64 = 4;
/// So many held answers without a body callback, and never one with: Envoy does not deliver bodies while headers are
/// held, because the filter's configuration lacks `allow_on_headers_stop_iteration`.
const BLIND_ANSWERS: u32 = 3;
/// Waiting requests make themselves heard again after so many ticks: the first message may have been lost.
const REPEAT_TICKS: u64 = 4;

/// All requests of one worker, and its copy of the tokens.
pub struct Injector {
    config: Rc<Config>,
    routes: Routes,
    index: BTreeMap<String, usize>,
    views: Vec<View>,
    streams: BTreeMap<u32, Stream>,
    waiters: Waiters,
    counts: Counts,
    seen_epoch: u64,
    ticks: u64,
    watch: Watch,
    scratch: Vec<u8>,
}

#[derive(Default)]
struct Counts {
    injected: Vec<u64>,
    parked: Vec<u64>,
    rejected: Vec<u64>,
    resent: Vec<u64>,
    passed: [u64; PASSED.len()],
    replies: BTreeMap<&'static str, u64>,
}

const PASSED: [&str; 6] = [
    "other_host",
    "token_free",
    "foreign_token",
    "caller_token",
    "excluded",
    "unavailable",
];

struct Watch {
    is_on: bool,
    is_proven: bool,
    blind: u32,
}

impl Injector {
    /// An injector that knows what shared data knows already. Only reads: this also runs where nothing will be served.
    pub fn new<H: Host>(host: &H, config: Rc<Config>) -> Injector {
        let apps = config.apps.len();
        let mut injector = Injector {
            routes: Routes::new(&config),
            index: config
                .apps
                .iter()
                .enumerate()
                .map(|(n, app)| (app.appid.clone(), n))
                .collect(),
            views: std::iter::repeat_with(View::default).take(apps).collect(),
            streams: BTreeMap::new(),
            waiters: Waiters::new(config.wait.max_requests),
            counts: Counts {
                injected: vec![0; apps],
                parked: vec![0; apps],
                rejected: vec![0; apps],
                resent: vec![0; apps],
                ..Counts::default()
            },
            seen_epoch: 0,
            ticks: 0,
            watch: Watch {
                is_on: config.watch,
                is_proven: false,
                blind: 0,
            },
            scratch: Vec::new(),
            config,
        };
        injector.seen_epoch = epoch(host);
        let now = host.now();
        for app in 0..apps {
            injector.read(host, app, now);
        }
        injector
    }

    /// The request's headers have come.
    pub fn handle_request<H: Host>(&mut self, host: &H, stream: u32) -> Flow {
        let authority = if self.routes.any_host() {
            Vec::new()
        } else {
            host.header(Headers::Request, ":authority")
                .unwrap_or_default()
        };
        let Some(path) = host.header(Headers::Request, ":path") else {
            return Flow::Continue;
        };
        let appid = host.header(Headers::Request, APPID_HEADER);
        let scan = scan(&path);
        let views = &self.views;
        let is_own = |app: usize, token: &[u8]| {
            views
                .get(app)
                .is_some_and(|view| view.generation_of(token).is_some())
        };
        match self
            .routes
            .decide(&authority, &scan, appid.as_deref(), is_own)
        {
            Route::Pass(reason) => {
                self.count_passed(reason as usize);
                if reason != Passed::OtherHost && scan.carries_secret() {
                    self.note_original_path(host, &scan);
                }
                Flow::Continue
            }
            Route::Refuse(rejection) => self.reply(host, stream, None, rejection, None),
            Route::Inject { app } => self.serve(host, stream, app, &scan),
        }
    }

    /// The answer's headers have come.
    pub fn handle_response<H: Host>(&mut self, host: &H, stream: u32, end: bool) -> Flow {
        let Some(Stream::Injected(carried)) = self.streams.get(&stream).copied() else {
            return Flow::Continue;
        };
        let mut next = Stream::Done;
        if self.watch.is_on && !end {
            let kind = host.header(Headers::Response, "content-type");
            let length = host.header(Headers::Response, "content-length");
            // WeChat sends its errors with status 200, so the status tells nothing and is not read.
            if worth_looking(b"200", kind.as_deref(), length.as_deref()) {
                next = Stream::Held {
                    carried,
                    since_tick: self.ticks,
                };
            }
        }
        self.streams.insert(stream, next);
        if next == Stream::Done {
            Flow::Continue
        } else {
            Flow::Hold
        }
    }

    /// A piece of the answer's body has come.
    pub fn handle_response_body<H: Host>(&mut self, host: &H, stream: u32, end: bool) -> Flow {
        let Some(Stream::Held { carried, .. }) = self.streams.get(&stream).copied() else {
            return Flow::Continue;
        };
        self.watch.is_proven = true;
        let verdict = look(&host.response_body(LIMIT), end);
        if verdict == Sniff::NeedMore {
            return Flow::Hold;
        }
        self.streams.insert(stream, Stream::Done);
        if let Sniff::Rejected(_) = verdict {
            self.note_rejected(host, carried);
        }
        Flow::Continue
    }

    /// The request is over, or its caller hung up.
    pub fn handle_end(&mut self, stream: u32) {
        self.waiters.leave(stream);
        self.streams.remove(&stream);
    }

    /// An app's record changed.
    pub fn handle_updated<H: Host>(&mut self, host: &H, appid: &str, epoch: u64) {
        // Only an unbroken row of messages counts as seen; after a gap the tick reads everything.
        if epoch == self.seen_epoch + 1 {
            self.seen_epoch = epoch;
        }
        if let Some(app) = self.index.get(appid).copied() {
            let now = host.now();
            self.read(host, app, now);
            self.release(host, app, now);
        }
    }

    /// Expiry, deadlines, lost messages, counts.
    pub fn handle_tick<H: Host>(&mut self, host: &H, metrics: &mut Metrics) {
        let now = host.now();
        self.ticks += 1;
        for view in &mut self.views {
            view.expire(now);
        }
        let epoch = epoch(host);
        if epoch != self.seen_epoch {
            self.seen_epoch = epoch;
            for app in 0..self.views.len() {
                self.read(host, app, now);
            }
            for app in self.waiters.apps() {
                self.release(host, app, now);
            }
        }
        self.end_overdue(host, now);
        if self.ticks % REPEAT_TICKS == 0 {
            self.repeat_wants(host, now);
        }
        self.let_held_go(host);
        self.flush(metrics);
    }

    /// Injects if there is a token, or finds out what to do without one.
    fn serve<H: Host>(&mut self, host: &H, stream: u32, app: usize, scan: &Scan<'_>) -> Flow {
        let Some(view) = self.views.get(app) else {
            return Flow::Continue;
        };
        let earlier = match scan.caller_tokens() {
            CallerTokens::Values => scan
                .token_values()
                .find_map(|value| view.generation_of(&value)),
            CallerTokens::None | CallerTokens::Empty => None,
        };
        // Envoy sends the request again. Other retries carry our token too, but theirs was not rejected.
        let rejected = earlier.filter(|generation| *generation <= view.rejected);
        let newer_than = rejected.unwrap_or_default();
        if view.satisfies(newer_than) {
            return self.put_token(host, stream, app, scan, rejected.is_some());
        }
        self.serve_without_token(host, stream, app, scan, newer_than)
    }

    fn serve_without_token<H: Host>(
        &mut self,
        host: &H,
        stream: u32,
        app: usize,
        scan: &Scan<'_>,
        newer_than: Generation,
    ) -> Flow {
        let now = host.now();
        if self.views.get(app).is_some_and(|view| !view.has_looked) {
            self.read(host, app, now);
        }
        let Some(view) = self.views.get_mut(app) else {
            return Flow::Continue;
        };
        view.has_looked = true;
        if view.satisfies(newer_than) {
            return self.put_token(host, stream, app, scan, newer_than > Generation(0));
        }
        if view.is_hopeless() {
            return self.give_up(host, stream, app, scan, now, false);
        }
        let deadline = now.after(self.config.wait.timeout);
        if self
            .waiters
            .park(
                stream,
                Waiter {
                    app,
                    deadline,
                    newer_than,
                },
            )
            .is_err()
        {
            return if view.live.is_some() {
                self.put_token(host, stream, app, scan, true)
            } else {
                self.reply(host, stream, Some(app), Rejection::WaitOverflow, None)
            };
        }
        self.streams.insert(stream, Stream::Parked);
        bump(&mut self.counts.parked, app);
        self.want(host, app);
        Flow::HoldAll
    }

    fn put_token<H: Host>(
        &mut self,
        host: &H,
        stream: u32,
        app: usize,
        scan: &Scan<'_>,
        is_resend: bool,
    ) -> Flow {
        let Some(view) = self.views.get(app) else {
            return Flow::Continue;
        };
        let Some(token) = &view.live else {
            return Flow::Continue;
        };
        inject(scan, token.value.expose(), &mut self.scratch);
        if host
            .set_header(Headers::Request, ":path", &self.scratch)
            .is_err()
        {
            return self.reply(host, stream, Some(app), Rejection::Internal, None);
        }
        let carried = Carried {
            app,
            generation: view.generation,
            is_resend,
        };
        self.note_original_path(host, scan);
        let _ = host.remove_header(Headers::Request, APPID_HEADER);
        self.streams.insert(stream, Stream::Injected(carried));
        bump(&mut self.counts.injected, app);
        if is_resend {
            bump(&mut self.counts.resent, app);
        }
        Flow::Continue
    }

    /// Keeps tokens and secrets out of access logs and traces, which prefer this header to the path.
    fn note_original_path<H: Host>(&mut self, host: &H, path: &Scan<'_>) {
        match host.header(Headers::Request, ORIGINAL_PATH) {
            None => redact(path, &mut self.scratch),
            Some(original) => {
                let original = scan(&original);
                if !original.carries_secret() {
                    return;
                }
                redact(&original, &mut self.scratch);
            }
        }
        if host
            .set_header(Headers::Request, ORIGINAL_PATH, &self.scratch)
            .is_err()
        {
            warn!("event=original_path_not_set");
        }
    }

    /// No token will come: answers, or lets the request go without one where the configuration says so.
    fn give_up<H: Host>(
        &mut self,
        host: &H,
        stream: u32,
        app: usize,
        path: &Scan<'_>,
        now: Millis,
        has_waited: bool,
    ) -> Flow {
        let pass = self
            .config
            .apps
            .get(app)
            .is_some_and(|app| app.on_unavailable == OnUnavailable::Pass);
        if pass {
            self.count_passed(PASSED.len() - 1);
            if path.carries_secret() {
                self.note_original_path(host, path);
            }
            strip(path, &mut self.scratch);
            let _ = host.set_header(Headers::Request, ":path", &self.scratch);
            let _ = host.remove_header(Headers::Request, APPID_HEADER);
            self.streams.insert(stream, Stream::Done);
            return Flow::Continue;
        }
        let trouble = self.views.get(app).and_then(|view| view.trouble);
        let retry = trouble.map(|trouble| trouble.retry_at.since(now));
        let rejection = match trouble {
            Some(trouble) if trouble.open && trouble.errcode.is_some() => Rejection::Refused {
                errcode: trouble.errcode,
            },
            Some(trouble) if trouble.open || has_waited => Rejection::Unavailable,
            _ => Rejection::WaitTimeout,
        };
        self.reply(host, stream, Some(app), rejection, retry)
    }

    fn reply<H: Host>(
        &mut self,
        host: &H,
        stream: u32,
        app: Option<usize>,
        rejection: Rejection,
        retry_after: Option<std::time::Duration>,
    ) -> Flow {
        *self.counts.replies.entry(rejection.reason()).or_default() += 1;
        self.streams.insert(stream, Stream::Done);
        let status = match app
            .and_then(|app| self.config.apps.get(app))
            .map(|app| app.on_unavailable)
        {
            Some(OnUnavailable::Fail(status)) => status,
            Some(OnUnavailable::Pass) | None => 503,
        };
        let reply = rejection.reply(status, retry_after);
        let headers: Vec<(&str, &str)> = reply
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        if let Err(problem) = host.local_reply(reply.status, &headers, reply.body.as_bytes()) {
            error!(
                "event=local_reply_failed reason={} problem=\"{problem}\"",
                rejection.reason()
            );
        }
        Flow::HoldAll
    }

    /// Lets those go on for whom the app's state has become clear.
    fn release<H: Host>(&mut self, host: &H, app: usize, now: Millis) {
        for (stream, waiter) in self.waiters.of_app(app) {
            let Some(view) = self.views.get(app) else {
                return;
            };
            let is_served = view.satisfies(waiter.newer_than);
            if is_served || view.is_hopeless() {
                self.end_wait(host, stream, waiter, now);
            }
        }
    }

    fn end_overdue<H: Host>(&mut self, host: &H, now: Millis) {
        for (stream, waiter) in self.waiters.overdue(now) {
            self.end_wait(host, stream, waiter, now);
        }
    }

    /// The wait is over: with the token there is, or without.
    fn end_wait<H: Host>(&mut self, host: &H, stream: u32, waiter: Waiter, now: Millis) {
        self.waiters.leave(stream);
        host.focus(stream);
        let path = host.header(Headers::Request, ":path").unwrap_or_default();
        let scan = scan(&path);
        let has_token = self
            .views
            .get(waiter.app)
            .is_some_and(|view| view.live.is_some());
        let flow = if has_token {
            self.put_token(
                host,
                stream,
                waiter.app,
                &scan,
                waiter.newer_than > Generation(0),
            )
        } else {
            self.give_up(host, stream, waiter.app, &scan, now, true)
        };
        if flow == Flow::Continue && host.resume_request().is_err() {
            warn!("event=resume_failed");
        }
    }

    fn note_rejected<H: Host>(&mut self, host: &H, carried: Carried) {
        bump(&mut self.counts.rejected, carried.app);
        let Some(view) = self.views.get_mut(carried.app) else {
            return;
        };
        if carried.generation > view.rejected {
            view.rejected = carried.generation;
        }
        if let (Some(holder), Some(app)) = (view.holder, self.config.apps.get(carried.app)) {
            if carried.generation == view.generation && view.settled < carried.generation {
                let generation = carried.generation;
                tell(
                    host,
                    holder.slot,
                    &Message::Rejected {
                        appid: app.appid.clone(),
                        generation,
                    }
                    .encode(),
                );
            }
        }
        if !carried.is_resend
            && host
                .set_header(Headers::Response, RETRY_HEADER, b"1")
                .is_err()
        {
            warn!("event=answer_not_marked");
        }
    }

    fn want<H: Host>(&mut self, host: &H, app: usize) {
        let (Some(view), Some(entry)) = (self.views.get_mut(app), self.config.apps.get(app)) else {
            return;
        };
        if let (Some(holder), false) = (view.holder, view.is_wanted) {
            view.is_wanted = true;
            let appid = entry.appid.clone();
            let message = if view.live.is_some() {
                Message::Rejected {
                    appid,
                    generation: view.rejected,
                }
            } else {
                Message::Want { appid }
            };
            tell(host, holder.slot, &message.encode());
        }
    }

    fn repeat_wants<H: Host>(&mut self, host: &H, now: Millis) {
        for app in self.waiters.apps() {
            self.read(host, app, now);
            self.release(host, app, now);
            // What was just read may have served them all.
            if self.waiters.of_app(app).is_empty() {
                continue;
            }
            if let Some(view) = self.views.get_mut(app) {
                view.is_wanted = false;
            }
            self.want(host, app);
        }
    }

    fn let_held_go<H: Host>(&mut self, host: &H) {
        let ticks = self.ticks;
        let stuck: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| {
                matches!(stream, Stream::Held { since_tick, .. } if ticks - since_tick > MOST_HELD_TICKS)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in stuck {
            self.streams.insert(id, Stream::Done);
            host.focus(id);
            let _ = host.resume_response();
            if self.watch.is_proven || !self.watch.is_on {
                continue;
            }
            self.watch.blind += 1;
            if self.watch.blind >= BLIND_ANSWERS {
                self.watch.is_on = false;
                error!(
                    "event=watch_off problem=\"no body arrives while headers are held: set \
                     allow_on_headers_stop_iteration: true beside vm_config, or watch: false\""
                );
            }
        }
    }

    fn read<H: Host>(&mut self, host: &H, app: usize, now: Millis) {
        let (Some(view), Some(entry)) = (self.views.get_mut(app), self.config.apps.get(app)) else {
            return;
        };
        let record = host
            .shared(&app_key(&entry.appid))
            .and_then(|(bytes, _)| AppRecord::decode(&bytes));
        if let Some(record) = record {
            view.apply(&record, now);
        }
    }

    fn count_passed(&mut self, reason: usize) {
        if let Some(count) = self.counts.passed.get_mut(reason) {
            *count += 1;
        }
    }

    fn flush(&mut self, metrics: &mut Metrics) {
        let per_app = [
            ("wechat_token_injected_total", &mut self.counts.injected),
            ("wechat_token_parked_total", &mut self.counts.parked),
            ("wechat_token_rejected_total", &mut self.counts.rejected),
            ("wechat_token_resent_total", &mut self.counts.resent),
        ];
        for (name, counts) in per_app {
            for (count, app) in counts.iter_mut().zip(&self.config.apps) {
                if *count > 0 {
                    metrics.add(&format!("{name}.app={}", app.name), std::mem::take(count));
                }
            }
        }
        for (count, reason) in self.counts.passed.iter_mut().zip(PASSED) {
            if *count > 0 {
                metrics.add(
                    &format!("wechat_token_passed_total.reason={reason}"),
                    std::mem::take(count),
                );
            }
        }
        for (reason, count) in std::mem::take(&mut self.counts.replies) {
            metrics.add(
                &format!("wechat_token_local_replies_total.reason={reason}"),
                count,
            );
        }
    }
}

fn bump(counts: &mut [u64], app: usize) {
    if let Some(count) = counts.get_mut(app) {
        *count += 1;
    }
}
