//! Calls: token calls, sent under the lease, and the answers to all.

use super::steps::Sent;
use super::Refresher;
use crate::config::{App, TokenApi};
use crate::host::metrics::Metrics;
use crate::host::slot::Slot;
use crate::host::{Callout, Headers, Host};
use crate::keeper;
use crate::metrics::Metric;
use crate::time::{millis, Millis};
use crate::token::{Attempt, Event, Spent};
use crate::wechat::{parse_token_reply, token_call, Failure};

/// Bytes of a token reply that are read; a real one has less than 1 KiB.
const MOST_REPLY: usize = 64 * 1024;

/// A call on its way.
pub(super) struct Call {
    /// Envoy's number for it.
    pub(super) id: u32,
    /// Index of the app.
    pub(super) app: usize,
    /// To whom it went.
    pub(super) to: Callee,
    /// When it was sent.
    pub(super) at: Millis,
    /// It has failed, then, which is dealt with in the next tick.
    failed: Option<(Status, Millis)>,
}

/// The status of an answer; none when the connection failed.
type Status = Option<u16>;

/// Who is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Callee {
    WeChat,
    Redis(Sent),
}

impl Call {
    pub(super) fn new(id: u32, app: usize, to: Callee, at: Millis) -> Call {
        Call {
            id,
            app,
            to,
            at,
            failed: None,
        }
    }
}

/// Why no call was sent.
pub(super) enum Fetch {
    /// Another root holds the app now.
    LeaseLost,
    /// Nothing is on its way.
    NotSent,
}

impl Refresher {
    /// The answer to a call: `headers` is 0 when the connection failed. What failed is dealt with in the next tick.
    pub fn handle_reply<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        call: u32,
        headers: usize,
    ) {
        let Some(place) = self.calls.iter().position(|known| known.id == call) else {
            return;
        };
        let status = (headers != 0).then(|| {
            host.headers(Headers::Callout)
                .value(":status")
                .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
                .unwrap_or(0)
        });
        if let (None | Some(503), Some(call)) = (status, self.calls.get_mut(place)) {
            // Envoy ends calls like that also while it shuts down, and crashes when another one is made then.
            let now = host.now();
            let status = match call.to {
                Callee::Redis(sent) if status.is_none() => sent.status_of_reset(now.since(call.at)),
                _ => status,
            };
            call.failed = Some((status, now));
            return;
        }
        let call = self.calls.swap_remove(place);
        self.end_call(host, slot, metrics, &call, status, host.now());
        self.start_due(host, slot, metrics);
    }

    /// Deals with the calls that have failed since the last tick.
    pub(super) fn end_failed<H: Host>(&mut self, host: &H, slot: &Slot, metrics: &mut Metrics) {
        let failed = |calls: &[Call]| calls.iter().position(|call| call.failed.is_some());
        while let Some(place) = failed(&self.calls) {
            let call = self.calls.swap_remove(place);
            let (status, at) = call.failed.unwrap_or((None, host.now()));
            self.end_call(host, slot, metrics, &call, status, at);
        }
    }

    fn end_call<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        call: &Call,
        status: Status,
        ended_at: Millis,
    ) {
        match call.to {
            Callee::WeChat => {
                metrics.observe(Metric::Refresh, millis(ended_at.since(call.at)));
                self.handle_token_reply(host, slot, metrics, call.app, status);
            }
            Callee::Redis(sent) => {
                self.handle_step_reply(host, slot, metrics, call.app, sent, status);
            }
        }
    }

    fn handle_token_reply<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        app: usize,
        status: Status,
    ) {
        let result = match status {
            None => Err(Failure::Unreachable("connection failed or was reset")),
            Some(504) => Err(Failure::Unreachable("no answer in time")),
            Some(503) => Err(Failure::Unreachable("no connection")),
            Some(status) => parse_token_reply(status, &host.callout_body(MOST_REPLY)),
        };
        match result {
            Ok(grant) => {
                let event = Event::Granted {
                    token: grant.token,
                    expires_in: grant.expires_in,
                };
                self.drive(host, slot, metrics, app, keeper::Event::Token(event), "");
            }
            Err(failure) => {
                let event = keeper::Event::Token(Event::Failed(&failure));
                let why = failure.to_string();
                self.drive(host, slot, metrics, app, event, &why);
            }
        }
    }

    /// Marks the record as "in flight" under our lease, then calls WeChat.
    pub(super) fn fetch<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        app: usize,
        entry: &App,
        attempt: Attempt,
    ) -> Result<(), Fetch> {
        let now = host.now();
        let until = now.after(self.config.call_timeout);
        let keeper = self.kept(app).map(|kept| &kept.keeper);
        let mut spent = Spent::default();
        self.write(host, slot, app, entry, |record| {
            spent = record.spent;
            // The call counts from here on, and a refresh by rejection has used up its limit: were this holder to die now,
            // the next one must know.
            if let Some(keeper) = keeper {
                keeper.store(record);
            }
            record.in_flight_until = until;
        })
        .map_err(|_| Fetch::LeaseLost)?;
        let (Some(secret), Some(upstream)) = (
            entry.secrets.get(attempt.secret),
            self.config.upstreams.get(attempt.upstream),
        ) else {
            return Err(Fetch::NotSent);
        };
        let api = match attempt.detour {
            true => TokenApi::Stable,
            false => entry.token_api,
        };
        let call = token_call(api, &entry.appid, secret);
        let mut headers = vec![
            (":method", call.method),
            (":path", call.path.as_str()),
            (":authority", upstream.authority.as_str()),
            ("accept", "application/json"),
        ];
        headers.extend(
            call.headers
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let callout = Callout {
            cluster: &upstream.cluster,
            headers: &headers,
            body: &call.body,
            timeout: self.config.call_timeout,
        };
        match host.call(&callout) {
            Ok(id) => {
                self.calls.push(Call::new(id, app, Callee::WeChat, now));
                Ok(())
            }
            // The cluster is not there yet, or the call failed before it left: nothing is on its way.
            Err(_) => {
                let _ = self.write(host, slot, app, entry, |record| {
                    record.in_flight_until = Millis(0);
                    record.spent = spent;
                });
                Err(Fetch::NotSent)
            }
        }
    }
}
