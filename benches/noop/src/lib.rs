//! A proxy-wasm filter that does nothing, so that the benchmark can show what entering and leaving a VM costs.
//!
//! It exports the two header callbacks and the least that Envoy asks of a module. No SDK: one would add exports, and
//! Envoy calls every callback that is exported. It reads no header, keeps no state and imports nothing from the host.

/// Envoy's `Continue`.
const CONTINUE: u32 = 0;

extern "C" {
    /// The linker's own. Naming it keeps the linker from wrapping every export in a run of all constructors and
    /// destructors, which is what a module without `_initialize` gets and every single callback would pay for.
    #[cfg(target_os = "wasi")]
    fn __wasm_call_ctors();
}

/// Called once in each VM.
#[no_mangle]
pub extern "C" fn _initialize() {
    // SAFETY: the linker's function, called once and before anything else, as WASI asks of a reactor.
    #[cfg(target_os = "wasi")]
    unsafe {
        __wasm_call_ctors();
    }
}

/// The ABI version, which Envoy reads off this export's name.
#[no_mangle]
pub extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory for what the host hands over; Envoy refuses a module without it. Nothing is ever freed: nothing is asked for.
#[no_mangle]
pub extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Vec::leak(vec![0; size]).as_mut_ptr()
}

/// A request's headers have come: go on.
#[no_mangle]
pub extern "C" fn proxy_on_request_headers(_context: u32, _headers: u32, _end: u32) -> u32 {
    CONTINUE
}

/// An answer's headers have come: go on.
#[no_mangle]
pub extern "C" fn proxy_on_response_headers(_context: u32, _headers: u32, _end: u32) -> u32 {
    CONTINUE
}
