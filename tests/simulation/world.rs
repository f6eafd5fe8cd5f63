//! The run: takes one event after the other and calls the real contexts, as Envoy would.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wechat_token::host::root::Root;

use super::checks::Seen;
use super::host::SimHost;
use super::plan::{Fault, Mutation, Setup, END, WORKERS};
use super::process::{Answer, Event, Process, VmState};
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
        let setup = Setup::draw(&mut rng, mutation);
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
            process.check_holders();
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
    pub fn load(&self, worker: Option<usize>) -> usize {
        let vm = {
            let process = &mut *self.process.borrow_mut();
            let now = process.now;
            process.vms.push(VmState {
                worker,
                is_dead: false,
                died_at: 0,
                stalled_until: 0,
                runs_since: now,
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
    pub fn enter<T: Default>(
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
