//! One app's token: what it is, what can happen to it, and what has to be done about it.
//!
//! The life cycle is a pure state machine ([`Machine`]): it takes an [`Event`] and a [`Moment`] and returns
//! [`Command`]s. It reads no clock, draws no random number and makes no call; whoever drives it does.
//!
//! | state | serves? | leaves by |
//! |---|---|---|
//! | `Empty` | no | `Timer` -> `Refreshing` |
//! | `Fresh` | yes | refresh time reached, or `Rejected` for the current generation -> `Refreshing` |
//! | any | | `Adopted`, a token from the shared store -> `Fresh` |
//! | `Refreshing` | the old one while it lives | `Granted` -> `Fresh`; transient failure -> `BackingOff`; fatal -> `Open` |
//! | `BackingOff` | the old one while it lives | timer -> `Refreshing`; too many failures -> `Open` |
//! | `Open` (breaker) | the old one while it lives | timer, by errcode -> `Refreshing` as a single trial |
//!
//! "Expired" is not a state: it follows from the clock.

mod machine;
mod policy;
mod retry;

use std::fmt;
use std::time::Duration;

use crate::secret::Secret;
use crate::time::{millis, Millis, UnixMillis};
use crate::wechat::Failure;

pub use machine::{Machine, State};
pub use policy::Policy;
pub use retry::{Backoff, BackoffError, Budget, RejectionLimit, Spent};

/// Counts the tokens of one app within one Envoy process. A higher one is newer; 0 is "none yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    pub fn next(self) -> Generation {
        Generation(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A token and the time it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The text that goes into the query.
    pub value: Secret,
    /// When the call that brought it was dispatched; its lifetime counts from there, so that a slow reply cannot make
    /// a token look younger than it is.
    pub granted_at: Millis,
    /// From here on it is not used.
    pub deadline: Millis,
}

impl Token {
    /// How long it lives in all.
    pub fn life(&self) -> Duration {
        self.deadline.since(self.granted_at)
    }

    /// Whether the token may still be used.
    pub fn is_live(&self, now: Millis) -> bool {
        now < self.deadline
    }
}

/// Why there is no new token, as it is shown to callers and operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// WeChat's answer, if it was one.
    pub errcode: Option<i64>,
    /// When the next call is due.
    pub retry_at: Millis,
    /// The breaker is open: nothing will change before `retry_at`, so nobody needs to wait for it.
    pub open: bool,
}

/// The instant and the luck of one event: everything that the core may not fetch by itself.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic time.
    pub now: Millis,
    /// Wall time, for WeChat's midnight only.
    pub wall: UnixMillis,
    /// One random number.
    pub sample: Sample,
}

/// A random number, used as a fraction in `0..1`.
#[derive(Clone, Copy, Debug)]
pub struct Sample(pub u64);

impl Sample {
    /// Another random number from the same one, for the `n`-th use of a moment's luck (the finalizer of SplitMix64).
    pub fn derive(self, n: u64) -> Sample {
        let mut z = self.0.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Sample(z ^ (z >> 31))
    }

    /// A part of `span`, uniform over `0..span`.
    pub fn part_of(self, span: Duration) -> Duration {
        let part = (u128::from(millis(span)) * u128::from(self.0)) >> 64;
        Duration::from_millis(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

/// What happened to an app.
#[derive(Debug)]
pub enum Event<'a> {
    /// A call may be made now: something to do if [`Machine::next_wakeup`] is reached, nothing otherwise.
    Timer,
    /// The same while the shared store is silent: the call goes to the stable endpoint, which needs nobody's consent.
    Detour,
    /// The shared store is silent, and no call may be made without it.
    Withheld,
    /// Another Envoy, or a neighbour, has put a token into the shared store.
    Adopted {
        /// The token.
        token: Token,
        /// WeChat may have ended it already: a call of ours was on its way beside the one that brought it.
        is_doubtful: bool,
    },
    /// A [`Command::Fetch`] could not be sent (cluster not there yet); no reply will come, and WeChat saw nothing.
    NotSent,
    /// WeChat handed out a token that lives `expires_in` from the dispatch of the call.
    Granted {
        /// The token.
        token: Secret,
        /// Its remaining lifetime.
        expires_in: Duration,
    },
    /// The call failed.
    Failed(&'a Failure),
    /// WeChat rejected a business call that carried our token of this generation.
    Rejected(Generation),
}

/// What the driver has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask WeChat for a token; report [`Event::Granted`], [`Event::Failed`] or [`Event::NotSent`].
    Fetch(Attempt),
    /// The token, its deadline or the trouble changed: write the record and tell the workers.
    Publish,
    /// A thing an operator wants to read in the log.
    Report(Report),
}

/// Which secret and which upstream a call uses: indices into the configuration's lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Index into the app's secrets.
    pub secret: usize,
    /// Index into the upstreams.
    pub upstream: usize,
    /// The stable endpoint, whichever is configured.
    pub detour: bool,
}

/// How a refresh ended or why it was not made: one log line and one count each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A new token.
    Renewed,
    /// The same token again, with its remaining lifetime.
    Same,
    /// The call failed; the next one is due at the trouble's `retry_at`.
    Failed,
    /// The calls of the last seconds could not be sent.
    NotSent,
    /// A business call was rejected and a refresh follows.
    RejectedRefresh,
    /// A business call was rejected, but the limit on such refreshes is reached.
    RejectedLimited,
    /// The daily budget of the classic endpoint is used up.
    BudgetSpent,
    /// A token from the shared store.
    Adopted,
    /// The shared store is silent, so no call is made.
    Withheld,
    /// The shared store does not answer, or not as it should.
    StoreLost,
    /// The shared store answers again.
    StoreBack,
    /// A neighbour has refreshed by itself, and its token was taken over.
    NeighbourFollowed,
    /// A neighbour has refreshed by itself, and its token was left where it is.
    NeighbourIgnored,
    /// The store refuses to write a neighbour's key.
    MirrorRefused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_takes_a_part_that_is_never_the_whole() {
        let span = Duration::from_secs(60);
        for (sample, part) in [(0, 0), (1 << 63, 30_000), (u64::MAX, 59_999)] {
            assert_eq!(Sample(sample).part_of(span), Duration::from_millis(part));
        }
        assert_eq!(Sample(u64::MAX).part_of(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_generation_is_told_as_its_number() {
        assert_eq!(Generation(7).next().to_string(), "8");
    }
}
