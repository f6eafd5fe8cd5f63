//! What comes in a day of a mesh, in the order of its time.

use wechat_token::store::Step;
use wechat_token::time::Millis;
use wechat_token::token::Attempt;

use super::plan::Trouble;

/// What comes.
pub(crate) enum What {
    Tick,
    /// A step gets to Redis; whether its answer gets back.
    Step(Box<Step>, bool),
    /// A step was not answered in time.
    Silence,
    Granted(Attempt),
    Crash,
    /// A business call, if the token that is there is over.
    Use,
    Trouble(Trouble),
}

/// What comes, when, and to which Envoy.
pub(crate) struct Entry {
    pub(crate) at: Millis,
    pub(crate) number: u64,
    pub(crate) envoy: u32,
    /// Of which of its lives.
    pub(crate) life: u32,
    pub(crate) what: What,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
