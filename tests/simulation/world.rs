//! The run: takes one event after the other and calls the real contexts, as Envoy would.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wechat_token::host::root::Root;
use wechat_token::host::Flow;

use super::checks::Seen;
use super::host::SimHost;
use super::plan::{Fault, Mutation, Setup, APPS, END, HEALED, TICK, WORKERS};
use super::process::{Answer, Event, Exchange, Process, VmState};
use super::rng::Rng;

/// The root's context id in every virtual machine.
const ROOT: u32 = 1;
/// A replaced filter drains for this long, in milliseconds.
const DRAIN: u64 = 5_000;

/// One Envoy, its callers and WeChat.
pub struct World {
    /// Everything but the contexts.
    pub process: RefCell<Process>,
    roots: RefCell<Vec<Rc<RefCell<Option<Root>>>>>,
    depth: Cell<usize>,
}

impl World {
    /// Runs a seed to its end; the error says which rule was broken, and when.
    pub fn run(seed: u64, mutation: Option<Mutation>) -> Result<Seen, String> {
        let mut rng = Rng::new(seed);
        let setup = Setup::draw(&mut rng);
        let world = World {
            process: RefCell::new(Process::new(setup, rng, mutation)),
            roots: RefCell::default(),
            depth: Cell::new(0),
        };
        world.start();
        loop {
            let Some(event) = world.process.borrow_mut().pop() else {
                return Err("nothing happens any more".to_owned());
            };
            world.step(event);
            world.send_released();
            let mut process = world.process.borrow_mut();
            process.check_deadlines();
            if let Some(violation) = process.checks.violation.take() {
                return Err(violation);
            }
            if process.now >= END {
                return Ok(process.checks.seen);
            }
        }
    }

    /// Lets other virtual machines run in the middle of a callback of `vm`, as threads do.
    pub fn preempt(&self, vm: usize) {
        let other = {
            let process = &mut *self.process.borrow_mut();
            if self.depth.get() >= 2 || !process.rng.chance(process.setup.preempt) {
                return;
            }
            let other = process.rng.index(process.vms.len());
            if other == vm || process.vms[other].timer < 2 || !process.can_run(other) {
                return;
            }
            other
        };
        self.depth.set(self.depth.get() + 1);
        self.tick(other);
        self.depth.set(self.depth.get() - 1);
    }

    fn start(&self) {
        for worker in 0..WORKERS {
            let vm = self.load(Some(worker));
            self.process.borrow_mut().serving[worker] = vm;
        }
        let process = &mut *self.process.borrow_mut();
        for (at, fault) in process.setup.faults.clone() {
            process.after(at, Event::Fault(fault));
        }
        process.after(process.setup.refresher_at, Event::StartRefresher);
        process.after(0, Event::Request);
    }

    fn step(&self, event: Event) {
        if let Some(vm) = self.vm_of(&event) {
            let process = &mut *self.process.borrow_mut();
            if process.vms[vm].is_dead {
                return;
            }
            if !process.can_run(vm) {
                let span = process.vms[vm].stalled_until - process.now;
                return process.after(span, event);
            }
        }
        match event {
            Event::Tick { vm, timer } => self.handle_timer(vm, timer),
            Event::Notified { vm } => self.enter(vm, ROOT, |root, host| root.handle_queue(host)),
            Event::Deliver { queue, message } => self.process.borrow_mut().deliver(queue, message),
            Event::CallArrives { call } => self.process.borrow_mut().answer_call(call),
            Event::Reply { call, answer } => self.reply(call, answer),
            Event::Request => self.request(),
            Event::Business { stream } => self.business(stream),
            Event::Answered {
                stream,
                is_accepted,
            } => self.answered(stream, is_accepted),
            Event::End { stream } => self.end(stream),
            Event::Fault(fault) => self.fault(fault),
            Event::StartRefresher => {
                self.load(None);
            }
            Event::EndVm { vm } => {
                self.enter(vm, ROOT, |root, host| root.handle_end(host));
                self.process.borrow_mut().kill(vm);
            }
        }
    }

    /// Whose thread an event needs.
    fn vm_of(&self, event: &Event) -> Option<usize> {
        let process = self.process.borrow();
        let of_stream = |stream| process.exchanges.get(stream).map(|exchange| exchange.vm);
        match event {
            Event::Tick { vm, .. } | Event::Notified { vm } | Event::EndVm { vm } => Some(*vm),
            Event::Reply { call, .. } => process.calls.get(call).map(|call| call.vm),
            Event::Answered { stream, .. } | Event::End { stream } => of_stream(stream),
            _ => None,
        }
    }

