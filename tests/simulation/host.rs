//! The simulated Envoy as one virtual machine sees it. Here the bugs are planted that concern host and shared data.

use std::time::Duration;

use wechat_token::host::headers::HeaderMap;
use wechat_token::host::{Callout, Cas, Headers, Host, HostError};
use wechat_token::message::Message;
use wechat_token::metrics::Kind;
use wechat_token::record::{app_key, encode_epoch, epoch_key, AppRecord, SlotRecord};
use wechat_token::time::{millis, Millis, UnixMillis};
use wechat_token::token::{Generation, Spent};

use super::plan::{Mutation, APPS};
use super::process::{Call, Event, Process, Queue};
use super::world::World;

/// How the keys of slots begin.
const SLOTS: &str = "wechat-token/1/slot/";

/// The host of virtual machine `vm`.
#[derive(Clone, Copy)]
pub struct SimHost<'a> {
    /// Everything.
    pub world: &'a World,
    /// Who asks.
    pub vm: usize,
}

impl SimHost<'_> {
    fn with<T>(&self, act: impl FnOnce(&mut Process) -> T) -> T {
        act(&mut self.world.process.borrow_mut())
    }

    /// What this virtual machine reads under the key of an app.
    fn read_record(&self, process: &Process, app: usize, bytes: &[u8]) -> Vec<u8> {
        let Some(mut record) = AppRecord::decode(bytes) else {
            return bytes.to_vec();
        };
        match process.mutation {
            Some(Mutation::NoLeaseTerm) => {
                if let Some((term, holder)) = process.vms[self.vm].leases[app] {
                    record.term = term;
                    record.holder = holder;
                }
            }
            Some(Mutation::LimitForgotten) => record.rejected_not_before = Millis(0),
            Some(Mutation::BudgetForgotten) => record.spent = Spent::default(),
            Some(Mutation::NoInFlightMark) => record.in_flight_until = Millis(0),
            Some(Mutation::ExpiryIgnored) => {
                if let Some(token) = &mut record.token {
                    token.deadline = token.deadline.after(Duration::from_secs(60));
                }
            }
            _ => {}
        }
        record.encode()
    }

    fn write_record(&self, process: &mut Process, app: usize, value: &[u8]) -> Vec<u8> {
        let Some(mut record) = AppRecord::decode(value) else {
            process.checks.fail(
                process.now,
                format!("{}: a record that cannot be read", APPS[app]),
            );
            return value.to_vec();
        };
        let old = process.record(app);
        if process.mutation == Some(Mutation::OlderTokenSaved)
            && record.generation.0 == 3
            && old.generation.0 == 2
        {
            record.token = process.first_tokens[app].clone();
        }
        if record.generation.0 == 1 && process.first_tokens[app].is_none() {
            process.first_tokens[app] = record.token.clone();
        }
        let state = &mut process.vms[self.vm];
        state.last_app = Some(app);
        state.leases[app] = Some((record.term, record.holder));
        process
            .checks
            .record(process.now, app, &old, &record, &process.wechat);
        record.encode()
    }
}

