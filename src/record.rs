//! What lies in Envoy's shared data: one record per app, one per slot, and the epoch. Versioned, with total decoders.
//!
//! The app's record is the single source of truth. It carries the token together with the lease of whoever may renew
//! it, so that one compare-and-swap decides both: a holder that lost its lease cannot publish.
//!
//! Layout: a version byte, then the fields in order; integers are little-endian, texts and options are preceded by
//! their length or a flag. Bytes of another version, cut short or with something behind them are no record.

use std::time::Duration;

use crate::secret::Secret;
use crate::store::Version;
use crate::time::{millis, Millis};
use crate::token::{Generation, Spent, Token, Trouble};
use crate::wire::{Reader, Writer};

/// Every key and queue name begins with this: shared data may be open to other plugins, and during an update to another version of this one, whose
/// layout is another. Versions with different layouts see nothing of each other.
pub const PREFIX: &str = if cfg!(feature = "skew") {
    "wechat-token/2/"
} else {
    "wechat-token/1/"
};
/// The layout's version, which records and messages begin with.
pub const VERSION: u8 = if cfg!(feature = "skew") { 2 } else { 1 };

/// Key of an app's record.
pub fn app_key(appid: &str) -> String {
    format!("{PREFIX}app/{appid}")
}

/// Key of a slot's record.
pub fn slot_key(slot: u32) -> String {
    format!("{PREFIX}slot/{slot}")
}

/// Name of the queue that belongs to a slot.
pub fn queue_name(slot: u32) -> String {
    format!("{PREFIX}queue/{slot}")
}

/// Key of the epoch: a count that rises with every change of any app's record.
pub fn epoch_key() -> String {
    format!("{PREFIX}epoch")
}

/// Who may renew tokens: a virtual machine, named by its slot and the incarnation that lives there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Number of the slot.
    pub slot: u32,
    /// Tells the present owner of the slot from earlier ones.
    pub incarnation: u64,
    /// The singleton holds leases by right; an injector only while there is no singleton.
    pub primary: bool,
}

/// An app's token and the lease on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppRecord {
    /// Rises with each change of holder.
    pub term: u64,
    /// Who renews the token; its slot tells whether it is alive.
    pub holder: Holder,
    /// A token call may be on its way until then.
    pub in_flight_until: Millis,
    /// Counts the tokens.
    pub generation: Generation,
    /// The newest token.
    pub token: Option<Token>,
    /// Rejections up to this generation are dealt with.
    pub settled: Generation,
    /// Why there is no newer token.
    pub trouble: Option<Trouble>,
    /// State of the limit on refreshes by rejection, for the next holder.
    pub rejected_interval: Duration,
    /// See `rejected_interval`.
    pub rejected_not_before: Millis,
    /// Calls made today at the endpoint whose calls are counted, the one that may be on its way included.
    pub spent: Spent,
    /// The newest version known of the store that all Envoys share; 0 without one.
    pub version: Version,
}

/// The owner of a slot and its last sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotRecord {
    /// Random; tells owners apart.
    pub incarnation: u64,
    /// When the owner last said that it lives; 0 when it has left.
    pub heartbeat: Millis,
}

impl AppRecord {
    /// The record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(VERSION);
        w.u64(self.term);
        w.u32(self.holder.slot);
        w.u64(self.holder.incarnation);
        w.flag(self.holder.primary);
        w.u64(self.in_flight_until.0);
        w.u64(self.generation.0);
        w.flag(self.token.is_some());
        if let Some(token) = &self.token {
            w.text(token.value.expose());
            w.u64(token.granted_at.0);
            w.u64(token.deadline.0);
        }
        w.u64(self.settled.0);
        w.flag(self.trouble.is_some());
        if let Some(trouble) = &self.trouble {
            w.flag(trouble.errcode.is_some());
            w.i64(trouble.errcode.unwrap_or_default());
            w.u64(trouble.retry_at.0);
            w.flag(trouble.open);
        }
        w.u64(millis(self.rejected_interval));
        w.u64(self.rejected_not_before.0);
        w.u64(self.spent.day);
        w.u64(self.spent.since.0);
        w.u32(self.spent.calls);
        w.u64(self.version.0);
        w.finish()
    }

    /// Reads a record; `None` when the bytes are not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<AppRecord> {
        let mut r = Reader::new(bytes, VERSION)?;
        let record = AppRecord {
            term: r.u64()?,
            holder: Holder {
                slot: r.u32()?,
                incarnation: r.u64()?,
                primary: r.flag()?,
            },
            in_flight_until: Millis(r.u64()?),
            generation: Generation(r.u64()?),
            token: match r.flag()? {
                true => Some(Token {
                    value: Secret::new(r.text()?),
                    granted_at: Millis(r.u64()?),
                    deadline: Millis(r.u64()?),
                }),
                false => None,
            },
            settled: Generation(r.u64()?),
            trouble: match r.flag()? {
                true => {
                    let known = r.flag()?;
                    let errcode = r.i64()?;
                    Some(Trouble {
                        errcode: known.then_some(errcode),
                        retry_at: Millis(r.u64()?),
                        open: r.flag()?,
                    })
                }
                false => None,
            },
            rejected_interval: Duration::from_millis(r.u64()?),
            rejected_not_before: Millis(r.u64()?),
            spent: Spent {
                day: r.u64()?,
                since: Millis(r.u64()?),
                calls: r.u32()?,
            },
            version: Version(r.u64()?),
        };
        r.finish()?;
        Some(record)
    }
}

