//! A small Envoy on a virtual clock: one singleton, some workers, and a WeChat that grants every call at once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::json;
use wechat_token::host::headers::HeaderMap;
use wechat_token::host::root::Root;
use wechat_token::host::slot::tell;
use wechat_token::host::{Callout, Cas, Headers, Host, HostError};
use wechat_token::message::Message;
use wechat_token::metrics::Kind;
use wechat_token::record::{app_key, AppRecord, Holder, SlotRecord, PREFIX};
use wechat_token::time::{Millis, UnixMillis};

/// Apps that all roots know.
pub const APPS: usize = 1_000;
/// Virtual machines of injectors; the one with this number is the singleton's.
pub const WORKERS: usize = 4;
const TICK: u64 = 250;

/// The process and its roots.
pub struct Envoy {
    process: Process,
    roots: Vec<Option<Root>>,
}

/// What a virtual machine read from shared data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reads {
    /// Records of apps.
    pub records: u64,
    /// Records of slots.
    pub slots: u64,
}

#[derive(Default)]
struct Process {
    now: Cell<u64>,
    luck: Cell<u64>,
    apps: usize,
    shared: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    queues: RefCell<Vec<(String, VecDeque<Vec<u8>>)>>,
    calls: RefCell<Vec<(usize, u32)>>,
    reads: RefCell<Vec<Reads>>,
}

struct Vm<'a> {
    process: &'a Process,
    number: usize,
}

/// The appid of a number.
pub fn appid(app: usize) -> String {
    format!("wx{app}")
}

impl Envoy {
    /// An Envoy whose roots all run.
    pub fn new(apps: usize) -> Envoy {
        let process = Process {
            now: Cell::new(1_000),
            apps,
            reads: RefCell::new(vec![Reads::default(); WORKERS + 1]),
            ..Process::default()
        };
        let roots = (0..=WORKERS).map(|_| None).collect();
        let mut envoy = Envoy { process, roots };
        (0..=WORKERS).for_each(|number| envoy.start(number));
        envoy
    }

    /// Configures a virtual machine anew.
    pub fn start(&mut self, number: usize) {
        let host = self.host(number);
        let root = Root::configure(&host, 1).expect("the configuration is good");
        self.roots[number] = Some(root);
    }

    /// The virtual machine is never called again.
    pub fn kill(&mut self, number: usize) {
        self.roots[number] = None;
        let mut calls = self.process.calls.borrow_mut();
        calls.retain(|(vm, _)| *vm != number);
    }

    /// Virtual machines that start from now on know so many apps.
    pub fn knows(&mut self, apps: usize) {
        self.process.apps = apps;
    }

    /// Lets time pass.
    pub fn run(&mut self, span: u64) {
        for _ in 0..span / TICK {
            self.process.now.set(self.process.now.get() + TICK);
            self.each(|root, host| root.handle_tick(host));
            // Answers make room for further calls.
            while !self.process.calls.borrow().is_empty() {
                let calls = self.process.calls.take();
                for (number, call) in calls {
                    let host = Vm {
                        process: &self.process,
                        number,
                    };
                    if let Some(root) = &mut self.roots[number] {
                        root.handle_callout(&host, call, 1);
                    }
                }
                self.each(|root, host| root.handle_queue(host));
            }
        }
    }

    /// Tells the holder of an app that WeChat rejected its token, so that it gets a new one.
    pub fn reject(&self, appid: &str) {
        let record = self.record(appid).expect("a record");
        let message = Message::Rejected {
            appid: appid.to_owned(),
            generation: record.generation,
        };
        tell(&self.host(0), record.holder.slot, &message.encode());
    }

    /// Writes a holder that nobody has ever seen into an app's record.
    pub fn give_to_a_dead_one(&self, appid: &str) {
        let record = self.record(appid).expect("a record");
        let record = AppRecord {
            term: record.term + 1,
            holder: Holder {
                slot: 4_000,
                incarnation: 1,
                primary: false,
            },
            ..record
        };
        let mut shared = self.process.shared.borrow_mut();
        let (value, cas) = shared.get_mut(&app_key(appid)).expect("a record");
        *value = record.encode();
        *cas += 1;
    }

    /// An app's record.
    pub fn record(&self, appid: &str) -> Option<AppRecord> {
        let shared = self.process.shared.borrow();
        AppRecord::decode(&shared.get(&app_key(appid))?.0)
    }

    /// How many of the apps the singleton holds.
    pub fn held_by_primary(&self) -> usize {
        self.count(|holder| holder.primary)
    }

    /// How many of the apps have a holder whose heartbeat is fresh.
    pub fn held_by_the_living(&self) -> usize {
        self.count(|holder| {
            let shared = self.process.shared.borrow();
            let slot = shared.get(&format!("{PREFIX}slot/{}", holder.slot));
            let slot = slot.and_then(|(bytes, _)| SlotRecord::decode(bytes));
            slot.is_some_and(|slot| {
                slot.incarnation == holder.incarnation
                    && self.process.now.get() - slot.heartbeat.0 < 1_000
            })
        })
    }

