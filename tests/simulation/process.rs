//! One Envoy process as data: clock, shared data, queues, virtual machines, calls and requests, and what comes next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use wechat_token::record::{app_key, AppRecord, Holder};
use wechat_token::token::Token;

use super::checks::Checks;
use super::plan::{Fault, Mutation, Setup, TokenFault, APPS, WORKERS};
use super::rng::Rng;
use super::wechat::WeChat;

/// What comes at some instant.
#[derive(Debug)]
pub enum Event {
    /// The timer of a virtual machine; only the one that was set last counts.
    Tick { vm: usize, timer: u64 },
    /// A virtual machine hears of messages.
    Notified { vm: usize },
    /// A late message reaches its queue.
    Deliver { queue: usize, message: Vec<u8> },
    /// A token call reaches WeChat.
    CallArrives { call: u32 },
    /// The answer to a token call, or its timeout.
    Reply { call: u32, answer: Answer },
    /// A service sends a request.
    Request,
    /// A business call reaches WeChat.
    Business { stream: u32 },
    /// WeChat's answer to a business call comes back.
    Answered { stream: u32, is_accepted: bool },
    /// The stream is over; its caller may have hung up.
    End { stream: u32 },
    /// A fault begins.
    Fault(Fault),
    /// The singleton comes up.
    StartRefresher,
    /// A drained virtual machine ends.
    EndVm { vm: usize },
}

/// The answer to a callout: no status means that the connection broke.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: Option<u16>,
    /// The body.
    pub body: String,
}

/// A request on its way through Envoy.
#[derive(Debug)]
pub struct Exchange {
    /// The virtual machine that serves it.
    pub vm: usize,
    /// The app that the caller named.
    pub app: usize,
    /// It was sent before and its token was rejected.
    pub is_resent: bool,
    /// When the service sent it.
    pub since: u64,
    /// Request headers.
    pub request: BTreeMap<String, Vec<u8>>,
    /// Response headers.
    pub response: BTreeMap<String, Vec<u8>>,
    /// The answer's body.
    pub body: Vec<u8>,
    /// The plugin set the path.
    pub is_injected: bool,
    /// The plugin answered it.
    pub is_replied: bool,
}

/// What a virtual machine is to its host.
#[derive(Debug)]
pub struct VmState {
    /// The worker it serves; none for the singleton.
    pub worker: Option<usize>,
    /// Trapped or ended: never called again.
    pub is_dead: bool,
    /// When that came to be.
    pub died_at: u64,
    /// Its thread does not run before this.
    pub stalled_until: u64,
    /// Since when it runs without a break.
    pub runs_since: u64,
    /// Number of the timer that counts.
    pub timer: u64,
    /// Tick period in milliseconds.
    pub period: u64,
    /// The context in focus.
    pub focus: u32,
    /// The answer that its callback may read.
    pub callout: Option<Answer>,
    /// The app whose record it wrote last.
    pub last_app: Option<usize>,
    /// For [`Mutation::NoLeaseTerm`]: the leases it once took.
    pub leases: [Option<(u64, Holder)>; APPS.len()],
}

/// A shared queue: its last registrant is notified.
#[derive(Debug)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Who registered it last.
    pub owner: usize,
    /// What it holds.
    pub messages: VecDeque<Vec<u8>>,
}

/// A token call on its way.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Who made it.
    pub vm: usize,
    /// For which app.
    pub app: usize,
    /// At the stable endpoint.
    pub is_stable: bool,
    /// When it times out.
    pub until: u64,
}

/// What goes wrong at present: each until an instant.
#[derive(Debug, Default)]
pub struct Weather {
    /// Messages are lost, with a share of 100.
    pub lose: (u64, u64),
    /// Messages are doubled, with the delay of the second.
    pub double: (u64, u64),
    /// Messages are late by at most this.
    pub delay: (u64, u64),
    /// Token calls fail.
    pub token_calls: Option<(u64, TokenFault)>,
    /// Token calls cannot be sent.
    pub not_sent: u64,
    /// Callbacks are lost.
    pub callback_lost: u64,
    /// The wall clock is so many days behind.
    pub wall_behind: (u64, u64),
}

/// A dead holder is replaced within this, in milliseconds: 3 s after its last sign of life, and a tick.
const REPLACED_WITHIN: u64 = 3_250;

/// The process.
#[derive(Debug)]
pub struct Process {
    /// Monotonic time in milliseconds.
    pub now: u64,
    /// The luck of this seed.
    pub rng: Rng,
    /// Parameters.
    pub setup: Setup,
    /// The bug that is planted.
    pub mutation: Option<Mutation>,
    /// WeChat.
    pub wechat: WeChat,
    /// The rules.
    pub checks: Checks,
    /// Shared data with its compare-and-swap numbers.
    pub shared: BTreeMap<String, (Vec<u8>, u32)>,
    /// Shared queues.
    pub queues: Vec<Queue>,
    /// Virtual machines, dead ones too.
    pub vms: Vec<VmState>,
    /// Which virtual machine claimed a slot, by its incarnation.
    pub owners: BTreeMap<u64, usize>,
    /// Which virtual machine serves each worker now.
    pub serving: [usize; WORKERS],
    /// Token calls.
    pub calls: BTreeMap<u32, Call>,
    /// Requests.
    pub exchanges: BTreeMap<u32, Exchange>,
    /// Requests that wait, and until when they may.
    pub parked: BTreeMap<u32, u64>,
    /// Requests that the plugin let go on.
    pub released: Vec<u32>,
    /// What is wrong now.
    pub weather: Weather,
    /// For [`Mutation::OlderTokenSaved`]: each app's first token.
    pub first_tokens: [Option<Token>; APPS.len()],
    last_id: u32,
    events: BinaryHeap<Reverse<Entry>>,
    order: u64,
}

