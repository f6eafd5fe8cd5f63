//! The refresher: keeps the tokens of all apps whose lease it holds.
//!
//! It drives one [`Machine`] per app: carries out its commands, writes its record under the lease, and tells the
//! workers. The singleton's root has one (primary), and so has every injector's root that knows the secrets (standby).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use log::{info, warn};

use crate::config::{App, Config};
use crate::host::metrics::Metrics;
use crate::host::slot::{announce, holder_lives, Slot};
use crate::host::{Callout, Cas, Host, HostError};
use crate::lease::{judge, take, Claim};
use crate::record::{app_key, AppRecord};
use crate::time::Millis;
use crate::token::{Command, Event, Generation, Machine, Moment, Policy, Report, Sample};
use crate::wechat::{parse_token_reply, token_call, Failure};

/// Token calls on their way at once: 1,000 apps must not become 1,000 connections.
const MOST_CALLS: usize = 32;
/// How often the leases of others are looked at.
const PATROL: Duration = Duration::from_secs(1);
/// Bytes of a token reply that are read; a real one has less than 1 KiB.
const MOST_REPLY: usize = 64 * 1024;

/// The apps whose tokens this root keeps, or would keep.
pub struct Refresher {
    config: Rc<Config>,
    index: BTreeMap<String, usize>,
    kept: BTreeMap<usize, Kept>,
    /// When each kept app is due; `Millis(0)` for those that somebody waits for.
    schedule: BTreeSet<(Millis, usize)>,
    calls: BTreeMap<u32, usize>,
    /// Apps whose holder looked dead, and since when: one look is not enough after a pause of the whole process.
    suspects: BTreeMap<usize, Millis>,
    next_patrol: Millis,
}

struct Kept {
    machine: Machine,
    term: u64,
    due: Millis,
    generation: Generation,
}

impl Refresher {
    /// A refresher for the apps of `config` that have a secret.
    pub fn new(config: Rc<Config>) -> Refresher {
        let index = config
            .apps
            .iter()
            .enumerate()
            .filter(|(_, app)| !app.secrets.is_empty())
            .map(|(n, app)| (app.appid.clone(), n))
            .collect();
        Refresher {
            config,
            index,
            kept: BTreeMap::new(),
            schedule: BTreeSet::new(),
            calls: BTreeMap::new(),
            suspects: BTreeMap::new(),
            next_patrol: Millis(0),
        }
    }

    /// Looks after leases, starts what is due, updates gauges.
    pub fn handle_tick<H: Host>(&mut self, host: &H, slot: &Slot, metrics: &mut Metrics) {
        let now = host.now();
        if now >= self.next_patrol {
            self.next_patrol = now.after(PATROL);
            self.patrol(host, slot, now);
            self.gauge(metrics, now);
        }
        self.start_due(host, slot, metrics);
    }