    fn count(&self, is_right: impl Fn(&Holder) -> bool) -> usize {
        let holders = (0..APPS).filter_map(|app| Some(self.record(&appid(app))?.holder));
        holders.filter(is_right).count()
    }

    /// What each virtual machine has read.
    pub fn reads(&self) -> Vec<Reads> {
        self.process.reads.borrow().clone()
    }

    /// Counts anew.
    pub fn forget_reads(&self) {
        self.process.reads.borrow_mut().fill(Reads::default());
    }

    fn each(&mut self, act: impl Fn(&mut Root, &Vm<'_>)) {
        for (number, root) in self.roots.iter_mut().enumerate() {
            let host = Vm {
                process: &self.process,
                number,
            };
            if let Some(root) = root {
                act(root, &host);
            }
        }
    }

    fn host(&self, number: usize) -> Vm<'_> {
        Vm {
            process: &self.process,
            number,
        }
    }
}

impl Host for Vm<'_> {
    fn now(&self) -> Millis {
        Millis(self.process.now.get())
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1_800_000_000_000 + self.process.now.get())
    }

    fn random(&self) -> u64 {
        let luck = &self.process.luck;
        luck.set(luck.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        luck.get()
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn property(&self, _: &str) -> Option<String> {
        let role = if self.number == WORKERS {
            "refresher"
        } else {
            "injector"
        };
        Some(role.to_owned())
    }

    fn configuration(&self) -> Vec<u8> {
        let apps: Vec<_> = (0..self.process.apps)
            .map(|app| json!({"appid": appid(app), "secret": {"value": "a-secret"}}))
            .collect();
        json!({ "apps": apps }).to_string().into_bytes()
    }

    fn set_tick_period(&self, _: Duration) {}

    fn focus(&self, _: u32) {}

    fn headers(&self, _: Headers) -> HeaderMap {
        HeaderMap::from_bytes(HeaderMap::encode(&[(":status", "200")]))
    }

    fn set_header(&self, _: Headers, _: &str, _: &[u8]) -> Result<(), HostError> {
        Ok(())
    }

    fn remove_header(&self, _: Headers, _: &str) -> Result<(), HostError> {
        Ok(())
    }

    fn response_body(&self, _: usize) -> Vec<u8> {
        Vec::new()
    }

    fn resume_request(&self) -> Result<(), HostError> {
        Ok(())
    }

    fn resume_response(&self) -> Result<(), HostError> {
        Ok(())
    }

    fn local_reply(&self, _: u16, _: &[(&str, &str)], _: &[u8]) -> Result<(), HostError> {
        Ok(())
    }

    fn shared(&self, key: &str) -> Option<(Vec<u8>, Cas)> {
        let reads = &mut self.process.reads.borrow_mut()[self.number];
        let kind = key.strip_prefix(PREFIX).unwrap_or_default();
        reads.records += u64::from(kind.starts_with("app/"));
        reads.slots += u64::from(kind.starts_with("slot/"));
        let shared = self.process.shared.borrow();
        let (value, cas) = shared.get(key)?;
        Some((value.clone(), Cas(*cas)))
    }

    fn set_shared(&self, key: &str, value: &[u8], cas: Cas) -> Result<(), HostError> {
        let mut shared = self.process.shared.borrow_mut();
        let present = shared.get(key).map_or(Cas::ABSENT, |(_, cas)| Cas(*cas));
        if cas != present {
            return Err(HostError::CasMismatch);
        }
        let next = if present == Cas::ABSENT {
            1
        } else {
            present.0 + 1
        };
        shared.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }

    fn register_queue(&self, name: &str) -> Result<u32, HostError> {
        if let Some(queue) = self.resolve_queue(name) {
            return Ok(queue);
        }
        let mut queues = self.process.queues.borrow_mut();
        queues.push((name.to_owned(), VecDeque::new()));
        Ok(queues.len() as u32 - 1)
    }

    fn resolve_queue(&self, name: &str) -> Option<u32> {
        let queues = self.process.queues.borrow();
        let place = queues.iter().position(|(known, _)| known == name)?;
        Some(place as u32)
    }

    fn enqueue(&self, queue: u32, message: &[u8]) -> Result<(), HostError> {
        let mut queues = self.process.queues.borrow_mut();
        queues[queue as usize].1.push_back(message.to_vec());
        Ok(())
    }

    fn dequeue(&self, queue: u32) -> Option<Vec<u8>> {
        self.process.queues.borrow_mut()[queue as usize]
            .1
            .pop_front()
    }

    fn call(&self, _: &Callout<'_>) -> Result<u32, HostError> {
        let id = self.random() as u32;
        self.process.calls.borrow_mut().push((self.number, id));
        Ok(id)
    }

    fn callout_body(&self, _: usize) -> Vec<u8> {
        let token = format!("token-{}", self.random());
        json!({"access_token": token, "expires_in": 7200})
            .to_string()
            .into_bytes()
    }

    fn define_metric(&self, _: Kind, _: &str) -> Result<u32, HostError> {
        Ok(1)
    }

    fn add_metric(&self, _: u32, _: u64) {}

    fn record_metric(&self, _: u32, _: u64) {}
}