#[derive(Debug)]
struct Entry {
    at: u64,
    luck: u64,
    order: u64,
    event: Event,
}

impl Process {
    /// A process before anything runs in it.
    pub fn new(setup: Setup, rng: Rng, mutation: Option<Mutation>) -> Process {
        Process {
            // The clock does not begin at 0, which means "never" in a slot.
            now: 1,
            wechat: WeChat::new(&setup),
            setup,
            rng,
            mutation,
            checks: Checks::default(),
            shared: BTreeMap::new(),
            queues: Vec::new(),
            vms: Vec::new(),
            owners: BTreeMap::new(),
            serving: [0; WORKERS],
            calls: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            parked: BTreeMap::new(),
            released: Vec::new(),
            weather: Weather::default(),
            first_tokens: Default::default(),
            last_id: 1_000,
            events: BinaryHeap::new(),
            order: 0,
        }
    }

    /// A number for a stream or a call.
    pub fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// Lets `event` come `span` from now.
    pub fn after(&mut self, span: u64, event: Event) {
        let at = self.now + span;
        self.order += 1;
        let entry = Entry {
            at,
            luck: self.rng.next(),
            order: self.order,
            event,
        };
        self.events.push(Reverse(entry));
    }

    /// Goes to the next event; what is late already comes in any order.
    pub fn pop(&mut self) -> Option<Event> {
        let Reverse(entry) = self.events.pop()?;
        self.now = self.now.max(entry.at);
        Some(entry.event)
    }

    /// The clock jumps: nothing ran meanwhile, and everybody who waited is excused.
    pub fn pause(&mut self, span: u64) {
        self.now += span;
        for (_, latest) in self.parked.iter_mut() {
            *latest += span;
        }
        let now = self.now;
        for state in &mut self.vms {
            state.runs_since = state.runs_since.max(now);
        }
        let late = std::mem::take(&mut self.events)
            .into_iter()
            .map(|Reverse(mut entry)| {
                entry.at = entry.at.max(now);
                Reverse(entry)
            });
        self.events = late.collect();
    }

    /// A thread does not run for a while: its requests are excused.
    pub fn stall(&mut self, vm: usize, span: u64) {
        let Some(state) = self.vms.get_mut(vm) else {
            return;
        };
        state.stalled_until = state.stalled_until.max(self.now + span);
        state.runs_since = state.runs_since.max(state.stalled_until);
        for (stream, latest) in self.parked.iter_mut() {
            if self
                .exchanges
                .get(stream)
                .is_some_and(|exchange| exchange.vm == vm)
            {
                *latest += span;
            }
        }
    }

    /// The virtual machine is never called again, and its requests are lost.
    pub fn kill(&mut self, vm: usize) {
        let state = &mut self.vms[vm];
        if !std::mem::replace(&mut state.is_dead, true) {
            state.died_at = self.now;
        }
        let lost: Vec<u32> = self
            .exchanges
            .iter()
            .filter(|(_, e)| e.vm == vm)
            .map(|(id, _)| *id)
            .collect();
        for stream in lost {
            self.exchanges.remove(&stream);
            self.parked.remove(&stream);
        }
    }

    /// Whether the host may call into this virtual machine now.
    pub fn can_run(&self, vm: usize) -> bool {
        let state = &self.vms[vm];
        !state.is_dead && state.stalled_until <= self.now
    }

    /// Puts a message into a queue and notifies its last registrant.
    pub fn deliver(&mut self, queue: usize, message: Vec<u8>) {
        let owner = self.queues[queue].owner;
        self.queues[queue].messages.push_back(message);
        let span = self.rng.between(0, 2);
        self.after(span, Event::Notified { vm: owner });
    }

    /// The record of an app as it is.
    pub fn record(&self, app: usize) -> AppRecord {
        self.shared
            .get(&app_key(APPS[app]))
            .and_then(|(bytes, _)| AppRecord::decode(bytes))
            .unwrap_or_default()
    }

    /// Apps whose holder died while others could take its place, and nobody did.
    pub fn check_holders(&mut self) {
        let long_ago = self.now.saturating_sub(REPLACED_WITHIN);
        let somebody_runs = self
            .vms
            .iter()
            .any(|vm| !vm.is_dead && vm.timer > 1 && vm.runs_since < long_ago);
        for (app, name) in APPS.iter().enumerate() {
            let holder = self.record(app).holder.incarnation;
            let Some(vm) = self.owners.get(&holder).and_then(|vm| self.vms.get(*vm)) else {
                continue;
            };
            if somebody_runs && vm.is_dead && vm.died_at < long_ago {
                let what = format!(
                    "{name}: its holder died at {}, and nobody took its place",
                    vm.died_at
                );
                self.checks.fail(self.now, what);
            }
        }
    }

    /// Requests that wait longer than they may.
    pub fn check_deadlines(&mut self) {
        let now = self.now;
        if let Some((stream, latest)) = self.parked.iter().find(|(_, latest)| **latest < now) {
            let what = format!(
                "request {stream} still waits, {} ms past its deadline",
                now - latest
            );
            self.checks.fail(now, what);
        }
    }
}

impl Entry {
    fn key(&self) -> (u64, u64, u64) {
        (self.at, self.luck, self.order)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}
