//! The script `step.lua` once more, in Rust, for tests on a virtual clock; `tests/store.rs` holds it to what the script does
//! on a real Redis.

use std::time::Duration;

use wechat_token::secret::Secret;
use wechat_token::store::mirror::Found;
use wechat_token::store::seen::Fingerprint;
use wechat_token::store::{Answer, Mirrored, Nonce, Outcome, Step, Stored, Version};
use wechat_token::time::{millis, Millis, UnixMillis};

/// What a Redis holds of one app.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// How far its clock is ahead of the test's.
    pub(crate) ahead: u64,
    record: Option<Record>,
    lock: Option<(Nonce, UnixMillis)>,
    /// The neighbours' keys: each its token, and when it ends.
    pub(crate) mirrors: Vec<Option<(String, Millis)>>,
    /// Those keys have no time to live.
    pub(crate) is_endless: bool,
    /// Those keys are out of the user's reach.
    pub(crate) refuses_mirrors: bool,
}

#[derive(Clone, Debug)]
struct Record {
    version: Version,
    nonce: Nonce,
    token: Secret,
    life: Duration,
    /// On its own clock, as Redis keeps it: where that clock jumps, what is left changes.
    end: UnixMillis,
    seen: Vec<Fingerprint>,
}

impl Model {
    /// An empty one whose clock is ahead of the test's.
    pub(crate) fn ahead_by(ahead: u64) -> Model {
        Model {
            ahead,
            ..Model::default()
        }
    }

    /// One step, at this instant.
    pub(crate) fn run(&mut self, step: &Step, now: Millis) -> Answer {
        let clock = self.clock(now);
        let later = |span: Duration| UnixMillis(clock.0 + millis(span));
        let until = |end: UnixMillis| Duration::from_millis(end.0.saturating_sub(clock.0));
        self.record = self.record.take().filter(|record| clock < record.end);
        self.lock = self.lock.take().filter(|(_, until)| clock < *until);
        let mirrors = self.mirrors(now);
        let version = self.version();
        let is_others = |lock: &Option<(Nonce, UnixMillis)>, owner: &Nonce| {
            lock.is_some_and(|(holder, _)| holder != *owner)
        };
        let outcome = match step {
            Step::Read | Step::Mirror { .. } => Outcome::Read,
            Step::Lock { deadline, .. }
            | Step::Publish { deadline, .. }
            | Step::Release { deadline, .. }
                if clock > *deadline =>
            {
                Outcome::Late
            }
            Step::Lock { known, .. } if version > *known => Outcome::Newer,
            Step::Lock { owner, .. } if is_others(&self.lock, owner) => Outcome::Busy,
            Step::Lock { owner, ttl, .. } => {
                self.lock = Some((*owner, later(*ttl)));
                Outcome::Locked
            }
            Step::Publish { nonce, .. } if self.has(*nonce) => Outcome::Published,
            Step::Publish { known, .. } if version > *known => Outcome::Newer,
            Step::Publish { owner, .. } if is_others(&self.lock, owner) => Outcome::Busy,
            Step::Publish {
                known,
                nonce,
                token,
                left,
                life,
                ..
            } => {
                let seen = self.record.as_ref().map(|record| record.seen.clone());
                let mut seen = seen.unwrap_or_default();
                seen.push(Fingerprint::of(token));
                self.record = Some(Record {
                    seen: seen.split_off(seen.len().saturating_sub(16)),
                    version: Version(clock.0.max(version.0 + 1).max(known.0 + 1)),
                    nonce: *nonce,
                    token: token.clone(),
                    life: *life,
                    end: later(*left),
                });
                Outcome::Published
            }
            Step::Release { .. } => Outcome::Read,
        };
        if let (Step::Publish { owner, .. } | Step::Release { owner, .. }, true) =
            (step, outcome != Outcome::Late)
        {
            self.lock = self.lock.take().filter(|(holder, _)| holder != owner);
        }
        Answer {
            outcome,
            clock,
            version: self.version(),
            token: self.record.as_ref().map(|record| Stored {
                value: record.token.clone(),
                left: until(record.end),
                life: record.life,
            }),
            locked_for: self.lock.map(|(_, end)| until(end)),
            seen: self
                .record
                .as_ref()
                .map_or(Vec::new(), |record| record.seen.clone()),
            mirrors,
            mirrored: self.mirror(step, now),
        }
    }

    /// What is at the neighbours' keys.
    fn mirrors(&mut self, now: Millis) -> Vec<Found> {
        let is_endless = self.is_endless;
        let found = |mirror: &mut Option<(String, Millis)>| {
            *mirror = mirror.take().filter(|(_, end)| now < *end);
            mirror
                .as_ref()
                .map_or(Found::Nothing, |(token, end)| Found::Token {
                    value: Secret::new(token.clone()),
                    left: (!is_endless).then(|| end.since(now)),
                })
        };
        self.mirrors.iter_mut().map(found).collect()
    }

    fn mirror(&mut self, step: &Step, now: Millis) -> Option<Mirrored> {
        let Step::Mirror {
            deadline,
            token,
            left,
            ..
        } = step
        else {
            return None;
        };
        if self.refuses_mirrors {
            return Some(Mirrored::Refused("NOPERM".to_owned()));
        }
        if now.0 + self.ahead > deadline.0 {
            return Some(Mirrored::Late);
        }
        let written = Some((token.expose().to_owned(), now.after(*left)));
        self.mirrors.fill(written);
        Some(Mirrored::Done)
    }

    /// The token that it has.
    pub(crate) fn token(&self) -> Option<&str> {
        self.record.as_ref().map(|record| record.token.expose())
    }

    /// Whether anybody has the lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Whose the lock is at this instant.
    pub(crate) fn holder(&self, now: Millis) -> Option<Nonce> {
        let (holder, until) = self.lock?;
        (self.clock(now) < until).then_some(holder)
    }

    fn clock(&self, now: Millis) -> UnixMillis {
        UnixMillis(now.0 + self.ahead)
    }

    /// The version that it has, 0 for none.
    pub(crate) fn version(&self) -> Version {
        self.record
            .as_ref()
            .map_or(Version::default(), |record| record.version)
    }

    /// Whether its token is that of this publication.
    pub(crate) fn has(&self, nonce: Nonce) -> bool {
        self.record
            .as_ref()
            .is_some_and(|record| record.nonce == nonce)
    }
}