impl SlotRecord {
    /// The record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(VERSION);
        w.u64(self.incarnation);
        w.u64(self.heartbeat.0);
        w.finish()
    }

    /// Reads a record; `None` when the bytes are not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<SlotRecord> {
        let mut r = Reader::new(bytes, VERSION)?;
        let record = SlotRecord {
            incarnation: r.u64()?,
            heartbeat: Millis(r.u64()?),
        };
        r.finish()?;
        Some(record)
    }
}

/// The epoch as bytes.
pub fn encode_epoch(epoch: u64) -> Vec<u8> {
    let mut w = Writer::new(VERSION);
    w.u64(epoch);
    w.finish()
}

/// Reads an epoch; `None` when the bytes are not one of this version.
pub fn decode_epoch(bytes: &[u8]) -> Option<u64> {
    let mut r = Reader::new(bytes, VERSION)?;
    let epoch = r.u64()?;
    r.finish()?;
    Some(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    fn tokens() -> impl Strategy<Value = Token> {
        ("[A-Za-z0-9_-]{1,512}", any::<u64>(), any::<u64>()).prop_map(|(value, from, to)| Token {
            value: Secret::new(value),
            granted_at: Millis(from),
            deadline: Millis(to),
        })
    }

    fn troubles() -> impl Strategy<Value = Trouble> {
        (option::of(1..i64::MAX), any::<u64>(), any::<bool>()).prop_map(|(errcode, at, open)| {
            Trouble {
                errcode,
                retry_at: Millis(at),
                open,
            }
        })
    }

    fn records() -> impl Strategy<Value = AppRecord> {
        (
            any::<[u64; 10]>(),
            any::<[u32; 2]>(),
            any::<bool>(),
            option::of(tokens()),
            option::of(troubles()),
        )
            .prop_map(|(n, [slot, calls], primary, token, trouble)| AppRecord {
                term: n[0],
                holder: Holder {
                    slot,
                    incarnation: n[1],
                    primary,
                },
                in_flight_until: Millis(n[2]),
                generation: Generation(n[3]),
                token,
                settled: Generation(n[4]),
                trouble,
                rejected_interval: Duration::from_millis(n[5]),
                rejected_not_before: Millis(n[6]),
                spent: Spent {
                    day: n[7],
                    since: Millis(n[8]),
                    calls,
                },
                version: Version(n[9]),
            })
    }

    #[test]
    fn the_keys_bear_the_version_of_what_lies_there() {
        assert_eq!(PREFIX, format!("wechat-token/{VERSION}/"));
        assert_eq!(AppRecord::default().encode().first(), Some(&VERSION));
    }

    #[test]
    fn every_key_bears_our_prefix_and_no_two_are_alike() {
        let keys = [
            app_key("1"),
            slot_key(1),
            queue_name(1),
            epoch_key(),
            app_key("epoch"),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(key.starts_with(PREFIX), "{key}");
            assert!(!keys[..index].contains(key), "{key}");
        }
    }

    proptest! {
        #[test]
        fn an_app_record_comes_back_as_it_was(record in records()) {
            prop_assert_eq!(AppRecord::decode(&record.encode()), Some(record));
        }

        #[test]
        fn a_record_cut_short_or_with_a_tail_is_none(record in records(), cut: prop::sample::Index) {
            let mut bytes = record.encode();
            let short = cut.index(bytes.len());
            prop_assert_eq!(AppRecord::decode(&bytes[..short]), None);
            bytes.push(0);
            prop_assert_eq!(AppRecord::decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = AppRecord::decode(&bytes);
            let _ = SlotRecord::decode(&bytes);
            let _ = decode_epoch(&bytes);
        }
    }

    #[test]
    fn slots_and_epochs_come_back_and_other_versions_are_none() {
        let slot = SlotRecord {
            incarnation: 7,
            heartbeat: Millis(9),
        };
        assert_eq!(SlotRecord::decode(&slot.encode()), Some(slot));
        assert_eq!(decode_epoch(&encode_epoch(42)), Some(42));
        let mut other = encode_epoch(42);
        other[0] = 2;
        assert_eq!(decode_epoch(&other), None);
    }

    #[test]
    fn a_record_never_prints_its_token() {
        let token = Token {
            value: Secret::new("t0ken"),
            granted_at: Millis(0),
            deadline: Millis(1),
        };
        let record = AppRecord {
            token: Some(token),
            ..AppRecord::default()
        };
        assert!(!format!("{record:?}").contains("t0ken"));
    }
}
