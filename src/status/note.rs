//! What the holder of an app's lease leaves in shared data for whoever shows the status: what became of its calls.
//!
//! It is no part of the app's record, which every worker reads with each change and which is written under the lease. A
//! note is only read for people; one that is lost is missed by nobody else.

use crate::record::{PREFIX, VERSION};
use crate::time::Millis;
use crate::wire::{Reader, Writer};

/// Longest text of a problem in bytes.
const MOST_TEXT: usize = 512;

/// Key of an app's note.
pub fn note_key(appid: &str) -> String {
    format!("{PREFIX}note/{appid}")
}

/// What became of the calls for an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The last refresh that brought a token.
    pub refreshed: Option<Refreshed>,
    /// The last one that failed.
    pub failed: Option<Failed>,
    /// How Redis is; none before its first answer.
    pub store: Option<Store>,
}

/// A refresh that brought a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// When.
    pub at: Millis,
    /// `renewed`, `same` or `adopted`, as in logs and metrics.
    pub result: String,
}

/// One that did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// When.
    pub at: Millis,
    /// What WeChat said, if it did.
    pub errcode: Option<i64>,
    /// The words of the log line.
    pub detail: String,
}

/// How Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Since when.
    pub since: Millis,
    /// The words of the log line; none while it answers.
    pub problem: Option<String>,
}

impl Note {
    /// Redis answers, or has this problem.
    pub fn set_store(&mut self, now: Millis, problem: Option<&str>) {
        let unchanged = |store: &&Store| store.problem.is_some() == problem.is_some();
        let since = self
            .store
            .as_ref()
            .filter(unchanged)
            .map(|store| store.since);
        self.store = Some(Store {
            since: since.unwrap_or(now),
            problem: problem.map(str::to_owned),
        });
    }

    /// The note as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(VERSION);
        w.flag(self.refreshed.is_some());
        if let Some(refreshed) = &self.refreshed {
            w.u64(refreshed.at.0);
            w.text(&refreshed.result);
        }
        w.flag(self.failed.is_some());
        if let Some(failed) = &self.failed {
            w.u64(failed.at.0);
            w.flag(failed.errcode.is_some());
            w.i64(failed.errcode.unwrap_or_default());
            w.text(cut(&failed.detail));
        }
        w.flag(self.store.is_some());
        if let Some(store) = &self.store {
            w.u64(store.since.0);
            w.flag(store.problem.is_some());
            w.text(cut(store.problem.as_deref().unwrap_or_default()));
        }
        w.finish()
    }

    /// Reads a note; `None` when the bytes are not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<Note> {
        let mut r = Reader::new(bytes, VERSION)?;
        let note = Note {
            refreshed: match r.flag()? {
                true => Some(Refreshed {
                    at: Millis(r.u64()?),
                    result: r.text()?.to_owned(),
                }),
                false => None,
            },
            failed: match r.flag()? {
                true => {
                    let at = Millis(r.u64()?);
                    let is_known = r.flag()?;
                    let errcode = r.i64()?;
                    Some(Failed {
                        at,
                        errcode: is_known.then_some(errcode),
                        detail: r.text()?.to_owned(),
                    })
                }
                false => None,
            },
            store: match r.flag()? {
                true => {
                    let since = Millis(r.u64()?);
                    let is_down = r.flag()?;
                    let problem = r.text()?.to_owned();
                    Some(Store {
                        since,
                        problem: is_down.then_some(problem),
                    })
                }
                false => None,
            },
        };
        r.finish()?;
        Some(note)
    }
}

/// At most [`MOST_TEXT`] bytes from the front of a text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MOST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    fn notes() -> impl Strategy<Value = Note> {
        let text = "[ -~]{0,80}";
        (
            option::of((any::<u64>(), text)),
            option::of((any::<u64>(), option::of(1..i64::MAX), text)),
            option::of((any::<u64>(), option::of(text))),
        )
            .prop_map(|(refreshed, failed, store)| Note {
                refreshed: refreshed.map(|(at, result)| Refreshed {
                    at: Millis(at),
                    result,
                }),
                failed: failed.map(|(at, errcode, detail)| Failed {
                    at: Millis(at),
                    errcode,
                    detail,
                }),
                store: store.map(|(since, problem)| Store {
                    since: Millis(since),
                    problem,
                }),
            })
    }

    proptest! {
        #[test]
        fn a_note_comes_back_as_it_was(note in notes()) {
            prop_assert_eq!(Note::decode(&note.encode()), Some(note));
        }

        #[test]
        fn a_note_cut_short_or_with_a_tail_is_none(note in notes(), at: prop::sample::Index) {
            let mut bytes = note.encode();
            let short = at.index(bytes.len());
            prop_assert_eq!(Note::decode(&bytes[..short]), None);
            bytes.push(0);
            prop_assert_eq!(Note::decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Note::decode(&bytes);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let note = Note {
            failed: Some(Failed {
                at: Millis(1),
                errcode: None,
                detail: format!("x{}", "微".repeat(400)),
            }),
            ..Note::default()
        };
        let detail = Note::decode(&note.encode()).unwrap().failed.unwrap().detail;
        assert_eq!(detail, format!("x{}", "微".repeat(170)));
    }
}
