//! One app's side of the store: what is known of it, which step is on its way, and when the next one is due.
//!
//! It holds what was learned (Redis's clock, the newest version, our lock) and what is owed (a token that the store does
//! not have yet). Which token is better is not decided here, but where the life cycle is: in [`crate::keeper`].

mod end;
pub mod neighbours;

use std::time::Duration;

use self::neighbours::Neighbours;
use super::{Answer, Nonce, Outcome, Step, Stored, Version};
use crate::time::{millis, Millis, UnixMillis};
use crate::token::{Backoff, Sample, Token};

/// A callback that is lost must not stop the app for ever; after the step's own timeout and this, it counts as failed.
const LOST_REPLY_GRACE: Duration = Duration::from_secs(2);
/// How often the store is read while a new token must be expected.
const SOON: Duration = Duration::from_secs(1);
/// How often it is read while the token has long to live: at least this, and at most twice this.
const SELDOM: Duration = Duration::from_secs(30);
/// So many times in a row it is looked four times a second for a first token: longer than a token call takes.
const HASTY_LOOKS: u32 = 30;
/// A step that was late, because Redis's clock is not where it was, is tried again after this.
const LATE_PAUSE: Duration = Duration::from_millis(250);
/// At the beginning of its window a token is looked for over this part of the window, so that not all look at once.
const LOOKED_FOR: u32 = 20;
/// At most one read by a rejected token in this time.
const BETWEEN_READS: Duration = Duration::from_secs(1);

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Timeout of a step.
    pub step: Duration,
    /// Timeout of a token call.
    pub call: Duration,
}

impl Pace {
    /// How long a lock holds: two token calls (the second upstream's turn), and the steps around them. Whoever waits for one
    /// that was killed waits this long, and the old token lives on meanwhile.
    fn lock(&self) -> Duration {
        self.call * 2 + self.step * 3 + Duration::from_secs(1)
    }
}

/// One app's side of the store.
#[derive(Debug)]
pub struct Link {
    pace: Pace,
    known: Version,
    clock: Option<Clock>,
    asking: Option<Asking>,
    lock: Option<Lock>,
    debt: Option<Debt>,
    /// When the next read is due; after a silence, when the store is tried again.
    next_read: Millis,
    /// No lock is asked for before this.
    next_lock: Millis,
    /// When the store answered last.
    heard_at: Option<Millis>,
    /// Steps in a row that brought no answer.
    failures: u32,
    /// Reads in a row that found no token.
    empty: u32,
    neighbours: Neighbours,
}

/// Redis's clock as it was seen at an instant of ours: the answer came then, so it shows at least this now.
#[derive(Clone, Copy, Debug)]
struct Clock {
    seen: UnixMillis,
    at: Millis,
}

#[derive(Debug)]
struct Asking {
    step: Step,
    since: Millis,
}

/// Our lock; other Envoys may take it over at `until`.
#[derive(Clone, Copy, Debug)]
struct Lock {
    owner: Nonce,
    until: Millis,
    /// The store has said so; until then it may be, where the answer was lost.
    is_sure: bool,
    /// It is kept until this, since WeChat refuses.
    keep: Option<Millis>,
}

/// A token that the store does not have yet.
#[derive(Clone, Copy, Debug)]
struct Debt {
    nonce: Nonce,
    next_try: Millis,
    /// It came from a call that, beside another Envoy's, ends that one's token or is ended by it.
    is_rival: bool,
}

impl Link {
    /// A link that knows the store up to `known`; it reads as soon as it may.
    pub fn new(pace: Pace, known: Version) -> Link {
        Link {
            pace,
            known,
            clock: None,
            asking: None,
            lock: None,
            debt: None,
            next_read: Millis(0),
            next_lock: Millis(0),
            heard_at: None,
            failures: 0,
            empty: 0,
            neighbours: Neighbours::default(),
        }
    }

    /// The newest version known.
    pub fn known(&self) -> Version {
        self.known
    }

