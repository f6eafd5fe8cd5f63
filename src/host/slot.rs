//! A root's place in shared data: a numbered slot with a heartbeat and a queue.
//!
//! Envoy's queues cannot be removed, so their names are few and stable: a virtual machine that is loaded again takes a
//! slot that a dead one left, with its queue, and becomes the one that is notified.

use crate::host::{Cas, Host};
use crate::lease::{last_beat, slot_is_free, HEARTBEAT, SLOT_FREE_AFTER};
use crate::message::Message;
use crate::record::{
    decode_epoch, encode_epoch, epoch_key, queue_name, slot_key, Holder, SlotRecord,
};
use crate::time::Millis;

/// More roots than this in one Envoy are not expected; it bounds every search.
const MOST_SLOTS: u32 = 4_096;
/// A compare-and-swap that loses this often has met something other than contention.
const MOST_TRIES: usize = 64;

/// The slot that a root owns.
#[derive(Debug)]
pub struct Slot {
    /// The identity under which the root holds leases.
    pub me: Holder,
    /// The queue that notifies this root.
    pub queue: u32,
    last_beat: Millis,
}

impl Slot {
    /// Takes the first free slot; `None` when the host refuses (tried again on the next tick).
    pub fn claim<H: Host>(host: &H, primary: bool, now: Millis) -> Option<Slot> {
        let incarnation = host.random();
        let beat = SlotRecord {
            incarnation,
            heartbeat: now,
        };
        for slot in 0..MOST_SLOTS {
            let key = slot_key(slot);
            let present = host.shared(&key);
            let cas = present.as_ref().map_or(Cas::ABSENT, |(_, cas)| *cas);
            let record = present.and_then(|(bytes, _)| SlotRecord::decode(&bytes));
            if cas != Cas::ABSENT && !slot_is_free(record.as_ref(), now) {
                continue;
            }
            if host.set_shared(&key, &beat.encode(), cas).is_ok() {
                let queue = host.register_queue(&queue_name(slot)).ok()?;
                let me = Holder {
                    slot,
                    incarnation,
                    primary,
                };
                return Some(Slot {
                    me,
                    queue,
                    last_beat: now,
                });
            }
        }
        None
    }

    /// Says that the owner lives, if it is time to; false when the slot was given to somebody else meanwhile (this
    /// process was stopped for long) and a new one is needed.
    pub fn beat<H: Host>(&mut self, host: &H, now: Millis) -> bool {
        if now.since(self.last_beat) < HEARTBEAT {
            return true;
        }
        let key = slot_key(self.me.slot);
        let Some((bytes, cas)) = host.shared(&key) else {
            return false;
        };
        if SlotRecord::decode(&bytes).is_none_or(|slot| slot.incarnation != self.me.incarnation) {
            return false;
        }
        let beat = SlotRecord {
            incarnation: self.me.incarnation,
            heartbeat: now,
        };
        if host.set_shared(&key, &beat.encode(), cas).is_ok() {
            self.last_beat = now;
        }
        true
    }

    /// Frees the slot at once, for whoever comes next.
    pub fn release<H: Host>(&self, host: &H) {
        let key = slot_key(self.me.slot);
        if let Some((bytes, cas)) = host.shared(&key) {
            if SlotRecord::decode(&bytes)
                .is_some_and(|slot| slot.incarnation == self.me.incarnation)
            {
                let left = SlotRecord {
                    incarnation: self.me.incarnation,
                    heartbeat: Millis(0),
                };
                // Losing the race means that somebody took the slot already.
                let _ = host.set_shared(&key, &left.encode(), cas);
            }
        }
    }
}

/// The last sign of life of a lease's holder.
pub fn holder_beat<H: Host>(host: &H, holder: &Holder) -> Option<Millis> {
    let slot = host
        .shared(&slot_key(holder.slot))
        .and_then(|(bytes, _)| SlotRecord::decode(&bytes));
    last_beat(holder, slot.as_ref())
}

/// Raises the epoch and tells every slot that an app's record changed.
pub fn announce<H: Host>(host: &H, appid: &str, now: Millis) -> u64 {
    let epoch = raise_epoch(host);
    let message = Message::Updated {
        appid: appid.to_owned(),
        epoch,
    }
    .encode();
    for slot in 0..MOST_SLOTS {
        let Some((bytes, _)) = host.shared(&slot_key(slot)) else {
            break;
        };
        // Messages to the dead would pile up for ever.
        let is_alive = SlotRecord::decode(&bytes).is_some_and(|record| {
            record.heartbeat != Millis(0) && now.since(record.heartbeat) < SLOT_FREE_AFTER
        });
        if is_alive {
            tell(host, slot, &message);
        }
    }
    epoch
}

/// Puts a message into the queue of a slot. It may be lost: messages are hints.
pub fn tell<H: Host>(host: &H, slot: u32, message: &[u8]) {
    if let Some(queue) = host.resolve_queue(&queue_name(slot)) {
        let _ = host.enqueue(queue, message);
    }
}

/// The present epoch, 0 before the first change.
pub fn epoch<H: Host>(host: &H) -> u64 {
    host.shared(&epoch_key())
        .and_then(|(bytes, _)| decode_epoch(&bytes))
        .unwrap_or(0)
}

/// Raises the epoch, which makes every worker read all records with its next tick; the epoch after that.
pub fn raise_epoch<H: Host>(host: &H) -> u64 {
    let key = epoch_key();
    for _ in 0..MOST_TRIES {
        let present = host.shared(&key);
        let cas = present.as_ref().map_or(Cas::ABSENT, |(_, cas)| *cas);
        let next = present
            .and_then(|(bytes, _)| decode_epoch(&bytes))
            .unwrap_or(0)
            + 1;
        if host.set_shared(&key, &encode_epoch(next), cas).is_ok() {
            return next;
        }
    }
    0
}
