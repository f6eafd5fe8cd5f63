//! About once a second: which leases are free, which were lost. It costs what has changed, not what there is: every VM
//! patrols, and with 1,000 apps a read of each record would be most of what an idle Envoy does.
//!
//! A root remembers who holds each app, and reads a record again only when something says that it may tell something new:
//!
//! - the holder's slot has fallen silent; holders are few, and each one's slot is read once a patrol;
//! - an `Updated` message names the app, or the epoch rose without one: then every record is read;
//! - the last look left something open: a holder that looked dead once, a lease to take back, a lost compare-and-swap;
//! - it is the app's turn. A few are read in each patrol, all in [`ROUND`] patrols. A lease moves and the epoch rises in
//!   two writes; this repairs what a VM leaves behind that traps between them.

use std::rc::Rc;

use super::lease::read;
use super::Refresher;
use crate::host::slot::{epoch, holder_beat, raise_epoch, Slot};
use crate::host::Host;
use crate::lease::{judge, lives, Claim, PATROL};
use crate::record::Holder;
use crate::time::Millis;

/// Without any other reason each record is read once in so many patrols, half a minute.
const ROUND: usize = 40;

/// When to look, and at what.
#[derive(Default)]
pub(super) struct Patrol {
    next: Millis,
    /// The epoch up to which all changes are known; none before the first patrol.
    seen_epoch: Option<u64>,
    /// Which part of the apps is read without a reason.
    turn: usize,
    /// By the index of the app.
    seats: Vec<Seat>,
}

/// What is known of an app's lease.
#[derive(Clone, Default)]
struct Seat {
    /// Who holds it, if that is somebody else.
    holder: Option<Holder>,
    /// The holder looked dead.
    suspicion: Option<Suspicion>,
    /// The record has to be read again.
    is_open: bool,
}

/// One look at a dead holder is not enough: after a pause of the whole process all look dead.
#[derive(Clone, Copy)]
struct Suspicion {
    since: Millis,
    /// A later one clears the holder.
    last_beat: Option<Millis>,
}

/// The holders' last signs of life, each one's slot read once.
#[derive(Default)]
struct Beats(Vec<(Holder, Option<Millis>)>);

impl Patrol {
    pub(super) fn new(apps: usize) -> Patrol {
        Patrol {
            seats: vec![Seat::default(); apps],
            ..Patrol::default()
        }
    }

    /// Whether it is time; if so, the next one is due [`PATROL`] later.
    pub(super) fn is_due(&mut self, now: Millis) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now.after(PATROL);
        }
        is_due
    }

    /// Forgets everything: this root is somebody else now.
    pub(super) fn restart(&mut self) {
        *self = Patrol::new(self.seats.len());
    }

    /// A change of one app, or of none, that made this the epoch. Only an unbroken row of them counts as seen; after a gap
    /// the next patrol reads everything.
    pub(super) fn note(&mut self, epoch: u64, app: Option<usize>) {
        if self.seen_epoch.is_none() || self.seen_epoch != epoch.checked_sub(1) {
            return;
        }
        self.seen_epoch = Some(epoch);
        if let Some(app) = app {
            self.open(app);
        }
    }

    /// The next patrol reads the app's record.
    pub(super) fn open(&mut self, app: usize) {
        if let Some(seat) = self.seats.get_mut(app) {
            seat.is_open = true;
        }
    }

    /// Whether the record of an app is to be read in this patrol.
    fn wants(&self, app: usize, slot: &Slot, mut lives: impl FnMut(&Holder) -> bool) -> bool {
        let Some(seat) = self.seats.get(app) else {
            return false;
        };
        let count = self.seats.len();
        let share = count.div_ceil(ROUND);
        // Each root begins elsewhere.
        let place = (app + (self.turn + slot.me.slot as usize) * share) % count;
        seat.is_open || place < share || seat.holder.as_ref().is_some_and(|holder| !lives(holder))
    }
}

impl Beats {
    fn of<H: Host>(&mut self, host: &H, holder: &Holder) -> Option<Millis> {
        if let Some((_, beat)) = self.0.iter().find(|(known, _)| known == holder) {
            return *beat;
        }
        let beat = holder_beat(host, holder);
        self.0.push((*holder, beat));
        beat
    }
}

impl Refresher {
    /// An app's record changed, and this became the epoch.
    pub fn handle_updated(&mut self, appid: &str, epoch: u64) {
        let app = self.index.get(appid).copied();
        self.patrol.note(epoch, app);
    }

    /// Takes the leases that are free and leaves those that were lost.
    pub(super) fn patrol<H: Host>(&mut self, host: &H, slot: &Slot, now: Millis) {
        // Read before the records: what changes meanwhile has a higher one.
        let epoch = epoch(host);
        let knows_all = self.patrol.seen_epoch == Some(epoch);
        self.patrol.seen_epoch = Some(epoch);
        self.patrol.turn = (self.patrol.turn + 1) % ROUND;
        let mut beats = Beats::default();
        let mut has_taken = false;
        for app in 0..self.kept.len() {
            let is_wanted = !knows_all
                || self
                    .patrol
                    .wants(app, slot, |holder| lives(beats.of(host, holder), now));
            if is_wanted && self.has_secret(app) {
                has_taken |= self.look(host, slot, app, &mut beats, now);
            }
        }
        if has_taken {
            // One step for them all, without messages: whoever sees it reads every record.
            self.patrol.note(raise_epoch(host), None);
        }
    }

    /// Reads an app's record; true when its lease was taken.
    fn look<H: Host>(
        &mut self,
        host: &H,
        slot: &Slot,
        app: usize,
        beats: &mut Beats,
        now: Millis,
    ) -> bool {
        let config = Rc::clone(&self.config);
        let Some(entry) = config.apps.get(app) else {
            return false;
        };
        let (record, cas) = read(host, &entry.appid);
        let holder = (record.term != 0 && record.holder != slot.me).then_some(record.holder);
        let last_beat = holder.and_then(|holder| beats.of(host, &holder));
        let claim = judge(&record, &slot.me, lives(last_beat, now), now);
        let mut seat = Seat {
            holder,
            ..Seat::default()
        };
        let mut has_taken = false;
        match claim {
            Claim::Mine if self.kept(app).is_some() => {}
            Claim::Theirs => {
                // A lease of a lower rank is taken back once no call is on its way.
                seat.is_open = slot.me.primary && !record.holder.primary;
                self.drop_app(app);
            }
            Claim::Mine | Claim::Free => {
                let earlier = self
                    .patrol
                    .seats
                    .get(app)
                    .filter(|seat| seat.holder == holder);
                let suspicion = earlier
                    .and_then(|seat| seat.suspicion)
                    .filter(|suspicion| suspicion.last_beat == last_beat)
                    .unwrap_or(Suspicion {
                        since: now,
                        last_beat,
                    });
                seat.suspicion = Some(suspicion);
                seat.is_open = true;
                // A standby gives the singleton, or a process that was paused, one more round to show itself.
                if slot.me.primary || now.since(suspicion.since) >= PATROL {
                    has_taken = self.take_lease(host, slot, app, entry, &record, cas);
                }
                if has_taken {
                    seat = Seat::default();
                }
            }
        }
        if let Some(place) = self.patrol.seats.get_mut(app) {
            *place = seat;
        }
        has_taken
    }

    fn has_secret(&self, app: usize) -> bool {
        let entry = self.config.apps.get(app);
        entry.is_some_and(|entry| !entry.secrets.is_empty())
    }
}
