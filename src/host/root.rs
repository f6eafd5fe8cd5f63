//! A root context: one per role and virtual machine. It owns the slot and passes events to refresher and injector.
//!
//! Envoy also configures roots in virtual machines that it throws away (to check the configuration). So configuring
//! only reads; slot, queue, leases and calls begin with the first tick, which never comes there.

use std::rc::Rc;
use std::time::Duration;

use log::{error, info, warn};

use crate::config::{quoted, Config, Role};
use crate::host::injector::Injector;
use crate::host::metrics::Metrics;
use crate::host::refresher::Refresher;
use crate::host::slot::Slot;
use crate::host::status::Pages;
use crate::host::{Flow, Host};
use crate::message::Message;

/// The first tick comes at once, so that the first token is there early.
const FIRST_TICK: Duration = Duration::from_millis(5);
const TICK: Duration = Duration::from_millis(250);
const NO_MORE_TICKS: Duration = Duration::ZERO;

/// What requests come to.
pub enum Server {
    /// Those that shall get a token.
    Injector(Box<Injector>),
    /// Those of operators and probes.
    Pages(Pages),
}

/// A root context.
pub struct Root {
    id: u32,
    role: Role,
    slot: Option<Slot>,
    refresher: Refresher,
    /// What requests come to; nothing in the singleton.
    pub server: Option<Server>,
    metrics: Metrics,
    has_warned_of_version: bool,
    has_started: bool,
}

impl Root {
    /// Configures a root; `None` (after one line in the log) when its root id or configuration is wrong.
    pub fn configure<H: Host>(host: &H, id: u32) -> Option<Root> {
        let name = host.property("plugin_root_id").unwrap_or_default();
        let Some(role) = Role::of(&name) else {
            let name = quoted(&name);
            error!("event=config_refused problem=\"root_id: {name} is unknown; allowed: refresher, injector, status\"");
            return None;
        };
        let config = match Config::parse(&host.configuration(), &|name| host.env(name), role) {
            Ok(config) => Rc::new(config),
            Err(problem) => {
                error!("event=config_refused role={name} problem=\"{problem}\"");
                return None;
            }
        };
        for problem in &config.skipped {
            warn!("event=app_skipped role={name} problem=\"{problem}\"");
        }
        host.set_tick_period(FIRST_TICK);
        Some(Root {
            id,
            role,
            slot: None,
            refresher: Refresher::new(Rc::clone(&config)),
            server: match role {
                Role::Refresher => None,
                Role::Injector => Some(Server::Injector(Box::new(Injector::new(host, config)))),
                Role::Status => Some(Server::Pages(Pages::new(config))),
            },
            metrics: Metrics::default(),
            has_warned_of_version: false,
            has_started: false,
        })
    }

    /// Time has passed.
    pub fn handle_tick<H: Host>(&mut self, host: &H) {
        #[cfg(feature = "trap")]
        crate::host::trap::on_tick(host, self.is_primary(), self.refresher.is_holder());
        if let Some(Server::Pages(_)) = self.server {
            self.tell_started();
            return host.set_tick_period(NO_MORE_TICKS);
        }
        let now = host.now();
        let keeps_slot = self.slot.as_mut().is_some_and(|slot| slot.beat(host, now));
        if !keeps_slot {
            if self.slot.take().is_some() {
                warn!("event=slot_lost");
                self.refresher.step_down();
            } else if !self.has_started {
                self.has_started = true;
                self.tell_started();
                host.set_tick_period(TICK);
            }
            self.slot = Slot::claim(host, self.is_primary(), now);
            if let Some(slot) = &self.slot {
                info!("event=slot_taken slot={}", slot.me.slot);
            }
        }
        // Messages first: with their help both see what changed, without them only that something did.
        self.drain(host);
        if let Some(slot) = &self.slot {
            self.refresher.handle_tick(host, slot, &mut self.metrics);
        }
        if let Some(Server::Injector(injector)) = &mut self.server {
            injector.handle_tick(host, &mut self.metrics);
        }
        host.focus(self.id);
        self.metrics.flush(host);
    }

