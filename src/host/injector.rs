//! The injector: gives each request that is ours its token, or lets it wait for one.
//!
//! While a request is served nothing is read but its headers and the worker's own [`View`]: no shared data, no clock,
//! no metric. Only a request that finds no token looks into shared data (once), reads the clock and waits.

mod answer;
mod counts;
#[cfg(test)]
mod tests;
mod wait;

use std::collections::BTreeMap;
use std::rc::Rc;

use log::warn;

use self::answer::Watch;
use self::counts::{Count, Counts};
use self::wait::Wait;
use crate::config::Config;
use crate::host::metrics::Metrics;
use crate::host::slot::epoch;
use crate::host::stream::{Carried, Request, Stream, APPID_HEADER, ORIGINAL_PATH};
use crate::host::view::View;
use crate::host::{Flow, Headers, Host};
use crate::record::{app_key, AppRecord};
use crate::reply::Rejection;
use crate::rewrite::{inject, redact, scan, strip, CallerTokens, NamedApp};
use crate::route::{Passed, Route, Routes};
use crate::time::Millis;
use crate::token::Generation;
use crate::waiters::{Waiter, Waiters};

/// Waiting requests make themselves heard again after so many ticks: the first message may have been lost.
const REPEAT_TICKS: u64 = 4;

/// All requests of one worker, and its copy of the tokens.
pub struct Injector {
    config: Rc<Config>,
    routes: Routes,
    views: Vec<View>,
    streams: BTreeMap<u32, Stream>,
    waiters: Waiters,
    counts: Counts,
    seen_epoch: u64,
    ticks: u64,
    watch: Watch,
    scratch: Vec<u8>,
}

