//! How a lock ends: it is given back, or kept while WeChat refuses.

use std::time::Duration;

use super::{Link, SOON};
use crate::store::Step;
use crate::time::Millis;

/// While WeChat refuses, the lock is kept this long at most: somebody else may be luckier, and its owner may be gone.
const LONGEST_KEPT: Duration = Duration::from_secs(60);

impl Link {
    /// WeChat has refused a call, and would refuse it to everybody: nobody shall make another one before `until`.
    pub fn keep_lock(&mut self, until: Millis) {
        if let Some(lock) = &mut self.lock {
            lock.keep = Some(until);
        }
    }

    /// The step that gives back a lock that is, or may be, ours and that nothing needs any more; or that makes it last for
    /// as long as it is kept, `is_refused` as long as WeChat refuses.
    pub fn release_step(&mut self, now: Millis, is_refused: bool) -> Option<Step> {
        if self.owes() {
            return None;
        }
        let mut lock = self.lock.take().filter(|lock| now < lock.until)?;
        let deadline = self.deadline(now)?;
        let owner = lock.owner;
        let Some(keep) = lock.keep.filter(|_| is_refused) else {
            return Some(Step::Release { owner, deadline });
        };
        let is_long_enough = lock.until > keep;
        let ttl = keep.since(now).saturating_add(SOON).min(LONGEST_KEPT);
        if !is_long_enough {
            lock.until = now.after(ttl);
            // That is how long; not once more.
            lock.keep = Some(now);
        }
        self.lock = Some(lock);
        (!is_long_enough).then_some(Step::Lock {
            owner,
            known: self.known,
            ttl,
            deadline,
        })
    }
}