    /// There are messages.
    pub fn handle_queue<H: Host>(&mut self, host: &H) {
        self.drain(host);
    }

    /// A callout was answered.
    pub fn handle_callout<H: Host>(&mut self, host: &H, call: u32, headers: usize) {
        if let Some(slot) = &self.slot {
            self.refresher
                .handle_reply(host, slot, &mut self.metrics, call, headers);
        }
    }

    /// The root ends: its slot is free at once.
    pub fn handle_end<H: Host>(&mut self, host: &H) {
        if let Some(slot) = self.slot.take() {
            slot.release(host);
            info!("event=root_ended slot={}", slot.me.slot);
        }
    }

    /// Which version runs: told by roots that live, not by those that Envoy throws away.
    fn tell_started(&self) {
        let (role, version) = (self.role.name(), env!("CARGO_PKG_VERSION"));
        info!("event=started role={role} version={version}");
    }

    /// The singleton holds leases by right.
    fn is_primary(&self) -> bool {
        self.role == Role::Refresher
    }

    fn drain<H: Host>(&mut self, host: &H) {
        let Some(slot) = &self.slot else {
            return;
        };
        while let Some(bytes) = host.dequeue(slot.queue) {
            host.focus(self.id);
            match Message::decode(&bytes) {
                Some(Message::Updated { appid, epoch }) => {
                    self.refresher.handle_updated(&appid, epoch);
                    if let Some(Server::Injector(injector)) = &mut self.server {
                        injector.handle_updated(host, &appid, epoch);
                    }
                }
                Some(Message::Want { appid }) => {
                    self.refresher
                        .handle_want(host, slot, &mut self.metrics, &appid);
                }
                Some(Message::Rejected { appid, generation }) => {
                    self.refresher.handle_rejected(
                        host,
                        slot,
                        &mut self.metrics,
                        &appid,
                        generation,
                    );
                }
                None if !self.has_warned_of_version => {
                    self.has_warned_of_version = true;
                    warn!("event=message_ignored problem=\"unknown version or damaged\"");
                }
                None => {}
            }
        }
        host.focus(self.id);
    }
}

impl Server {
    /// A stream begins.
    pub fn handle_begin(&mut self, stream: u32) {
        match self {
            Server::Injector(injector) => injector.handle_begin(stream),
            Server::Pages(pages) => pages.handle_begin(stream),
        }
    }

    /// The request's headers have come; `None` if the stream did not begin here.
    pub fn handle_request<H: Host>(&mut self, host: &H, stream: u32) -> Option<Flow> {
        match self {
            Server::Injector(injector) => injector.handle_request(host, stream),
            Server::Pages(pages) => pages.handle_request(host, stream),
        }
    }

    /// The answer's headers have come; `None` if it is none to look at.
    pub fn handle_response<H: Host>(&mut self, host: &H, stream: u32, end: bool) -> Option<Flow> {
        match self {
            Server::Injector(injector) => injector.handle_response(host, stream, end),
            Server::Pages(_) => None,
        }
    }

    /// A piece of the answer's body has come; `None` if it is none to look at.
    pub fn handle_response_body<H: Host>(
        &mut self,
        host: &H,
        stream: u32,
        end: bool,
    ) -> Option<Flow> {
        match self {
            Server::Injector(injector) => injector.handle_response_body(host, stream, end),
            Server::Pages(_) => None,
        }
    }

    /// The request is over, or its caller hung up; `None` if the stream did not begin here.
    pub fn handle_end(&mut self, stream: u32) -> Option<()> {
        match self {
            Server::Injector(injector) => injector.handle_end(stream),
            Server::Pages(pages) => pages.handle_end(stream),
        }
    }
}