    /// Whether a step is on its way.
    pub fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// When something has to be done, with a token call due at `call_due`.
    pub fn next_wakeup(&self, call_due: Millis) -> Millis {
        if let Some(asking) = &self.asking {
            return asking.since.after(self.pace.step).after(LOST_REPLY_GRACE);
        }
        if self.failures > 0 {
            return call_due.min(self.next_read);
        }
        let call = call_due.max(self.next_lock);
        let debt = self.debt.map_or(call, |debt| debt.next_try);
        let mirrors = self.neighbours.due.unwrap_or(call);
        call.min(debt).min(mirrors).min(self.next_read)
    }

    /// Whether the store did not answer, and is given time before it is asked again.
    pub fn is_silent(&self, now: Millis) -> bool {
        self.failures > 0 && now < self.next_read
    }

    /// The step that takes the lock, or that reads the clock which this takes; none while it is too early.
    pub fn lock_step(&mut self, now: Millis, sample: Sample) -> Option<Step> {
        if now < self.next_lock {
            return None;
        }
        let Some(deadline) = self.deadline(now) else {
            return Some(Step::Read);
        };
        // After an answer that never came the lock may be ours: the same owner finds out.
        let owner = match self.lock {
            Some(lock) if now < lock.until => lock.owner,
            _ => Nonce(sample.derive(1).0),
        };
        let ttl = self.pace.lock();
        let until = now.after(ttl);
        self.lock = Some(Lock {
            owner,
            until,
            is_sure: false,
            keep: None,
        });
        Some(Step::Lock {
            owner,
            known: self.known,
            ttl,
            deadline,
        })
    }

    /// Whether the lock holds long enough for a token call and its publication.
    pub fn has_lock(&self, now: Millis) -> bool {
        let needed = now.after(self.pace.call).after(self.pace.step);
        self.lock
            .is_some_and(|lock| lock.is_sure && needed <= lock.until)
    }

    /// The step that publishes what is owed, if it is time.
    pub fn publish_step(&mut self, now: Millis, token: Option<&Token>) -> Option<Step> {
        let debt = self.debt.filter(|debt| debt.next_try <= now)?;
        let Some(token) = token else {
            // It died before the store could be told.
            self.debt = None;
            return None;
        };
        let Some(deadline) = self.deadline(now) else {
            return Some(Step::Read);
        };
        Some(Step::Publish {
            owner: self.lock.map_or(debt.nonce, |lock| lock.owner),
            known: self.known,
            deadline,
            nonce: debt.nonce,
            token: token.value.clone(),
            left: token.deadline.since(now),
            life: token.life(),
        })
    }

    /// Whether a read is due.
    pub fn wants_read(&self, now: Millis) -> bool {
        now >= self.next_read
    }

    /// Whether the store was heard so lately that reading again tells nothing new.
    pub fn is_fresh(&self, now: Millis) -> bool {
        self.heard_at
            .is_some_and(|heard| now.since(heard) < BETWEEN_READS)
    }

    /// A step was sent.
    pub fn asked(&mut self, step: Step, now: Millis) {
        self.asking = Some(Asking { step, since: now });
    }

    /// The step that was on its way, which ends with this.
    pub fn take_asked(&mut self) -> Option<(Step, Millis)> {
        self.asking.take().map(|asking| (asking.step, asking.since))
    }

    /// The store has to be told of our token. A rival came from a call that, beside another Envoy's, ends that one's token
    /// or is ended by it.
    pub fn owe(&mut self, is_rival: bool, now: Millis, sample: Sample) {
        self.debt = Some(Debt {
            nonce: Nonce(sample.derive(2).0),
            next_try: now,
            is_rival,
        });
    }

    /// Whether the store has to be told of a token.
    pub fn owes(&self) -> bool {
        self.debt.is_some()
    }

    /// Whether that token may have ended the one that is in the store now, or the other way round.
    pub fn owes_rival(&self) -> bool {
        self.debt.is_some_and(|debt| debt.is_rival)
    }

    /// Nothing is owed any more: the store has our token, or a better one.
    pub fn settle(&mut self) {
        self.debt = None;
    }

