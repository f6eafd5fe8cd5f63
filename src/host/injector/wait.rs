//! Requests without a token: how their wait ends, and whom they make it known to that they wait.

use std::time::Duration;

use log::{error, warn};

use super::Injector;
use crate::config::OnUnavailable;
use crate::host::slot::tell;
use crate::host::stream::{Request, Stream};
use crate::host::{Flow, Headers, Host};
use crate::message::Message;
use crate::reply::Rejection;
use crate::time::Millis;
use crate::token::Generation;
use crate::waiters::Waiter;

/// Why a request does not wait, or no longer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It was not let wait: it would have been in vain.
    None,
    /// It was not let wait: too many do.
    Refused,
    /// It has waited.
    Over,
}

impl Injector {
    /// The request does not wait any longer: it goes with the token that there is (if WeChat rejected that one, the caller
    /// sees WeChat's own answer), goes on without one where the configuration says so, or is answered here.
    pub(super) fn conclude<H: Host>(
        &mut self,
        host: &H,
        app: usize,
        request: &Request<'_>,
        now: Millis,
        newer_than: Generation,
        wait: Wait,
    ) -> Flow {
        let (Some(view), Some(entry)) = (self.views.get(app), self.config.apps.get(app)) else {
            return Flow::Continue;
        };
        if view.live.is_some() {
            return self.put_token(host, app, request, newer_than > Generation(0));
        }
        if entry.on_unavailable == OnUnavailable::Pass {
            self.counts.add_unavailable();
            self.move_app_name(host, request);
            self.streams.insert(request.stream, Stream::Idle);
            return Flow::Continue;
        }
        let trouble = view.trouble;
        let retry = trouble.map(|trouble| trouble.retry_at.since(now));
        let rejection = match (wait, trouble) {
            (_, Some(trouble)) if trouble.open && trouble.errcode.is_some() => Rejection::Refused {
                errcode: trouble.errcode,
            },
            (Wait::Refused, _) => Rejection::WaitOverflow,
            (Wait::Over, Some(_)) => Rejection::Unavailable,
            (_, Some(trouble)) if trouble.open => Rejection::Unavailable,
            (Wait::None | Wait::Over, _) => Rejection::WaitTimeout,
        };
        self.reply(host, request.stream, Some(app), rejection, retry)
    }

    pub(super) fn reply<H: Host>(
        &mut self,
        host: &H,
        stream: u32,
        app: Option<usize>,
        rejection: Rejection,
        retry_after: Option<Duration>,
    ) -> Flow {
        self.counts.add_reply(rejection);
        self.streams.insert(stream, Stream::Idle);
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
    pub(super) fn release<H: Host>(&mut self, host: &H, app: usize, now: Millis) {
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

    pub(super) fn end_overdue<H: Host>(&mut self, host: &H, now: Millis) {
        for (stream, waiter) in self.waiters.overdue(now) {
            self.end_wait(host, stream, waiter, now);
        }
    }

    /// The wait is over: with the token there is, or without.
    pub(super) fn end_wait<H: Host>(&mut self, host: &H, stream: u32, waiter: Waiter, now: Millis) {
        self.waiters.leave(stream);
        self.counts.add_wait(now.since(waiter.since));
        host.focus(stream);
        let headers = host.headers(Headers::Request);
        let flow = match Request::read(stream, &headers) {
            Some(request) => {
                let newer_than = waiter.newer_than;
                self.conclude(host, waiter.app, &request, now, newer_than, Wait::Over)
            }
            // Nobody would let it go on any more.
            None => self.reply(host, stream, Some(waiter.app), Rejection::Internal, None),
        };
        if flow == Flow::Continue && host.resume_request().is_err() {
            warn!("event=resume_failed");
        }
    }

    pub(super) fn want<H: Host>(&mut self, host: &H, app: usize) {
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

    pub(super) fn repeat_wants<H: Host>(&mut self, host: &H, now: Millis) {
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
}
