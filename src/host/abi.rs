//! The proxy-wasm ABI 0.2.1: the only unsafe code, the only hostcalls, and the callbacks that Envoy calls.
//!
//! It takes the place of the `proxy-wasm` crate, because that one exports every callback (each costs time per request),
//! panics on statuses it does not know, and cannot say "hold everything" ([`crate::host::Flow::HoldAll`]). Nothing here can panic, and
//! nothing here decides anything. A buffer that the host hands over was allocated by `proxy_on_memory_allocate`.
#![allow(unsafe_code, missing_docs)]

pub mod callbacks;

use std::cell::RefCell;
use std::time::Duration;

use crate::host::headers::HeaderMap;
use crate::host::{Callout, Cas, Headers, Host, HostError};
use crate::metrics::Kind;
use crate::throttle::Throttle;
use crate::time::{millis, Millis, UnixMillis};

const RESPONSE_BODY: u32 = 1;
const CALLOUT_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;
const OK: u32 = 0;

#[link(wasm_import_module = "env")]
extern "C" {
    fn proxy_log(level: u32, data: *const u8, size: usize) -> u32;
    fn proxy_get_property(path: *const u8, size: usize, data: *mut *mut u8, out: *mut usize)
        -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        out: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, out: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, size: usize) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        size: usize,
        data: *mut *mut u8,
        out: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_register_shared_queue(name: *const u8, size: usize, id: *mut u32) -> u32;
    fn proxy_resolve_shared_queue(
        vm: *const u8,
        vm_size: usize,
        name: *const u8,
        size: usize,
        id: *mut u32,
    ) -> u32;
    fn proxy_enqueue_shared_queue(id: u32, data: *const u8, size: usize) -> u32;
    fn proxy_dequeue_shared_queue(id: u32, data: *mut *mut u8, out: *mut usize) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout: u32,
        id: *mut u32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    fn random_get(buffer: *mut u8, size: usize) -> u32;
}

extern "C" {
    fn __wasm_call_ctors();
}

/// Envoy, as this virtual machine sees it.
#[derive(Clone, Copy, Debug)]
pub struct Envoy;

impl Envoy {
    fn clock(clock: u32) -> u64 {
        let mut nanos = 0;
        unsafe { clock_time_get(clock, 1, &mut nanos) };
        nanos / 1_000_000
    }

    fn buffer(kind: u32, max: usize) -> Vec<u8> {
        received(|data, size| unsafe { proxy_get_buffer_bytes(kind, 0, max, data, size) })
            .unwrap_or_default()
    }
}

impl Host for Envoy {
    fn now(&self) -> Millis {
        Millis(Envoy::clock(1))
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(Envoy::clock(0))
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
        u64::from_le_bytes(bytes)
    }

    #[allow(clippy::disallowed_methods)] // this is the shell
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn property(&self, name: &str) -> Option<String> {
        let value = received(|data, size| unsafe {
            proxy_get_property(name.as_ptr(), name.len(), data, size)
        })?;
        String::from_utf8(value).ok()
    }

    fn configuration(&self) -> Vec<u8> {
        Envoy::buffer(PLUGIN_CONFIGURATION, usize::MAX >> 1)
    }

    fn set_tick_period(&self, period: Duration) {
        unsafe { proxy_set_tick_period_milliseconds(short(millis(period))) };
    }

    fn focus(&self, context: u32) {
        unsafe { proxy_set_effective_context(context) };
    }

    fn headers(&self, map: Headers) -> HeaderMap {
        let bytes =
            received(|data, size| unsafe { proxy_get_header_map_pairs(number(map), data, size) });
        HeaderMap::from_bytes(bytes.unwrap_or_default())
    }

    fn set_header(&self, map: Headers, name: &str, value: &[u8]) -> Result<(), HostError> {
        checked(unsafe {
            proxy_replace_header_map_value(
                number(map),
                name.as_ptr(),
                name.len(),
                value.as_ptr(),
                value.len(),
            )
        })
    }

    fn remove_header(&self, map: Headers, name: &str) -> Result<(), HostError> {
        checked(unsafe { proxy_remove_header_map_value(number(map), name.as_ptr(), name.len()) })
    }

    fn response_body(&self, max: usize) -> Vec<u8> {
        Envoy::buffer(RESPONSE_BODY, max)
    }

    fn resume_request(&self) -> Result<(), HostError> {
        checked(unsafe { proxy_continue_stream(0) })
    }

    fn resume_response(&self) -> Result<(), HostError> {
        checked(unsafe { proxy_continue_stream(1) })
    }

    fn local_reply(
        &self,
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(), HostError> {
        const DETAILS: &str = "wechat_token";
        let headers = HeaderMap::encode(headers);
        checked(unsafe {
            proxy_send_local_response(
                u32::from(status),
                DETAILS.as_ptr(),
                DETAILS.len(),
                body.as_ptr(),
                body.len(),
                headers.as_ptr(),
                headers.len(),
                -1,
            )
        })
    }

    fn shared(&self, key: &str) -> Option<(Vec<u8>, Cas)> {
        let mut cas = 0;
        let value = received(|data, size| unsafe {
            proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &mut cas)
        })?;
        Some((value, Cas(cas)))
    }