    /// Takes note of an answer to `step`; true when the store had been silent before.
    pub fn heard(&mut self, step: &Step, answer: &Answer, now: Millis, sample: Sample) -> bool {
        let was_silent = self.failures > 0;
        self.failures = 0;
        self.heard_at = Some(now);
        self.clock = Some(Clock {
            seen: answer.clock,
            at: now,
        });
        self.empty = match answer.token {
            Some(_) => 0,
            None => self.empty.saturating_add(1),
        };
        match (step, answer.outcome) {
            (Step::Lock { .. }, Outcome::Locked) => {
                if let Some(lock) = &mut self.lock {
                    lock.is_sure = true;
                }
            }
            (_, Outcome::Late) => {
                self.lock = self.lock.filter(|lock| lock.is_sure);
                self.rest(now.after(LATE_PAUSE));
            }
            (_, Outcome::Busy) => {
                self.lock = None;
                // Callers wait where there is no token at all; but not while WeChat refuses.
                let pause = match &answer.token {
                    Some(_) => SOON,
                    None if self.empty <= HASTY_LOOKS => SOON / 4,
                    None => SOON * 4,
                };
                self.rest(now.after(about(pause, sample)));
            }
            (Step::Read | Step::Mirror { .. }, _) => {}
            _ => self.lock = None,
        }
        let seen = &mut self.neighbours.seen;
        answer.seen.iter().for_each(|token| seen.note(*token));
        was_silent
    }

    /// No lock is asked for and nothing is published before this.
    fn rest(&mut self, until: Millis) {
        self.next_lock = until;
        if let Some(debt) = &mut self.debt {
            debt.next_try = until;
        }
    }

    /// The token call that was due could not be sent: there is no hurry to lock again, which keeps others from theirs.
    pub fn rest_after_unsent(&mut self, now: Millis) {
        self.rest(now.after(SOON));
    }

    /// Takes note that a step brought no answer; true for the first in a row, and then less and less often.
    pub fn missed(&mut self, now: Millis, sample: Sample) -> bool {
        self.failures = self.failures.saturating_add(1);
        let again = now.after(pauses().pause(self.failures, sample));
        self.next_read = again;
        self.rest(again);
        self.failures.is_power_of_two()
    }

    /// A version that the store has and that is known here from now on.
    pub fn learn(&mut self, version: Version) {
        self.known = self.known.max(version);
    }

    /// Says when to read next: soon within `window`, when others may renew the token, from its beginning to the token's
    /// end; seldom before.
    pub fn pause(&mut self, now: Millis, window: Option<(Millis, Millis)>, sample: Sample) {
        self.next_read = match window {
            // Nobody has a token: soon at first, then less and less.
            None => now.after(pauses().pause(self.empty.max(1), sample)),
            Some((start, _)) if now >= start => now.after(about(SOON, sample)),
            Some((start, end)) => {
                let seldom = now.after(SELDOM).after(sample.part_of(SELDOM));
                let first = SOON.max(end.since(start) / LOOKED_FOR);
                seldom.min(start.after(sample.part_of(first)))
            }
        };
    }

    /// The end of a step that is sent now, on Redis's clock: no later than our callout's end, so that it cannot run after
    /// we have given it up. None before Redis's clock is known.
    fn deadline(&self, now: Millis) -> Option<UnixMillis> {
        let clock = self.clock?;
        let end = now.since(clock.at).saturating_add(self.pace.step);
        Some(UnixMillis(clock.seen.0.saturating_add(millis(end))))
    }
}

/// The stored token as one of ours: it lives from `asked_at` for what is left, since an answer takes time.
pub fn as_local(stored: &Stored, asked_at: Millis) -> Token {
    let deadline = asked_at.after(stored.left);
    Token {
        value: stored.value.clone(),
        granted_at: deadline.before(stored.life),
        deadline,
    }
}

/// `span`, give or take a quarter.
fn about(span: Duration, sample: Sample) -> Duration {
    span * 3 / 4 + sample.part_of(span / 2)
}

/// Pauses while the store is silent, or empty.
fn pauses() -> Backoff {
    Backoff::try_new(SOON, SELDOM).unwrap_or_default()
}
