//! Requests without a token: how their wait ends, and whom they make it known to that they wait.

use std::time::Duration;

use log::{error, warn};

use super::Injector;
use crate::config::OnUnavailable;
use crate::host::slot::tell;
use crate::host::stream::Stream;
use crate::host::{Flow, Headers, Host};
use crate::message::Message;
use crate::reply::Rejection;
use crate::rewrite::{scan, Scan};
use crate::time::Millis;
use crate::token::Generation;
use crate::waiters::Waiter;

impl Injector {
    /// No token will come: answers, or lets the request go without one where the configuration says so.
    pub(super) fn give_up<H: Host>(
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
            self.counts.add_unavailable();
            if path.carries_secret() {
                self.note_original_path(host, path);
            }
            self.forget_app_name(host, path);
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

    pub(super) fn reply<H: Host>(
        &mut self,
        host: &H,
        stream: u32,
        app: Option<usize>,
        rejection: Rejection,
        retry_after: Option<Duration>,
    ) -> Flow {
        self.counts.add_reply(rejection);
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