    /// Configures a virtual machine, and another one that is thrown away, as Envoy does.
    fn load(&self, worker: Option<usize>) -> usize {
        let vm = {
            let process = &mut *self.process.borrow_mut();
            process.vms.push(VmState {
                worker,
                is_dead: false,
                stalled_until: 0,
                timer: 0,
                period: 0,
                focus: ROOT,
                callout: None,
                last_app: None,
                leases: Default::default(),
            });
            process.vms.len() - 1
        };
        let host = SimHost { world: self, vm };
        drop(Root::configure(&host, ROOT));
        let root = Root::configure(&host, ROOT);
        assert!(root.is_some(), "the configuration is good");
        self.roots.borrow_mut().push(Rc::new(RefCell::new(root)));
        vm
    }

    /// Calls into a virtual machine with `focus` as the current context; not if it runs already.
    fn enter<T: Default>(
        &self,
        vm: usize,
        focus: u32,
        act: impl FnOnce(&mut Root, &SimHost) -> T,
    ) -> T {
        let root = Rc::clone(&self.roots.borrow()[vm]);
        let Ok(mut root) = root.try_borrow_mut() else {
            return T::default();
        };
        self.process.borrow_mut().vms[vm].focus = focus;
        root.as_mut()
            .map(|root| act(root, &SimHost { world: self, vm }))
            .unwrap_or_default()
    }

    fn handle_timer(&self, vm: usize, timer: u64) {
        if self.process.borrow().vms[vm].timer != timer {
            return;
        }
        self.tick(vm);
        let process = &mut *self.process.borrow_mut();
        let is_deaf = process.mutation == Some(Mutation::NoDeadlines) && process.now > 20_000;
        if process.vms[vm].timer == timer && !is_deaf {
            process.arm(vm);
        }
    }

    fn tick(&self, vm: usize) {
        self.enter(vm, ROOT, |root, host| {
            let mark = {
                let process = self.process.borrow();
                process.checks.tick_begins(process.now)
            };
            root.handle_tick(host);
            self.process.borrow_mut().checks.tick_ended(vm, mark);
        });
    }

    fn reply(&self, call: u32, answer: Answer) {
        let Some((vm, headers)) = ({
            let process = &mut *self.process.borrow_mut();
            process.calls.remove(&call).map(|made| {
                process.checks.call_ended(made.app, call);
                let headers = usize::from(answer.status.is_some());
                process.vms[made.vm].callout = Some(answer);
                (made.vm, headers)
            })
        }) else {
            return;
        };
        self.enter(vm, ROOT, |root, host| {
            root.handle_callout(host, call, headers)
        });
        self.process.borrow_mut().vms[vm].callout = None;
    }

    fn request(&self) {
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
        let mut request = std::collections::BTreeMap::new();
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
        request: std::collections::BTreeMap<String, Vec<u8>>,
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
            Some(root.injector.as_mut()?.handle_request(host, stream))
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
    fn send_released(&self) {
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

    fn business(&self, stream: u32) {
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

    fn answered(&self, stream: u32, is_accepted: bool) {
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
            exchange
                .response
                .insert("content-type".to_owned(), b"application/json".to_vec());
            exchange.vm
        };
        self.enter(vm, stream, |root, host| {
            if let Some(injector) = &mut root.injector {
                if injector.handle_response(host, stream, false) == Flow::Hold {
                    let flow = injector.handle_response_body(host, stream, true);
                    assert_eq!(flow, Flow::Continue, "a whole answer is not held");
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

    /// The stream ends: answered by the plugin, or its caller hung up while it waited.
    fn end(&self, stream: u32) {
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
            if let Some(injector) = &mut root.injector {
                injector.handle_end(stream);
            }
        });
        Some(exchange)
    }

    fn fault(&self, fault: Fault) {
        let left = self.process.borrow_mut().turn_weather(fault);
        match left {
            Some(Fault::TrapRefresher) => {
                let process = &mut *self.process.borrow_mut();
                if let Some(vm) = process.vms.iter().position(|vm| vm.worker.is_none()) {
                    process.kill(vm);
                }
            }
            Some(Fault::TrapWorker { worker }) => {
                let process = &mut *self.process.borrow_mut();
                process.kill(process.serving[worker]);
            }
            Some(Fault::Replace { worker }) => {
                let old = self.process.borrow().serving[worker];
                let new = self.load(Some(worker));
                let process = &mut *self.process.borrow_mut();
                process.serving[worker] = new;
                process.after(DRAIN, Event::EndVm { vm: old });
            }
            _ => {}
        }
    }
}

fn token_of(exchange: &Exchange) -> String {
    let path = exchange.request.get(":path").cloned().unwrap_or_default();
    let path = String::from_utf8(path).expect("a path in ASCII");
    path.split_once("access_token=")
        .map_or_else(String::new, |(_, token)| token.to_owned())
}