    /// Somebody waits for an app's first token: it goes to the front.
    pub fn handle_want<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        appid: &str,
    ) {
        let now = host.now();
        if let Some(app) = self.index.get(appid).copied() {
            if let Some(kept) = self.kept.get_mut(&app) {
                if !kept.machine.is_refreshing() && kept.machine.next_wakeup() <= now {
                    self.schedule.remove(&(kept.due, app));
                    kept.due = Millis(0);
                    self.schedule.insert((Millis(0), app));
                }
            }
        }
        self.start_due(host, slot, metrics);
    }

    /// WeChat rejected a business call.
    pub fn handle_rejected<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        appid: &str,
        generation: Generation,
    ) {
        if let Some(app) = self.index.get(appid).copied() {
            self.drive(host, slot, metrics, app, Event::Rejected(generation), None);
        }
        self.start_due(host, slot, metrics);
    }

    /// The answer to a token call: `headers` is 0 when the connection failed.
    pub fn handle_reply<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        call: u32,
        headers: usize,
    ) {
        let Some(app) = self.calls.remove(&call) else {
            return;
        };
        let result = if headers == 0 {
            Err(Failure::Unreachable("connection failed or was reset"))
        } else {
            let status = host
                .header(crate::host::Headers::Callout, ":status")
                .and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok())
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

    /// Gives all leases up without a word: the slot was lost.
    pub fn step_down(&mut self) {
        self.kept.clear();
        self.schedule.clear();
        self.calls.clear();
    }

    /// Takes the leases that are free and leaves those that were lost.
    fn patrol<H: Host>(&mut self, host: &H, slot: &Slot, now: Millis) {
        let apps: Vec<(String, usize)> = self
            .index
            .iter()
            .map(|(appid, app)| (appid.clone(), *app))
            .collect();
        for (appid, app) in apps {
            let (record, cas) = read(host, &appid);
            let alive = record.term != 0
                && record.holder != slot.me
                && holder_lives(host, &record.holder, now);
            match judge(&record, &slot.me, alive, now) {
                Claim::Mine if self.kept.contains_key(&app) => {}
                Claim::Theirs => {
                    self.suspects.remove(&app);
                    self.drop_app(app);
                }
                Claim::Mine | Claim::Free => {
                    let since = *self.suspects.entry(app).or_insert(now);
                    // A standby gives the singleton, or a process that was paused, one more round to show itself.
                    if slot.me.primary || now.since(since) >= PATROL {
                        self.suspects.remove(&app);
                        self.take_lease(host, slot, app, &appid, &record, cas);
                    }
                }
            }
        }
    }

    fn take_lease<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        app: usize,
        appid: &str,
        record: &AppRecord,
        cas: Cas,
    ) {
        let taken = take(record, &slot.me);
        if host
            .set_shared(&app_key(appid), &taken.encode(), cas)
            .is_err()
        {
            return;
        }
        let Some(entry) = self.config.apps.get(app) else {
            return;
        };
        if record.term != 0 {
            info!("event=lease_taken app={} term={}", entry.name, taken.term);
        }
        let machine = Machine::adopt(Policy::new(&self.config, entry), &taken, &moment(host));
        let due = machine.next_wakeup();
        self.drop_app(app);
        self.schedule.insert((due, app));
        let generation = machine.generation();
        self.kept.insert(
            app,
            Kept {
                machine,
                term: taken.term,
                due,
                generation,
            },
        );
    }

    fn drop_app(&mut self, app: usize) {
        if let Some(kept) = self.kept.remove(&app) {
            self.schedule.remove(&(kept.due, app));
            self.calls.retain(|_, called| *called != app);
        }
    }

    fn start_due<H: Host>(&mut self, host: &H, slot: &Slot, metrics: &mut Metrics) {
        let now = host.now();
        while let Some((due, app)) = self.schedule.first().copied() {
            let is_lost_reply = self
                .kept
                .get(&app)
                .is_some_and(|kept| kept.machine.is_refreshing());
            if due > now || (self.calls.len() >= MOST_CALLS && !is_lost_reply) {
                return;
            }
            if is_lost_reply {
                self.calls.retain(|_, called| *called != app);
            }
            self.drive(host, slot, metrics, app, Event::Timer, None);
            // Whatever happened, the app must not stay at the front unchanged.
            if self.schedule.first() == Some(&(due, app)) {
                return;
            }
        }
    }

    /// Hands an event to an app's machine and carries out what it says.
    fn drive<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        metrics: &mut Metrics,
        app: usize,
        event: Event<'_>,
        failure: Option<&Failure>,
    ) {
        let config = Rc::clone(&self.config);
        let Some(entry) = config.apps.get(app) else {
            return;
        };
        let Some(kept) = self.kept.get_mut(&app) else {
            return;
        };
        let commands = kept.machine.handle(event, &moment(host));
        for command in commands {
            match command {
                Command::Publish => {
                    if !self.publish(host, slot, app, entry) {
                        return;
                    }
                }
                Command::Report(report) => {
                    self.report(metrics, app, entry, report, failure, host.now())
                }
                Command::Fetch(attempt) => match self.fetch(host, slot, app, entry, attempt) {
                    Ok(()) => {}
                    Err(Fetch::LeaseLost) => return self.drop_app(app),
                    Err(Fetch::NotSent) => {
                        self.drive(host, slot, metrics, app, Event::NotSent, None);
                    }
                },
            }
        }
        self.reschedule(app);
    }

    fn reschedule(&mut self, app: usize) {
        if let Some(kept) = self.kept.get_mut(&app) {
            let due = kept.machine.next_wakeup();
            self.schedule.remove(&(kept.due, app));
            kept.due = due;
            self.schedule.insert((due, app));
        }
    }

    /// Marks the record as "in flight" under our lease, then calls WeChat.
    fn fetch<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        app: usize,
        entry: &App,
        attempt: crate::token::Attempt,
    ) -> Result<(), Fetch> {
        let until = host.now().after(self.config.call_timeout);
        let machine = self.kept.get(&app).map(|kept| &kept.machine);
        self.write(host, slot, app, entry, |record| {
            // A refresh by rejection has used up its limit; were this holder to die now, the next one must know.
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
                self.calls.insert(id, app);
                Ok(())
            }
            // The cluster is not there yet, or the call failed before it left: nothing is on its way.
            Err(_) => {
                let _ = self.write(host, slot, app, entry, |record| {
                    record.in_flight_until = Millis(0)
                });
                Err(Fetch::NotSent)
            }
        }
    }

    /// Writes what the machine knows and tells the workers; false when the lease was lost and the app is dropped.
    fn publish<H: Host>(&mut self, host: &H, slot: &Slot, app: usize, entry: &App) -> bool {
        let Some(kept) = self.kept.get(&app) else {
            return false;
        };
        let mut state = AppRecord::default();
        kept.machine.store(&mut state);
        let written = self.write(host, slot, app, entry, |record| {
            *record = AppRecord {
                term: record.term,
                holder: record.holder,
                in_flight_until: Millis(0),
                ..state.clone()
            };
        });
        match written {
            Ok(()) => {
                announce(host, &entry.appid, host.now());
                true
            }
            Err(_) => {
                warn!("event=lease_lost app={}", entry.name);
                self.drop_app(app);
                false
            }
        }
    }

    /// Changes the app's record by compare-and-swap, only while our lease holds.
    fn write<H: Host>(
        &self,
        host: &H,
        slot: &Slot,
        app: usize,
        entry: &App,
        change: impl FnOnce(&mut AppRecord),
    ) -> Result<(), HostError> {
        let (mut record, cas) = read(host, &entry.appid);
        let term = self.kept.get(&app).map(|kept| kept.term);
        if record.holder != slot.me || Some(record.term) != term {
            return Err(HostError::CasMismatch);
        }
        change(&mut record);
        host.set_shared(&app_key(&entry.appid), &record.encode(), cas)
    }

    fn report(
        &mut self,
        metrics: &mut Metrics,
        app: usize,
        entry: &App,
        report: Report,
        failure: Option<&Failure>,
        now: Millis,
    ) {
        let Some(kept) = self.kept.get_mut(&app) else {
            return;
        };
        kept.generation = kept.machine.generation();
        let generation = kept.generation;
        let left = kept
            .machine
            .serve(now)
            .map_or(0, |token| token.deadline.since(now).as_secs());
        let name = &entry.name;
        let wait = kept.machine.next_wakeup().since(now).as_secs();
        let result = match report {
            Report::Renewed => {
                info!("event=token_renewed app={name} generation={generation} lives_s={left} next_refresh_s={wait}");
                "renewed"
            }
            Report::Same => {
                info!("event=token_same app={name} generation={generation} lives_s={left} next_refresh_s={wait}");
                "same"
            }
            Report::Failed => {
                let why = failure.map(ToString::to_string).unwrap_or_default();
                warn!(
                    "event=refresh_failed app={name} {why} old_token_lives_s={left} retry_s={wait}"
                );
                "failed"
            }
            Report::RejectedRefresh => {
                warn!("event=token_rejected app={name} generation={generation} action=refresh");
                return;
            }
            Report::RejectedLimited => {
                warn!("event=token_rejected app={name} generation={generation} action=none reason=limit");
                return;
            }
            Report::BudgetSpent => {
                warn!("event=budget_spent app={name} old_token_lives_s={left} retry_s={wait}");
                "budget_spent"
            }
        };
        metrics.add(
            &format!("wechat_token_refreshes_total.app={name}.result={result}"),
            1,
        );
    }

    fn gauge(&self, metrics: &mut Metrics, now: Millis) {
        for (app, kept) in &self.kept {
            let Some(entry) = self.config.apps.get(*app) else {
                continue;
            };
            let left = kept
                .machine
                .serve(now)
                .map_or(0, |token| token.deadline.since(now).as_secs());
            metrics.set(
                &format!("wechat_token_remaining_seconds.app={}", entry.name),
                left,
            );
            metrics.set(
                &format!("wechat_token_generation.app={}", entry.name),
                kept.machine.generation().0,
            );
        }
    }
}

enum Fetch {
    LeaseLost,
    NotSent,
}

fn moment<H: Host>(host: &H) -> Moment {
    Moment {
        now: host.now(),
        wall: host.wall(),
        sample: Sample(host.random()),
    }
}

/// An app's record, an empty one if there is none; a record of another version counts as none.
fn read<H: Host>(host: &H, appid: &str) -> (AppRecord, Cas) {
    match host.shared(&app_key(appid)) {
        Some((bytes, cas)) => (AppRecord::decode(&bytes).unwrap_or_default(), cas),
        None => (AppRecord::default(), Cas::ABSENT),
    }
}
