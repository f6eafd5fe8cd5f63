//! Traps on command, for the tests of what happens after one. Only in builds with the feature `trap`, never in `dist/`.
//!
//! A request with the header `x-wechat-token-trap` ends the virtual machine that it names: `injector` the one that
//! serves it, `refresher` the singleton, on its next tick.

use crate::host::headers::HeaderMap;
use crate::host::{Cas, Host};
use crate::record::PREFIX;

const HEADER: &str = "x-wechat-token-trap";

/// Looks at a request.
#[allow(clippy::panic)] // this is what it is for
pub fn on_request<H: Host>(host: &H, headers: &HeaderMap) {
    match headers.value(HEADER) {
        Some(b"injector") => panic!("told to trap"),
        Some(b"refresher") => {
            let _ = host.set_shared(&key(), b"1", Cas::ABSENT);
        }
        _ => {}
    }
}

/// Looks at shared data.
#[allow(clippy::panic)] // this is what it is for
pub fn on_tick<H: Host>(host: &H, is_primary: bool) {
    if is_primary && host.shared(&key()).is_some() {
        panic!("told to trap");
    }
}

fn key() -> String {
    format!("{PREFIX}trap")
}
