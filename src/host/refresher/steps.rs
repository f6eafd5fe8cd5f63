//! Steps at the shared store: a callout whose body is RESP, to a listener that hands bytes on (docs/redis.md).

use std::rc::Rc;
use std::time::Duration;

use super::calls::{Call, Callee};
use super::Refresher;
use crate::config::App;
use crate::host::metrics::Metrics;
use crate::host::slot::Slot;
use crate::host::{Callout, Host};
use crate::keeper::Event;
use crate::resp::MAX_REPLY;
use crate::store::{Mirrored, Problem, Step};
use crate::time::Millis;

/// A step on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    at: Millis,
    timeout: Duration,
    /// See [`Step::writes_mirrors`].
    writes_mirrors: bool,
}

impl Sent {
    /// What a reset means. The listener has said 200 as soon as it was connected, so Envoy ends what then hears nothing by a
    /// reset, and not by a 504.
    pub(super) fn status_of_reset(&self, now: Millis) -> Option<u16> {
        (now.since(self.at) >= self.timeout * 9 / 10).then_some(504)
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
            at: host.now(),
            timeout: redis.timeout,
            writes_mirrors: step.writes_mirrors(),
        });
        self.calls.push(Call::new(id, app, to));
        Ok(())
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
        let name = &entry.name;
        metrics.add(
            &format!("wechat_token_redis_requests_total.app={name}.result={result}"),
            1,
        );
        let why = match answer.as_ref().map(|answer| &answer.mirrored) {
            Err(problem) => problem.to_string(),
            Ok(Some(Mirrored::Refused(code))) => Problem::Refused(code.clone()).to_string(),
            Ok(_) => String::new(),
        };
        self.drive(host, slot, metrics, app, Event::Answered(answer), &why);
    }
}
