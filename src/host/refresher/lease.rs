//! The leases of this root: taken, left, and the apps' records, written only while the lease holds.

use log::{info, warn};

use super::{moment, Kept, Refresher};
use crate::config::App;
use crate::host::slot::{announce, Slot};
use crate::host::{Cas, Host, HostError};
use crate::keeper::{Keeper, StorePolicy};
use crate::lease::take;
use crate::record::{app_key, AppRecord};
use crate::token::Policy;

impl Refresher {
    /// Takes a lease; false when somebody else wrote the record first.
    pub(super) fn take_lease<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        app: usize,
        entry: &App,
        record: &AppRecord,
        cas: Cas,
    ) -> bool {
        let taken = take(record, &slot.me);
        if host
            .set_shared(&app_key(&entry.appid), &taken.encode(), cas)
            .is_err()
        {
            return false;
        }
        if record.term != 0 {
            info!("event=lease_taken app={} term={}", entry.name, taken.term);
        } else if cas != Cas::ABSENT {
            // A record always has a term: these were other bytes.
            let name = &entry.name;
            warn!("event=record_replaced app={name} problem=\"unknown version or damaged\"");
        }
        let policy = Policy::new(&self.config, entry);
        let store = StorePolicy::new(&self.config, entry);
        let keeper = Keeper::adopt(policy, store, &taken, &moment(host));
        let due = keeper.next_wakeup();
        self.drop_app(app);
        self.schedule.insert((due, app));
        if let Some(place) = self.kept.get_mut(app) {
            *place = Some(Box::new(Kept {
                keeper,
                term: taken.term,
                due,
                has_noted_store: false,
                told: None,
            }));
        }
        true
    }

    /// Forgets an app whose lease was lost; the next patrol finds out who has it.
    pub(super) fn drop_app(&mut self, app: usize) {
        self.patrol.open(app);
        if let Some(kept) = self.kept.get_mut(app).and_then(Option::take) {
            self.schedule.remove(&(kept.due, app));
            self.calls.retain(|call| call.app != app);
        }
    }

    /// Writes what the keeper knows and, if there is something in it for them, tells the workers; false when the lease was
    /// lost and the app is dropped.
    pub(super) fn save<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        app: usize,
        entry: &App,
        is_news: bool,
    ) -> bool {
        let Some(kept) = self.kept(app) else {
            return false;
        };
        let mut state = AppRecord::default();
        kept.keeper.store(&mut state);
        let written = self.write(host, slot, app, entry, |record| {
            *record = AppRecord {
                term: record.term,
                holder: record.holder,
                ..state.clone()
            };
        });
        match written {
            Ok(()) if !is_news => true,
            Ok(()) => {
                let epoch = announce(host, &entry.appid, host.now());
                // Our own change tells us nothing.
                self.patrol.note(epoch, None);
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
pub(super) fn read<H: Host>(host: &H, appid: &str) -> (AppRecord, Cas) {
    match host.shared(&app_key(appid)) {
        Some((bytes, cas)) => (AppRecord::decode(&bytes).unwrap_or_default(), cas),
        None => (AppRecord::default(), Cas::ABSENT),
    }
}
