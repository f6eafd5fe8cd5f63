//! What may happen in a day of a mesh, and what came of it.

use std::time::Duration;

/// What may happen to it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) envoys: usize,
    pub(crate) hours: u32,
    pub(crate) seed: u64,
    /// Envoys that crash and start anew, in an hour.
    pub(crate) crashes: u64,
    /// Whether a third of the Envoys loses Redis for ten minutes in every hour.
    pub(crate) parts: bool,
    /// Of a thousand steps, how many are done and their answer is lost.
    pub(crate) answers_lost: u64,
    /// How far clocks are apart: each Envoy's wall clock, and Redis's at each jump. Envoys' monotonic clocks began any time ago.
    pub(crate) skew_minutes: u64,
    /// What befalls Redis: each of these a few times in a day, and besides one of them at each renewal of a token.
    pub(crate) troubles: &'static [Trouble],
    /// WeChat refuses all token calls from then on, for so long.
    pub(crate) outage: Option<(Duration, Duration)>,
    /// Steps that Redis does in a second.
    pub(crate) capacity: Option<u32>,
}

/// What may befall Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Its clock jumps.
    Jump,
    /// It does nothing for 3 s.
    Freeze,
    /// A replica takes over that lacks the last write and has a clock of its own.
    FailOver,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Tokens that the classic endpoint made.
    pub(crate) made: usize,
    /// Of them those that were never in the store.
    pub(crate) untold: usize,
    /// Publications that a fail-over took with it.
    pub(crate) undone: usize,
    /// Token calls at the classic endpoint and at the stable one, those included that failed.
    pub(crate) calls: [u64; 2],
    /// Calls that crashed with their Envoy.
    pub(crate) lost: usize,
    /// Locks that were lost before they were given back.
    pub(crate) fences: usize,
    /// Publications of those whose lock had ended, with nobody's lock there and nothing newer.
    pub(crate) unfenced: usize,
    /// Steps at the store, of an Envoy in an hour.
    pub(crate) steps: f64,
    /// The most steps in a second, all Envoys together, after the first minute.
    pub(crate) peak: u32,
    /// In so much of the day the store was asked by more than a tenth of the Envoys in a second.
    pub(crate) busy: Duration,
    /// Calls with a token that WeChat takes no more.
    pub(crate) rejected: u64,
    /// The longest use of a token after it was replaced.
    pub(crate) stale: Duration,
    /// The longest use of a token after its end.
    pub(crate) late: Duration,
    /// The longest time that an Envoy had no token.
    pub(crate) without: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            envoys: 200,
            hours: 24,
            seed: 1,
            crashes: 0,
            parts: false,
            answers_lost: 0,
            skew_minutes: 0,
            troubles: &[],
            outage: None,
            capacity: None,
        }
    }
}
