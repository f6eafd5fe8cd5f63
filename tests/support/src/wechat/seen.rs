//! The last calls as they are kept, and how they are shown.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method};

use super::report::Call;

/// A call as it is kept: nothing is copied or formatted before somebody asks.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body_bytes: u64,
    pub(super) body_crc32: u32,
    pub(super) appid: Option<Arc<str>>,
    pub(super) token: Option<u64>,
    pub(super) result: String,
}

impl Seen {
    /// The call as it is shown, every text of the caller's as `text` makes it.
    pub(super) fn show(&self, at_ms: u64, text: impl Fn(&str) -> String) -> Call {
        Call {
            at_ms,
            method: self.method.to_string(),
            target: text(&self.target),
            headers: show_headers(&self.headers, text),
            body_bytes: self.body_bytes,
            body_crc32: format!("{:08x}", self.body_crc32),
            appid: self.appid.as_ref().map(ToString::to_string),
            token: self.token,
            result: self.result.clone(),
        }
    }
}

/// Headers in their order, every value as `text` makes it.
pub(super) fn show_headers(
    headers: &HeaderMap,
    text: impl Fn(&str) -> String,
) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), text(&value))
        })
        .collect()
}
