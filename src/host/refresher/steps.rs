//! Steps at the shared store: a callout whose body is RESP, to a listener that hands bytes on (docs/redis.md).

use std::rc::Rc;
use std::time::Duration;

use super::calls::{Call, Callee};
use super::report::change_note;
use super::{of_app, Refresher};
use crate::config::App;
use crate::host::metrics::Metrics;
use crate::host::slot::Slot;
use crate::host::{Callout, Host};
use crate::keeper::Event;
use crate::metrics::Metric;
use crate::resp::MAX_REPLY;
use crate::store::{Mirrored, Problem, Step};

/// A step on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    timeout: Duration,
    /// See [`Step::writes_mirrors`].
    writes_mirrors: bool,
}

impl Sent {
    /// What a reset means. The listener has said 200 as soon as it was connected, so Envoy ends what then hears nothing by a
    /// reset, and not by a 504.
    pub(super) fn status_of_reset(&self, after: Duration) -> Option<u16> {
        (after >= self.timeout * 9 / 10).then_some(504)
    }
}

impl Refresher {
    /// Sends a step.
    ///
    /// # Errors
    /// It could not be sent, and no answer will come.
    pub(super) fn ask<H: Host>(
        &mut self,
        host: &H,
        app: usize,
        entry: &App,
        step: &Step,
    ) -> Result<(), Problem> {
        let Some(redis) = &self.config.redis else {
            return Err(Problem::Unreachable("there is none"));
        };
        let body = redis.access.request(&entry.appid, step);
        let callout = Callout {
            cluster: &redis.cluster,
            headers: &[(":method", "POST"), (":path", "/"), (":authority", "redis")],
            body: &body,
            timeout: redis.timeout,
        };
        let id = host
            .call(&callout)
            .map_err(|_| Problem::Unreachable("its cluster is not there, or not yet"))?;
        let to = Callee::Redis(Sent {
            timeout: redis.timeout,
            writes_mirrors: step.writes_mirrors(),
        });
        self.calls.push(Call::new(id, app, to, host.now()));
        Ok(())
    }

    /// Failures and recoveries are reported; that all was well from the beginning is not.
    fn note_first_answer<H: Host>(&mut self, host: &H, app: usize, entry: &App, is_ok: bool) {
        if let Some(kept) = of_app(&mut self.kept, app).filter(|kept| !kept.has_noted_store) {
            kept.has_noted_store = true;
            if is_ok {
                let now = host.now();
                change_note(host, &entry.appid, |note| note.set_store(now, None));
            }
        }
    }

    /// The answer to a step; `status` is none when the connection failed.
    pub(super) fn handle_step_reply<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        app: usize,
        sent: Sent,
        status: Option<u16>,
    ) {
        let config = Rc::clone(&self.config);
        let (Some(redis), Some(entry)) = (&config.redis, config.apps.get(app)) else {
            return;
        };
        let answer = match status {
            None => Err(Problem::Unreachable("the connection was reset")),
            Some(503) => Err(Problem::Unreachable("no connection")),
            Some(504) => Err(Problem::Unreachable("no answer in time")),
            Some(200) => {
                let body = host.callout_body(MAX_REPLY + 1);
                redis.access.read_answer(sent.writes_mirrors, &body)
            }
            Some(_) => Err(Problem::Unreadable(
                "its listener does not hand the bytes on; docs/redis.md has the route it needs",
            )),
        };
        let result = if answer.is_ok() { "ok" } else { "failed" };
        metrics.add(Metric::RedisRequests, &[&entry.name, result], 1);
        self.note_first_answer(host, app, entry, answer.is_ok());
        let why = match answer.as_ref().map(|answer| &answer.mirrored) {
            Err(problem) => problem.to_string(),
            Ok(Some(Mirrored::Refused(code))) => Problem::Refused(code.clone()).to_string(),
            Ok(_) => String::new(),
        };
        self.drive(host, slot, metrics, app, Event::Answered(answer), &why);
    }
}