impl Host for SimHost<'_> {
    fn now(&self) -> Millis {
        self.with(|process| match process.mutation {
            Some(Mutation::WallDeadlines) => {
                Millis(process.now.saturating_sub(process.wall_behind()))
            }
            _ => Millis(process.now),
        })
    }

    fn wall(&self) -> UnixMillis {
        self.with(|process| {
            UnixMillis(MIDNIGHT - process.setup.midnight + process.now - process.wall_behind())
        })
    }

    fn random(&self) -> u64 {
        self.with(|process| process.rng.next())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn property(&self, name: &str) -> Option<String> {
        let is_injector = self.with(|process| process.vms[self.vm].worker.is_some());
        let role = if is_injector { "injector" } else { "refresher" };
        (name == "plugin_root_id").then(|| role.to_owned())
    }

    fn configuration(&self) -> Vec<u8> {
        self.with(|process| process.setup.configuration(process.mutation))
    }

    fn set_tick_period(&self, period: Duration) {
        self.with(|process| {
            process.vms[self.vm].period = millis(period);
            process.arm(self.vm);
        });
    }

    fn focus(&self, context: u32) {
        self.with(|process| process.vms[self.vm].focus = context);
    }

    fn headers(&self, map: Headers) -> HeaderMap {
        self.with(|process| {
            let state = &process.vms[self.vm];
            let exchange = process.exchanges.get(&state.focus);
            let pairs: Vec<(String, Vec<u8>)> = match (map, exchange) {
                (Headers::Request, Some(exchange)) => {
                    exchange.request.clone().into_iter().collect()
                }
                (Headers::Response, Some(exchange)) => {
                    exchange.response.clone().into_iter().collect()
                }
                (Headers::Callout, _) => {
                    let status = state.callout.as_ref().and_then(|callout| callout.status);
                    let value =
                        |status: u16| (":status".to_owned(), status.to_string().into_bytes());
                    status.map(value).into_iter().collect()
                }
                (_, None) => Vec::new(),
            };
            HeaderMap::from_bytes(HeaderMap::encode(&pairs))
        })
    }

    fn set_header(&self, map: Headers, name: &str, value: &[u8]) -> Result<(), HostError> {
        self.with(|process| {
            let focus = process.vms[self.vm].focus;
            let exchange = process
                .exchanges
                .get_mut(&focus)
                .ok_or(HostError::BadArgument)?;
            exchange.is_injected |= map == Headers::Request && name == ":path";
            let headers = match map {
                Headers::Request => &mut exchange.request,
                Headers::Response | Headers::Callout => &mut exchange.response,
            };
            headers.insert(name.to_owned(), value.to_vec());
            Ok(())
        })
    }

    fn remove_header(&self, _: Headers, name: &str) -> Result<(), HostError> {
        self.with(|process| {
            let focus = process.vms[self.vm].focus;
            let exchange = process
                .exchanges
                .get_mut(&focus)
                .ok_or(HostError::BadArgument)?;
            exchange.request.remove(name);
            Ok(())
        })
    }

    fn response_body(&self, max: usize) -> Vec<u8> {
        self.with(|process| {
            let focus = process.vms[self.vm].focus;
            let body = process
                .exchanges
                .get(&focus)
                .map(|exchange| exchange.body.clone());
            let mut body = body.unwrap_or_default();
            body.truncate(max);
            body
        })
    }

    fn resume_request(&self) -> Result<(), HostError> {
        self.with(|process| {
            let focus = process.vms[self.vm].focus;
            if process.parked.remove(&focus).is_none() {
                return Err(HostError::BadArgument);
            }
            process.released.push(focus);
            Ok(())
        })
    }

    fn resume_response(&self) -> Result<(), HostError> {
        Ok(())
    }

    fn local_reply(&self, _: u16, _: &[(&str, &str)], _: &[u8]) -> Result<(), HostError> {
        self.with(|process| {
            let focus = process.vms[self.vm].focus;
            let exchange = process
                .exchanges
                .get_mut(&focus)
                .ok_or(HostError::BadArgument)?;
            exchange.is_replied = true;
            process.parked.remove(&focus);
            process.checks.seen.replies += 1;
            process.after(0, Event::End { stream: focus });
            Ok(())
        })
    }

    fn shared(&self, key: &str) -> Option<(Vec<u8>, Cas)> {
        self.with(|process| {
            if process.mutation == Some(Mutation::UpdatedLost) && key == epoch_key() {
                return Some((encode_epoch(1), Cas(0)));
            }
            let app = app_of(key);
            let is_worker = process.vms[self.vm].worker.is_some();
            let key = match app {
                Some(_) if is_worker && process.mutation == Some(Mutation::OtherAppsToken) => {
                    app_key(APPS[0])
                }
                _ => key.to_owned(),
            };
            let (bytes, cas) = process.shared.get(&key)?;
            let bytes = match app {
                Some(app) => self.read_record(process, app, bytes),
                None => bytes.clone(),
            };
            Some((bytes, Cas(*cas)))
        })
    }

    fn set_shared(&self, key: &str, value: &[u8], cas: Cas) -> Result<(), HostError> {
        // Other threads run between our reading and our writing.
        self.world.preempt(self.vm);
        self.with(|process| {
            let present = process
                .shared
                .get(key)
                .map_or(Cas::ABSENT, |(_, cas)| Cas(*cas));
            let is_checked = cas != Cas(0) && process.mutation != Some(Mutation::CasLeftOut);
            if is_checked && cas != present {
                process.checks.seen.lost_writes += 1;
                return Err(HostError::CasMismatch);
            }
            let value = match app_of(key) {
                Some(app) => self.write_record(process, app, value),
                None => value.to_vec(),
            };
            if key.starts_with(SLOTS) {
                if let Some(slot) = SlotRecord::decode(&value) {
                    process.owners.insert(slot.incarnation, self.vm);
                }
            }
            let next = process.next_id();
            process.shared.insert(key.to_owned(), (value, next));
            if key == epoch_key() {
                if let Some(app) = process.vms[self.vm].last_app {
                    process.checks.announced(app);
                }
            }
            Ok(())
        })
    }

    fn register_queue(&self, name: &str) -> Result<u32, HostError> {
        self.with(|process| {
            let queue = match process.queues.iter().position(|queue| queue.name == name) {
                Some(queue) => queue,
                None => {
                    process.queues.push(Queue {
                        name: name.to_owned(),
                        owner: self.vm,
                        messages: Default::default(),
                    });
                    process.queues.len() - 1
                }
            };
            process.queues[queue].owner = self.vm;
            Ok(queue as u32)
        })
    }

    fn resolve_queue(&self, name: &str) -> Option<u32> {
        self.with(|process| process.queues.iter().position(|queue| queue.name == name))
            .map(|queue| queue as u32)
    }

    fn enqueue(&self, queue: u32, message: &[u8]) -> Result<(), HostError> {
        self.with(|process| {
            let message = match (process.mutation, Message::decode(message)) {
                (Some(Mutation::UpdatedLost), Some(Message::Updated { .. })) => return Ok(()),
                _ => message.to_vec(),
            };
            process.send(queue as usize, message);
            Ok(())
        })
    }

    fn dequeue(&self, queue: u32) -> Option<Vec<u8>> {
        self.with(|process| {
            let message = process
                .queues
                .get_mut(queue as usize)?
                .messages
                .pop_front()?;
            match (process.mutation, Message::decode(&message)) {
                (Some(Mutation::NoGenerationCheck), Some(Message::Rejected { appid, .. })) => {
                    let app = APPS.iter().position(|known| *known == appid)?;
                    let generation = Generation(process.record(app).generation.0);
                    Some(Message::Rejected { appid, generation }.encode())
                }
                _ => Some(message),
            }
        })
    }

    fn call(&self, callout: &Callout<'_>) -> Result<u32, HostError> {
        self.with(|process| {
            if process.now < process.weather.not_sent {
                return Err(HostError::BadArgument);
            }
            let path = callout
                .headers
                .iter()
                .find(|(name, _)| *name == ":path")
                .map_or("", |h| h.1);
            let text = format!("{path}{}", String::from_utf8_lossy(callout.body));
            let app = APPS
                .iter()
                .position(|appid| text.contains(appid))
                .ok_or(HostError::BadArgument)?;
            let id = process.next_id();
            let timeout = millis(callout.timeout);
            let call = Call {
                vm: self.vm,
                app,
                is_stable: path.starts_with("/cgi-bin/stable_token"),
                until: process.now + timeout,
            };
            let record = process.record(app);
            process.checks.call(
                process.now,
                app,
                id,
                &record,
                &process.setup,
                &process.wechat,
            );
            process.dispatch(id, call);
            Ok(id)
        })
    }

    fn callout_body(&self, max: usize) -> Vec<u8> {
        self.with(|process| {
            let body = process.vms[self.vm]
                .callout
                .as_ref()
                .map(|answer| answer.body.clone());
            let mut body = body.unwrap_or_default().into_bytes();
            body.truncate(max);
            body
        })
    }

    fn define_metric(&self, _: Kind, _: &str) -> Result<u32, HostError> {
        Ok(1)
    }

    fn add_metric(&self, _: u32, _: u64) {}

    fn record_metric(&self, _: u32, _: u64) {}
}

/// A midnight in Shanghai.
const MIDNIGHT: u64 = 20_833 * 86_400_000 - 8 * 3_600_000;

fn app_of(key: &str) -> Option<usize> {
    APPS.iter().position(|appid| key == app_key(appid))
}
