//! Token calls: sent under the lease, and their answers.

use super::Refresher;
use crate::config::App;
use crate::host::metrics::Metrics;
use crate::host::slot::Slot;
use crate::host::{Callout, Headers, Host};
use crate::time::Millis;
use crate::token::{Attempt, Event, Spent};
use crate::wechat::{parse_token_reply, token_call, Failure};

/// Bytes of a token reply that are read; a real one has less than 1 KiB.
const MOST_REPLY: usize = 64 * 1024;

/// Why no call was sent.
pub(super) enum Fetch {
    /// Another root holds the app now.
    LeaseLost,
    /// Nothing is on its way.
    NotSent,
}

impl Refresher {
    /// The answer to a token call: `headers` is 0 when the connection failed.
    pub fn handle_reply<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        call: u32,
        headers: usize,
    ) {
        let Some(place) = self.calls.iter().position(|(id, _)| *id == call) else {
            return;
        };
        let (_, app) = self.calls.swap_remove(place);
        let result = if headers == 0 {
            Err(Failure::Unreachable("connection failed or was reset"))
        } else {
            let status = host
                .headers(Headers::Callout)
                .value(":status")
                .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
                .unwrap_or(0);
            match status {
                504 => Err(Failure::Unreachable("no answer in time")),
                503 => Err(Failure::Unreachable("no connection")),
                _ => parse_token_reply(status, &host.callout_body(MOST_REPLY)),
            }
        };
        match result {
            Ok(grant) => {
                let event = Event::Granted {
                    token: grant.token,
                    expires_in: grant.expires_in,
                };
                self.drive(host, slot, metrics, app, event, None);
            }
            Err(failure) => {
                self.drive(
                    host,
                    slot,
                    metrics,
                    app,
                    Event::Failed(&failure),
                    Some(&failure),
                );
            }
        }
        self.start_due(host, slot, metrics);
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
        let until = host.now().after(self.config.call_timeout);
        let machine = self
            .kept
            .get(app)
            .and_then(Option::as_ref)
            .map(|kept| &kept.machine);
        let mut spent = Spent::default();
        self.write(host, slot, app, entry, |record| {
            spent = record.spent;
            // The call counts from here on, and a refresh by rejection has used up its limit: were this holder to die now,
            // the next one must know.
            if let Some(machine) = machine {
                machine.store(record);
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
        let call = token_call(entry.token_api, &entry.appid, secret);
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
                self.calls.push((id, app));
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
