//! What an injector remembers of one request between its callbacks.

use crate::token::Generation;

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// It waits for a token.
    Parked,
    /// It left with this token.
    Injected(Carried),
    /// The headers of its answer are held until the first bytes of the body are seen.
    Held {
        /// The token it left with.
        carried: Carried,
        /// The tick at which the headers came: no clock is read while a request is served.
        since_tick: u64,
    },
    /// Nothing more to do.
    Done,
}

/// The token that a request left with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Index of the app.
    pub app: usize,
    /// Which of its tokens.
    pub generation: Generation,
    /// Envoy had sent the request before and the token was rejected: it is not sent a third time.
    pub is_resend: bool,
}
