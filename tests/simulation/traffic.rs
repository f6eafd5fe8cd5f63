//! Requests: from the service through the plugin to WeChat, back, and once more if Envoy resends them.

use std::collections::BTreeMap;

use wechat_token::host::Flow;

use super::plan::{APPS, HEALED, TICK, WORKERS};
use super::process::{Event, Exchange};
use super::world::World;

impl World {
    /// A service sends a request; one of a worker that trapped loads the worker again.
    pub fn request(&self) {
        let (worker, app) = {
            let process = &mut *self.process.borrow_mut();
            let every = process.setup.request_every;
            let pause = process.rng.between(1, 2 * every);
            process.after(pause, Event::Request);
            (process.rng.index(WORKERS), process.rng.index(APPS.len()))
        };
        let mut vm = self.process.borrow().serving[worker];
        if self.process.borrow().vms[vm].is_dead {
            vm = self.load(Some(worker));
            self.process.borrow_mut().serving[worker] = vm;
        }
        if !self.process.borrow().can_run(vm) {
            return;
        }
        let mut request = BTreeMap::new();
        for (name, value) in [
            (":authority", "api.weixin.qq.com"),
            (":path", "/cgi-bin/message/send"),
            ("x-wechat-appid", APPS[app]),
        ] {
            request.insert(name.to_owned(), value.as_bytes().to_vec());
        }
        let since = self.process.borrow().now;
        self.serve(vm, app, request, since, false);
    }

    fn serve(
        &self,
        vm: usize,
        app: usize,
        request: BTreeMap<String, Vec<u8>>,
        since: u64,
        is_resent: bool,
    ) {
        let (stream, latest) = {
            let process = &mut *self.process.borrow_mut();
            let stream = process.next_id();
            let exchange = Exchange {
                vm,
                app,
                is_resent,
                since,
                request,
                response: Default::default(),
                body: Vec::new(),
                is_injected: false,
                is_replied: false,
            };
            process.exchanges.insert(stream, exchange);
            (stream, process.now + process.setup.wait + TICK)
        };
        let flow = self.enter(vm, stream, |root, host| {
            let injector = root.server.as_mut()?;
            injector.handle_begin(stream);
            injector.handle_request(host, stream)
        });
        let process = &mut *self.process.borrow_mut();
        let is_replied = process.exchanges.get(&stream).is_some_and(|e| e.is_replied);
        if flow == Some(Flow::Continue) {
            process.released.push(stream);
        } else if !is_replied {
            process.parked.insert(stream, latest);
            process.checks.seen.parked += 1;
            if process.rng.chance(5) {
                process.after(300, Event::End { stream });
            }
        }
    }

    /// Requests that go on are on their way to WeChat.
    pub fn send_released(&self) {
        let process = &mut *self.process.borrow_mut();
        for stream in std::mem::take(&mut process.released) {
            let Some(exchange) = process.exchanges.get(&stream) else {
                continue;
            };
            if exchange.is_injected {
                let token = token_of(exchange);
                process.checks.leaves(
                    process.now,
                    exchange.vm,
                    exchange.app,
                    &token,
                    &process.wechat,
                );
            }
            let way = process.rng.between(2, 40);
            process.after(way, Event::Business { stream });
        }
    }

    /// A business call is at WeChat's door.
    pub fn business(&self, stream: u32) {
        let process = &mut *self.process.borrow_mut();
        let Some(exchange) = process.exchanges.get(&stream) else {
            return;
        };
        let (app, token) = (exchange.app, token_of(exchange));
        let is_accepted = process.wechat.accepts(app, &token, process.now);
        // A few answers are slow, so that a rejection may be about a token that is long replaced.
        let way = if process.rng.chance(3) {
            process.rng.between(100, 6_000)
        } else {
            process.rng.between(2, 40)
        };
        process.after(
            way,
            Event::Answered {
                stream,
                is_accepted,
            },
        );
    }