    fn set_shared(&self, key: &str, value: &[u8], cas: Cas) -> Result<(), HostError> {
        checked(unsafe {
            proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas.0)
        })
    }

    fn register_queue(&self, name: &str) -> Result<u32, HostError> {
        let mut id = 0;
        checked(unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &mut id) })?;
        Ok(id)
    }

    fn resolve_queue(&self, name: &str) -> Option<u32> {
        // A queue belongs to a virtual machine id; with Istio's WasmPlugin it is empty, so it is asked for.
        let vm = self.property("plugin_vm_id").unwrap_or_default();
        let mut id = 0;
        checked(unsafe {
            proxy_resolve_shared_queue(vm.as_ptr(), vm.len(), name.as_ptr(), name.len(), &mut id)
        })
        .ok()?;
        Some(id)
    }

    fn enqueue(&self, queue: u32, message: &[u8]) -> Result<(), HostError> {
        checked(unsafe { proxy_enqueue_shared_queue(queue, message.as_ptr(), message.len()) })
    }

    fn dequeue(&self, queue: u32) -> Option<Vec<u8>> {
        received(|data, size| unsafe { proxy_dequeue_shared_queue(queue, data, size) })
    }

    fn call(&self, callout: &Callout<'_>) -> Result<u32, HostError> {
        let headers = HeaderMap::encode(callout.headers);
        let trailers = HeaderMap::encode::<&str, &str>(&[]);
        let mut id = 0;
        checked(unsafe {
            proxy_http_call(
                callout.cluster.as_ptr(),
                callout.cluster.len(),
                headers.as_ptr(),
                headers.len(),
                callout.body.as_ptr(),
                callout.body.len(),
                trailers.as_ptr(),
                trailers.len(),
                short(millis(callout.timeout)),
                &mut id,
            )
        })?;
        Ok(id)
    }

    fn callout_body(&self, max: usize) -> Vec<u8> {
        Envoy::buffer(CALLOUT_BODY, max)
    }

    fn define_metric(&self, kind: Kind, name: &str) -> Result<u32, HostError> {
        let mut id = 0;
        checked(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) })?;
        Ok(id)
    }

    fn add_metric(&self, metric: u32, by: u64) {
        unsafe { proxy_increment_metric(metric, i64::try_from(by).unwrap_or(i64::MAX)) };
    }

    fn record_metric(&self, metric: u32, value: u64) {
        unsafe { proxy_record_metric(metric, value) };
    }
}

/// Calls a host function that hands over a buffer; `None` on any status but Ok.
fn received(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    if call(&mut data, &mut size) != OK {
        return None;
    }
    if data.is_null() || size == 0 {
        return Some(Vec::new());
    }
    // The host wrote `size` bytes into memory that `proxy_on_memory_allocate` gave it for exactly this call.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

fn checked(status: u32) -> Result<(), HostError> {
    match status {
        OK => Ok(()),
        2 => Err(HostError::BadArgument),
        8 => Err(HostError::CasMismatch),
        other => Err(HostError::Status(other)),
    }
}

fn number(map: Headers) -> u32 {
    match map {
        Headers::Request => 0,
        Headers::Response => 2,
        Headers::Callout => 6,
    }
}

fn short(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

struct Logger;

thread_local! {
    static THROTTLE: RefCell<Throttle> = RefCell::default();
}

/// Tells how many lines were left out, once a flood is over: the next line of its kind may be hours away, or never come. One
/// kind at a time; the next tick has the next one.
fn tell_rest() {
    let now = Millis(Envoy::clock(1));
    let rest = THROTTLE.with(|throttle| match throttle.try_borrow_mut() {
        Ok(mut throttle) => throttle.rest(now),
        Err(_) => None,
    });
    if let Some((kind, lines)) = rest {
        let kind = kind.rsplit('=').next().unwrap_or_default();
        log::warn!("event=lines_withheld kind={kind} lines={lines}");
    }
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Trace => 0,
            log::Level::Debug => 1,
            log::Level::Info => 2,
            log::Level::Warn => 3,
            log::Level::Error => 4,
        };
        let mut line = record.args().to_string();
        let now = Millis(Envoy::clock(1));
        let admitted = THROTTLE.with(|throttle| match throttle.try_borrow_mut() {
            // Whoever looks below info wants to see all, and what he sees must not hide what others look for.
            Ok(mut throttle) if record.level() <= log::Level::Info => throttle.admit(&line, now),
            _ => Some(0),
        });
        match admitted {
            None => return,
            Some(0) => {}
            Some(withheld) => line.push_str(&format!(" withheld={withheld}")),
        }
        unsafe { proxy_log(level, line.as_ptr(), line.len()) };
    }

    fn flush(&self) {}
}

#[no_mangle]
pub extern "C" fn _initialize() {
    static LOGGER: Logger = Logger;
    unsafe { __wasm_call_ctors() };
    // Fails only if a logger is set already, which is then this one.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Debug);
}