impl Injector {
    /// An injector that knows what shared data knows already. Only reads: this also runs where nothing will be served.
    pub fn new<H: Host>(host: &H, config: Rc<Config>) -> Injector {
        let apps = config.apps.len();
        let mut injector = Injector {
            routes: Routes::new(&config),
            views: std::iter::repeat_with(View::default).take(apps).collect(),
            streams: BTreeMap::new(),
            waiters: Waiters::new(config.wait.max_requests),
            counts: Counts::new(apps),
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

    /// A stream begins.
    pub fn handle_begin(&mut self, stream: u32) {
        self.streams.insert(stream, Stream::Idle);
    }

    /// The request's headers have come; `None` if the stream did not begin here.
    pub fn handle_request<H: Host>(&mut self, host: &H, stream: u32) -> Option<Flow> {
        if !self.streams.contains_key(&stream) {
            return None;
        }
        let headers = host.headers(Headers::Request);
        #[cfg(feature = "trap")]
        crate::host::trap::on_request(host, &headers);
        let Some(request) = Request::read(stream, &headers) else {
            return Some(Flow::Continue);
        };
        let views = &self.views;
        let is_own = |app: usize, token: &[u8]| {
            views
                .get(app)
                .is_some_and(|view| view.generation_of(token).is_some())
        };
        let route = self.routes.decide(
            request.method,
            request.authority,
            &request.path,
            &request.named_app,
            is_own,
        );
        Some(match route {
            Route::Pass(reason) => {
                self.counts.add_passed(reason);
                if reason != Passed::OtherHost {
                    self.hide_secrets(host, &request);
                }
                if reason == Passed::CallerToken {
                    self.move_app_name(host, &request);
                }
                Flow::Continue
            }
            Route::Refuse(rejection) => {
                self.hide_secrets(host, &request);
                self.reply(host, stream, None, rejection, None)
            }
            Route::Inject { app } => self.serve(host, app, &request),
        })
    }

    /// The request is over, or its caller hung up; `None` if the stream did not begin here.
    pub fn handle_end(&mut self, stream: u32) -> Option<()> {
        match self.streams.remove(&stream)? {
            Stream::Parked => {
                self.waiters.leave(stream);
            }
            Stream::Injected(carried) | Stream::Held { carried, .. } => {
                self.count_resent(&carried, Count::ResentNoAnswer);
            }
            Stream::LetGo { .. } | Stream::Idle => {}
        }
        Some(())
    }

    /// An app's record changed.
    pub fn handle_updated<H: Host>(&mut self, host: &H, appid: &str, epoch: u64) {
        // Only an unbroken row of messages counts as seen; after a gap the tick reads everything.
        if epoch == self.seen_epoch + 1 {
            self.seen_epoch = epoch;
        }
        if let Some(app) = self.routes.app(appid.as_bytes()) {
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
        if self.ticks.is_multiple_of(REPEAT_TICKS) {
            self.repeat_wants(host, now);
        }
        self.let_held_go(host);
        self.counts.flush(&self.config.apps, metrics);
    }

    /// Injects if there is a token, or finds out what to do without one.
    fn serve<H: Host>(&mut self, host: &H, app: usize, request: &Request<'_>) -> Flow {
        let Some(view) = self.views.get(app) else {
            return Flow::Continue;
        };
        let earlier = match request.path.caller_tokens() {
            CallerTokens::Values => request
                .path
                .token_values()
                .find_map(|value| view.generation_of(&value)),
            CallerTokens::None | CallerTokens::Empty => None,
        };
        // Envoy sends the request again. Other retries carry our token too, but theirs was not rejected.
        let rejected = earlier.filter(|generation| *generation <= view.rejected);
        let newer_than = rejected.unwrap_or_default();
        if view.satisfies(newer_than) {
            return self.put_token(host, app, request, rejected.is_some());
        }
        self.serve_without_token(host, app, request, newer_than)
    }

    fn serve_without_token<H: Host>(
        &mut self,
        host: &H,
        app: usize,
        request: &Request<'_>,
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
            return self.put_token(host, app, request, newer_than > Generation(0));
        }
        let is_hopeless = view.is_hopeless();
        // However this ends: Envoy may end it too, and logs the path then.
        self.hide_secrets(host, request);
        if is_hopeless {
            return self.conclude(host, app, request, now, newer_than, Wait::None);
        }
        let waiter = Waiter {
            app,
            since: now,
            deadline: now.after(self.config.wait.timeout),
            newer_than,
        };
        if self.waiters.park(request.stream, waiter).is_err() {
            return self.conclude(host, app, request, now, newer_than, Wait::Refused);
        }
        self.streams.insert(request.stream, Stream::Parked);
        self.counts.add(app, Count::Parked);
        self.want(host, app);
        Flow::HoldAll
    }

    fn put_token<H: Host>(
        &mut self,
        host: &H,
        app: usize,
        request: &Request<'_>,
        is_resend: bool,
    ) -> Flow {
        let stream = request.stream;
        let Some(view) = self.views.get(app) else {
            return Flow::Continue;
        };
        let Some(token) = &view.live else {
            return Flow::Continue;
        };
        inject(&request.path, token.value.expose(), &mut self.scratch);
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
        self.note_original_path(host, request);
        // From here on the token in the path names the app. A header that is not there is not removed: each call of the
        // host costs about a microsecond.
        if request.named_app != NamedApp::Absent {
            let _ = host.remove_header(Headers::Request, APPID_HEADER);
        }
        self.streams.insert(stream, Stream::Injected(carried));
        self.counts.add(app, Count::Injected);
        Flow::Continue
    }

    /// A request goes on without our token: the parameter that named its app is not WeChat's to see, and with a single app
    /// neither is the header. With several the header stays, or takes the parameter's place: a route may send the request
    /// again, and without a name that attempt would get the default app's token.
    fn move_app_name<H: Host>(&mut self, host: &H, request: &Request<'_>) {
        strip(&request.path, &mut self.scratch);
        if self.scratch != request.path.raw() {
            let _ = host.set_header(Headers::Request, ":path", &self.scratch);
        }
        let is_only_app = self.config.apps.len() == 1;
        match (&request.named_app, request.path.from_appid()) {
            (NamedApp::Absent, NamedApp::One(appid)) if !is_only_app => {
                let _ = host.set_header(Headers::Request, APPID_HEADER, appid);
            }
            (NamedApp::One(_) | NamedApp::Conflict, _) if is_only_app => {
                let _ = host.remove_header(Headers::Request, APPID_HEADER);
            }
            _ => {}
        }
    }

    /// The path stays as it is, and so must not be logged where it holds a token or secret.
    fn hide_secrets<H: Host>(&mut self, host: &H, request: &Request<'_>) {
        if request.path.carries_secret() {
            self.note_original_path(host, request);
        }
    }

    /// Keeps tokens and secrets out of access logs and traces, which prefer this header to the path.
    fn note_original_path<H: Host>(&mut self, host: &H, request: &Request<'_>) {
        match request.original_path.map(scan) {
            None => redact(&request.path, &mut self.scratch),
            Some(original) if original.carries_secret() => redact(&original, &mut self.scratch),
            Some(_) => return,
        }
        if host
            .set_header(Headers::Request, ORIGINAL_PATH, &self.scratch)
            .is_err()
        {
            warn!("event=original_path_not_set");
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
}