    /// WeChat's answer comes back, and is resent if the plugin marked it.
    pub fn answered(&self, stream: u32, is_accepted: bool) {
        let vm = {
            let process = &mut *self.process.borrow_mut();
            let Some(exchange) = process.exchanges.get_mut(&stream) else {
                return;
            };
            let body = if is_accepted {
                r#"{"errcode":0,"errmsg":"ok"}"#
            } else {
                r#"{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest"}"#
            };
            exchange.body = body.as_bytes().to_vec();
            for (name, value) in [(":status", "200"), ("content-type", "application/json")] {
                let value = value.as_bytes().to_vec();
                exchange.response.insert(name.to_owned(), value);
            }
            exchange.vm
        };
        self.enter(vm, stream, |root, host| {
            if let Some(injector) = &mut root.server {
                if injector.handle_response(host, stream, false) == Some(Flow::Hold) {
                    self.body_in_pieces(stream, |is_last| {
                        injector.handle_response_body(host, stream, is_last)
                    });
                }
            }
        });
        let Some(exchange) = self.finish(stream) else {
            return;
        };
        let is_marked = exchange.response.contains_key("x-wechat-token-retry");
        if is_marked && !exchange.is_resent {
            self.process.borrow_mut().checks.seen.resent += 1;
            return self.serve(vm, exchange.app, exchange.request, exchange.since, true);
        }
        let process = &mut *self.process.borrow_mut();
        if is_marked {
            process.checks.fail(
                process.now,
                "an answer to a resent request is marked again".to_owned(),
            );
        }
        if is_accepted {
            process.checks.seen.accepted += 1;
        } else if exchange.since >= HEALED {
            let what = format!(
                "{}: nothing is wrong any more, but a request is rejected",
                APPS[exchange.app]
            );
            process.checks.fail(process.now, what);
        }
    }

    /// The answer's body comes in up to three pieces; a held answer keeps what has come.
    fn body_in_pieces(&self, stream: u32, mut came: impl FnMut(bool) -> Option<Flow>) {
        let (whole, mut cuts) = {
            let process = &mut *self.process.borrow_mut();
            let whole = process.exchanges[&stream].body.clone();
            let cuts = [(); 2].map(|()| process.rng.index(whole.len() + 1));
            (whole, cuts)
        };
        cuts.sort_unstable();
        for end in [cuts[0], cuts[1], whole.len()] {
            let is_last = end == whole.len();
            if let Some(exchange) = self.process.borrow_mut().exchanges.get_mut(&stream) {
                exchange.body = whole[..end].to_vec();
            }
            if came(is_last) == Some(Flow::Continue) {
                return;
            }
            assert!(!is_last, "a whole answer is not held");
        }
    }

    /// The stream ends: answered by the plugin, or its caller hung up while it waited.
    pub fn end(&self, stream: u32) {
        let waits = {
            let process = self.process.borrow();
            let is_replied = process.exchanges.get(&stream).is_some_and(|e| e.is_replied);
            is_replied || process.parked.contains_key(&stream)
        };
        if !waits {
            return;
        }
        let Some(exchange) = self.finish(stream) else {
            return;
        };
        let process = &mut *self.process.borrow_mut();
        if exchange.is_replied && exchange.since >= HEALED {
            let what = format!(
                "{}: nothing is wrong any more, but a request is refused",
                APPS[exchange.app]
            );
            process.checks.fail(process.now, what);
        }
    }

    fn finish(&self, stream: u32) -> Option<Exchange> {
        let exchange = {
            let process = &mut *self.process.borrow_mut();
            process.parked.remove(&stream);
            process.exchanges.remove(&stream)?
        };
        self.enter(exchange.vm, stream, |root, _| {
            if let Some(injector) = &mut root.server {
                injector.handle_end(stream);
            }
        });
        Some(exchange)
    }
}

fn token_of(exchange: &Exchange) -> String {
    let path = exchange.request.get(":path").cloned().unwrap_or_default();
    let path = String::from_utf8(path).expect("a path in ASCII");
    path.split_once("access_token=")
        .map_or_else(String::new, |(_, token)| token.to_owned())
}
