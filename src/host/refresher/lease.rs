//! The leases: which apps this root may renew, and their records, written only while the lease holds.

use log::{info, warn};

use super::{moment, Kept, Refresher, PATROL};
use crate::config::App;
use crate::host::slot::{announce, holder_lives, raise_epoch, Slot};
use crate::host::{Cas, Host, HostError};
use crate::lease::{judge, take, Claim};
use crate::record::{app_key, AppRecord};
use crate::time::Millis;
use crate::token::{Machine, Policy};

impl Refresher {
    /// Takes the leases that are free and leaves those that were lost.
    pub(super) fn patrol<H: Host>(&mut self, host: &H, slot: &Slot, now: Millis) {
        let apps: Vec<(String, usize)> = self
            .index
            .iter()
            .map(|(appid, app)| (appid.clone(), *app))
            .collect();
        let mut has_taken_over = false;
        for (appid, app) in apps {
            let (record, cas) = read(host, &appid);
            let alive = record.term != 0
                && record.holder != slot.me
                && holder_lives(host, &record.holder, now);
            match judge(&record, &slot.me, alive, now) {
                Claim::Mine if self.kept(app).is_some() => {}
                Claim::Theirs => {
                    self.suspect(app, None);
                    self.drop_app(app);
                }
                Claim::Mine | Claim::Free => {
                    let since = self.suspects.get(app).copied().flatten().unwrap_or(now);
                    self.suspect(app, Some(since));
                    // A standby gives the singleton, or a process that was paused, one more round to show itself.
                    if slot.me.primary || now.since(since) >= PATROL {
                        self.suspect(app, None);
                        let is_taken = self.take_lease(host, slot, app, &appid, &record, cas);
                        has_taken_over |= is_taken && record.term != 0;
                    }
                }
            }
        }
        // Workers would go on telling the last holder of rejected tokens; a first lease is soon followed by a token.
        if has_taken_over {
            raise_epoch(host);
        }
    }

    /// Whether the lease could be taken.
    pub(super) fn take_lease<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        app: usize,
        appid: &str,
        record: &AppRecord,
        cas: Cas,
    ) -> bool {
        let taken = take(record, &slot.me);
        if host
            .set_shared(&app_key(appid), &taken.encode(), cas)
            .is_err()
        {
            return false;
        }
        let Some(entry) = self.config.apps.get(app) else {
            return false;
        };
        if record.term != 0 {
            info!("event=lease_taken app={} term={}", entry.name, taken.term);
        }
        let machine = Machine::adopt(Policy::new(&self.config, entry), &taken, &moment(host));
        let due = machine.next_wakeup();
        self.drop_app(app);
        self.schedule.insert((due, app));
        let generation = machine.generation();
        if let Some(place) = self.kept.get_mut(app) {
            *place = Some(Box::new(Kept {
                machine,
                term: taken.term,
                due,
                generation,
            }));
        }
        true
    }

    fn suspect(&mut self, app: usize, since: Option<Millis>) {
        if let Some(place) = self.suspects.get_mut(app) {
            *place = since;
        }
    }

    pub(super) fn drop_app(&mut self, app: usize) {
        if let Some(kept) = self.kept.get_mut(app).and_then(Option::take) {
            self.schedule.remove(&(kept.due, app));
            self.calls.retain(|(_, called)| *called != app);
        }
    }

    /// Writes what the machine knows and tells the workers; false when the lease was lost and the app is dropped.
    pub(super) fn publish<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        app: usize,
        entry: &App,
    ) -> bool {
        let Some(kept) = self.kept(app) else {
            return false;
        };
        let mut state = AppRecord::default();
        kept.machine.store(&mut state);
        let written = self.write(host, slot, app, entry, |record| {
            *record = AppRecord {
                term: record.term,
                holder: record.holder,
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
    pub(super) fn write<H: Host>(
        &self,
        host: &H,
        slot: &Slot,
        app: usize,
        entry: &App,
        change: impl FnOnce(&mut AppRecord),
    ) -> Result<(), HostError> {
        let (mut record, cas) = read(host, &entry.appid);
        let term = self.kept(app).map(|kept| kept.term);
        if record.holder != slot.me || Some(record.term) != term {
            return Err(HostError::CasMismatch);
        }
        change(&mut record);
        host.set_shared(&app_key(&entry.appid), &record.encode(), cas)
    }
}

/// An app's record, an empty one if there is none; a record of another version counts as none.
fn read<H: Host>(host: &H, appid: &str) -> (AppRecord, Cas) {
    match host.shared(&app_key(appid)) {
        Some((bytes, cas)) => (AppRecord::decode(&bytes).unwrap_or_default(), cas),
        None => (AppRecord::default(), Cas::ABSENT),
    }
}
