//! Who renews an app's token: the rules of taking, keeping and leaving a lease.
//!
//! The lease is part of the app's record, so taking it and publishing under it are compare-and-swaps on one key. A
//! holder proves that it lives by the heartbeat of its slot. The singleton (primary) holds leases by right; an injector's
//! root (standby) takes one only while no live primary has it. Before a token call the holder marks the record as "in
//! flight"; whoever takes the lease over may call only after that mark has ended, because the first holder's call
//! may still reach WeChat.

use std::time::Duration;

use crate::record::{AppRecord, Holder, SlotRecord};
use crate::time::Millis;

/// How often a root says that it lives.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// How often the leases of others are looked at; with the ticks between, a second at most.
pub const PATROL: Duration = Duration::from_millis(750);
/// A holder that was silent for this long looks dead; at the second look into the same silence it is replaced: within 3 s
/// of its last sign of life. One that gave a sign between the looks was late, or its whole process was.
pub const DEAD_AFTER: Duration = Duration::from_millis(1_000);
/// A slot may be reused only after a much longer silence: a paused process must not lose its slots.
pub const SLOT_FREE_AFTER: Duration = Duration::from_secs(10);

/// What a root may do with an app's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It holds the lease.
    Mine,
    /// It may take the lease.
    Free,
    /// Somebody else holds it.
    Theirs,
}

/// Judges the lease in `record` for `me`; `holder_lives` tells whether the present holder's slot shows life.
pub fn judge(record: &AppRecord, me: &Holder, holder_lives: bool, now: Millis) -> Claim {
    if record.term == 0 {
        return Claim::Free;
    }
    if record.holder == *me {
        return Claim::Mine;
    }
    let outranked = me.primary && !record.holder.primary && record.in_flight_until <= now;
    if outranked || !holder_lives {
        Claim::Free
    } else {
        Claim::Theirs
    }
}

/// The record after `me` took the lease.
pub fn take(record: &AppRecord, me: &Holder) -> AppRecord {
    AppRecord {
        term: record.term.saturating_add(1),
        holder: *me,
        ..record.clone()
    }
}

/// The holder's last sign of life; none where it has left, or its slot has another owner.
pub fn last_beat(holder: &Holder, slot: Option<&SlotRecord>) -> Option<Millis> {
    slot.filter(|slot| slot.incarnation == holder.incarnation && slot.heartbeat != Millis(0))
        .map(|slot| slot.heartbeat)
}

/// Whether a holder with this last sign of life lives.
pub fn lives(last_beat: Option<Millis>, now: Millis) -> bool {
    last_beat.is_some_and(|beat| now.since(beat) < DEAD_AFTER)
}

/// Whether a slot with this record may be taken by a new owner.
pub fn slot_is_free(slot: Option<&SlotRecord>, now: Millis) -> bool {
    slot.is_none_or(|slot| {
        slot.heartbeat == Millis(0) || now.since(slot.heartbeat) > SLOT_FREE_AFTER
    })
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Holder = Holder {
        slot: 1,
        incarnation: 10,
        primary: false,
    };
    const SINGLETON: Holder = Holder {
        slot: 0,
        incarnation: 20,
        primary: true,
    };
    const NOW: Millis = Millis(100_000);

    fn held_by(holder: Holder) -> AppRecord {
        take(&AppRecord::default(), &holder)
    }

    #[test]
    fn a_slot_is_free_when_nobody_was_there_or_nobody_has_been_for_long() {
        let slot = |heartbeat| SlotRecord {
            heartbeat,
            ..SlotRecord::default()
        };
        let long = Millis(NOW.0 - 10_000);
        let longer = Millis(NOW.0 - 10_001);
        for (what, slot, is_free) in [
            ("never used", None, true),
            ("given back", Some(slot(Millis(0))), true),
            ("alive", Some(slot(NOW)), false),
            ("silent for 10 s", Some(slot(long)), false),
            ("silent for longer", Some(slot(longer)), true),
        ] {
            assert_eq!(slot_is_free(slot.as_ref(), NOW), is_free, "{what}");
        }
    }

    #[test]
    fn the_lease_goes_to_whoever_may_have_it() {
        let in_flight = AppRecord {
            in_flight_until: Millis(100_001),
            ..held_by(ME)
        };
        for (what, record, me, lives, claim) in [
            (
                "nobody has it",
                AppRecord::default(),
                ME,
                false,
                Claim::Free,
            ),
            ("I have it", held_by(ME), ME, true, Claim::Mine),
            (
                "I have it though my heartbeat is late",
                held_by(ME),
                ME,
                false,
                Claim::Mine,
            ),
            (
                "a live one has it",
                held_by(SINGLETON),
                ME,
                true,
                Claim::Theirs,
            ),
            (
                "a dead one had it",
                held_by(SINGLETON),
                ME,
                false,
                Claim::Free,
            ),
            (
                "the singleton returns",
                held_by(ME),
                SINGLETON,
                true,
                Claim::Free,
            ),
            (
                "the singleton returns during a call",
                in_flight,
                SINGLETON,
                true,
                Claim::Theirs,
            ),
        ] {
            assert_eq!(judge(&record, &me, lives, NOW), claim, "{what}");
        }
    }

    #[test]
    fn an_earlier_owner_of_the_slot_is_not_the_holder() {
        let beat = SlotRecord {
            incarnation: 20,
            heartbeat: NOW,
        };
        let lives = |slot, now| lives(last_beat(&SINGLETON, slot), now);
        assert!(lives(Some(&beat), NOW));
        let other = SlotRecord {
            incarnation: 21,
            ..beat
        };
        assert!(!lives(Some(&other), NOW));
        assert!(!lives(Some(&beat), NOW.after(DEAD_AFTER)));
        assert!(!lives(None, NOW));
    }

    #[test]
    fn taking_a_lease_keeps_the_token_and_the_mark_of_a_call_on_its_way() {
        let record = AppRecord {
            in_flight_until: Millis(7),
            ..held_by(SINGLETON)
        };
        let taken = take(&record, &ME);
        assert_eq!(
            (taken.term, taken.holder, taken.in_flight_until),
            (2, ME, Millis(7))
        );
    }
}
