//! Traps on command, for the tests of what happens after one. Only in builds with the feature `trap`, never in `dist/`.
//!
//! A request with the header `x-wechat-token-trap` ends the virtual machine that it names: `injector` the one that
//! serves it, `refresher` the singleton, `holder` one that keeps an app's token, both on their next tick. An Envoy has as many
//! roots as workers and one more, on the main thread, which no request reaches.

use crate::host::headers::HeaderMap;
use crate::host::{Cas, Host};
use crate::record::PREFIX;

const HEADER: &str = "x-wechat-token-trap";

/// Looks at a request.
#[allow(clippy::panic)] // this is what it is for
pub fn on_request<H: Host>(host: &H, headers: &HeaderMap) {
    match headers.value(HEADER) {
        Some(b"injector") => panic!("told to trap"),
        Some(whose @ (b"refresher" | b"holder")) => {
            let cas = host.shared(&key()).map_or(Cas::ABSENT, |(_, cas)| cas);
            let _ = host.set_shared(&key(), whose, cas);
        }
        _ => {}
    }
}

/// Looks at shared data.
#[allow(clippy::panic)] // this is what it is for
pub fn on_tick<H: Host>(host: &H, is_primary: bool, is_holder: bool) {
    let Some((whose, cas)) = host.shared(&key()) else {
        return;
    };
    let is_meant = match whose.as_slice() {
        b"refresher" => is_primary,
        b"holder" => is_holder,
        _ => false,
    };
    // Told once, it happens once.
    if is_meant && host.set_shared(&key(), b"", cas).is_ok() {
        panic!("told to trap");
    }
}

fn key() -> String {
    format!("{PREFIX}trap")
}
