//! What virtual machines of one Envoy tell each other through shared queues. Versioned, with a total decoder.
//!
//! A message is a hint: each may be lost, doubled or late, and the tick repairs it. The truth is in the records.

use crate::record::VERSION;
use crate::token::Generation;
use crate::wire::{Reader, Writer};

const UPDATED: u8 = 1;
const WANT: u8 = 2;
const REJECTED: u8 = 3;

/// A hint from one virtual machine to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// To the workers: the app's record changed, and the epoch became this.
    Updated {
        /// Which app.
        appid: String,
        /// The epoch after the change.
        epoch: u64,
    },
    /// To the holder of the lease: requests wait for this app's first token.
    Want {
        /// Which app.
        appid: String,
    },
    /// To the holder of the lease: WeChat rejected a call that carried this generation.
    Rejected {
        /// Which app.
        appid: String,
        /// The generation that the call carried.
        generation: Generation,
    },
}

impl Message {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(VERSION);
        match self {
            Message::Updated { appid, epoch } => {
                w.u8(UPDATED);
                w.text(appid);
                w.u64(*epoch);
            }
            Message::Want { appid } => {
                w.u8(WANT);
                w.text(appid);
            }
            Message::Rejected { appid, generation } => {
                w.u8(REJECTED);
                w.text(appid);
                w.u64(generation.0);
            }
        }
        w.finish()
    }

    /// Reads a message; `None` when the bytes are not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<Message> {
        let mut r = Reader::new(bytes, VERSION)?;
        let kind = r.u8()?;
        let appid = r.text()?.to_owned();
        let message = match kind {
            UPDATED => Message::Updated {
                appid,
                epoch: r.u64()?,
            },
            WANT => Message::Want { appid },
            REJECTED => Message::Rejected {
                appid,
                generation: Generation(r.u64()?),
            },
            _ => return None,
        };
        r.finish()?;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn messages() -> impl Strategy<Value = Message> {
        ("[a-z0-9]{1,32}", any::<u64>(), 0..3).prop_map(|(appid, n, kind)| match kind {
            0 => Message::Updated { appid, epoch: n },
            1 => Message::Want { appid },
            _ => Message::Rejected {
                appid,
                generation: Generation(n),
            },
        })
    }

    proptest! {
        #[test]
        fn a_message_comes_back_as_it_was(message in messages()) {
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn a_message_cut_short_or_with_a_tail_is_none(message in messages(), cut: prop::sample::Index) {
            let mut bytes = message.encode();
            let short = cut.index(bytes.len());
            prop_assert_eq!(Message::decode(&bytes[..short]), None);
            bytes.push(0);
            prop_assert_eq!(Message::decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Message::decode(&bytes);
        }
    }
}
