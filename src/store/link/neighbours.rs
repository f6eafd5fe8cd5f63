//! The part of a link that has to do with neighbours: which tokens the mesh has had, and what is owed to their keys.

use super::{about, pauses, Link, SOON};
use crate::secret::Secret;
use crate::store::seen::{Fingerprint, Seen};
use crate::store::{Mirrored, Step};
use crate::time::{millis, Millis, UnixMillis};
use crate::token::{Sample, Token};

/// What is known of the neighbours' keys, and owed to them.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Tokens that the mesh has had.
    pub(super) seen: Seen,
    /// Tokens of neighbours that were looked at.
    ignored: Seen,
    /// When the keys are written next.
    pub(super) due: Option<Millis>,
    /// Whether they looked wrong when they were read last.
    is_suspect: bool,
    /// Refusals in a row.
    refusals: u32,
}

/// Who a token at a neighbour's key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The mesh has had it.
    Ours,
    /// Somebody else's, and told already.
    Ignored,
    /// Somebody else's, and news.
    Foreign,
}

impl Link {
    /// This token of a neighbour was looked at; once it is in the store, it is ours.
    pub fn ignore(&mut self, token: &Secret) {
        self.neighbours.ignored.note(Fingerprint::of(token));
    }

    /// Whose a token is.
    pub fn origin(&self, token: &Secret) -> Origin {
        let token = Fingerprint::of(token);
        if self.neighbours.seen.has(token) {
            Origin::Ours
        } else if self.neighbours.ignored.has(token) {
            Origin::Ignored
        } else {
            Origin::Foreign
        }
    }

    /// The neighbours' keys have to be written.
    pub fn owe_mirrors(&mut self, now: Millis) {
        self.neighbours.due = Some(now);
    }

    /// The neighbours' keys lack our token, or not. They are written when they did so twice: the Envoy that publishes a
    /// token writes them itself, a moment later.
    pub fn suspect(&mut self, is_wrong: bool, now: Millis) {
        if is_wrong && self.neighbours.due.is_none() {
            match self.neighbours.is_suspect {
                true => self.neighbours.due = Some(now),
                false => self.next_read = self.next_read.min(now.after(2 * SOON)),
            }
        }
        self.neighbours.is_suspect = is_wrong;
    }

    /// The step that writes the neighbours' keys, if it is time.
    pub fn mirror_step(&mut self, now: Millis, token: Option<&Token>) -> Option<Step> {
        let due = self.neighbours.due.filter(|due| *due <= now);
        if self.owes() || due.is_none() {
            return None;
        }
        let Some(token) = token else {
            self.neighbours.due = None;
            return None;
        };
        let (Some(deadline), Some(clock)) = (self.deadline(now), self.clock) else {
            return Some(Step::Read);
        };
        let left = token.deadline.since(now);
        let end = now.since(clock.at).saturating_add(left);
        Some(Step::Mirror {
            deadline,
            token: token.value.clone(),
            left,
            end: UnixMillis(clock.seen.0.saturating_add(millis(end))),
        })
    }

    /// Takes note of how writing went; true when Redis refuses it, for the first time in a row, and then less and less often.
    pub fn mirrored(&mut self, outcome: &Mirrored, now: Millis, sample: Sample) -> bool {
        let neighbours = &mut self.neighbours;
        match outcome {
            Mirrored::Done => {
                neighbours.due = None;
                neighbours.is_suspect = false;
                neighbours.refusals = 0;
                false
            }
            Mirrored::Late => {
                neighbours.due = Some(now.after(about(SOON, sample)));
                false
            }
            Mirrored::Refused(_) => {
                neighbours.refusals = neighbours.refusals.saturating_add(1);
                neighbours.due = Some(now.after(pauses().pause(neighbours.refusals, sample)));
                neighbours.refusals.is_power_of_two()
            }
        }
    }
}
