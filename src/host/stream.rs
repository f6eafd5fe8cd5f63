//! What an injector remembers of one request between its callbacks.

use std::borrow::Cow;

use crate::host::headers::HeaderMap;
use crate::rewrite::{scan, NamedApp, Scan};
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
    /// The headers of its answer were held and are let go, although no body had come.
    LetGo {
        /// The tick at which that was.
        at_tick: u64,
    },
    /// Its callbacks are let pass: it is new, goes on as it is, was answered, or its answer was looked at.
    Idle,
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

/// The names of the headers that are read and written.
pub const APPID_HEADER: &str = "x-wechat-appid";
/// Access logs and traces prefer it to the path.
pub const ORIGINAL_PATH: &str = "x-envoy-original-path";

/// The headers of a request that matter here.
pub struct Request<'a> {
    /// The stream's context.
    pub stream: u32,
    /// `:method`, empty if there is none.
    pub method: &'a [u8],
    /// `:authority`, empty if there is none.
    pub authority: &'a [u8],
    /// `:path`.
    pub path: Scan<'a>,
    /// What the `x-wechat-appid` headers say.
    pub named_app: NamedApp<'a>,
    /// `x-envoy-original-path`.
    pub original_path: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// Picks them out of all headers; `None` for a request without a path.
    pub fn read(stream: u32, headers: &'a HeaderMap) -> Option<Request<'a>> {
        let mut method = <&[u8]>::default();
        let mut authority = <&[u8]>::default();
        let mut path = None;
        let mut named_app = NamedApp::Absent;
        let mut original_path = None;
        for (name, value) in headers.pairs() {
            match name {
                b":method" => method = value,
                b":authority" => authority = value,
                b":path" => path = Some(value),
                _ if name == APPID_HEADER.as_bytes() => named_app.add(Cow::Borrowed(value)),
                _ if name == ORIGINAL_PATH.as_bytes() => original_path = Some(value),
                _ => {}
            }
        }
        Some(Request {
            stream,
            method,
            authority,
            path: scan(path?),
            named_app,
            original_path,
        })
    }
}
