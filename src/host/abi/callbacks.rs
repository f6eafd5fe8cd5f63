//! The callbacks that Envoy calls, and the contexts of this virtual machine to which they go.
//!
//! Envoy calls every callback that it finds exported, so there is none here that does nothing.

use std::cell::RefCell;

use super::Envoy;
use crate::host::root::{Root, Server};
use crate::host::Flow;

/// The contexts of this virtual machine.
#[derive(Default)]
struct Vm {
    /// Those that have a configuration, the newest last: one or two, and more while old ones drain.
    roots: Vec<(u32, Root)>,
}

impl Vm {
    fn root(&mut self, id: u32) -> Option<&mut Root> {
        let (_, root) = self.roots.iter_mut().find(|(known, _)| *known == id)?;
        Some(root)
    }

    fn remove_root(&mut self, id: u32) -> Option<Root> {
        let place = self.roots.iter().position(|(known, _)| *known == id)?;
        Some(self.roots.remove(place).1)
    }

    /// Asks the roots in turn, the newest first, until one says that the stream is its own.
    fn stream<T>(&mut self, mut act: impl FnMut(&mut Server) -> Option<T>) -> Option<T> {
        let roots = self.roots.iter_mut().rev();
        roots
            .filter_map(|(_, root)| root.server.as_mut())
            .find_map(&mut act)
    }
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
}

/// Runs `act` on the contexts; a call that comes while another one runs is answered with `otherwise`.
fn with_vm<T>(otherwise: T, act: impl FnOnce(&mut Vm) -> T) -> T {
    VM.with(|vm| match vm.try_borrow_mut() {
        Ok(mut vm) => act(&mut vm),
        Err(_) => otherwise,
    })
}

fn with_root<T>(id: u32, otherwise: T, act: impl FnOnce(&mut Root) -> T) -> T {
    with_vm(None, |vm| Some(act(vm.root(id)?))).unwrap_or(otherwise)
}

fn with_stream(act: impl FnMut(&mut Server) -> Option<Flow>) -> u32 {
    let flow = with_vm(None, |vm| vm.stream(act));
    flow.unwrap_or(Flow::Continue) as u32
}

#[no_mangle]
pub extern "C" fn proxy_abi_version_0_2_1() {}

#[no_mangle]
pub extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    std::mem::ManuallyDrop::new(Vec::<u8>::with_capacity(size)).as_mut_ptr()
}

#[no_mangle]
pub extern "C" fn proxy_on_context_create(id: u32, root: u32) {
    with_vm((), |vm| {
        // A root has no parent, and comes into being when it is configured.
        if let Some(server) = vm.root(root).and_then(|root| root.server.as_mut()) {
            server.handle_begin(id);
        }
    });
}

#[no_mangle]
pub extern "C" fn proxy_on_configure(id: u32, _size: usize) -> u32 {
    with_vm(0, |vm| {
        vm.remove_root(id);
        let root = Root::configure(&Envoy, id);
        let is_good = root.is_some();
        vm.roots.extend(root.map(|root| (id, root)));
        u32::from(is_good)
    })
}

#[no_mangle]
pub extern "C" fn proxy_on_tick(id: u32) {
    with_root(id, (), |root| root.handle_tick(&Envoy));
    super::tell_rest();
}

#[no_mangle]
pub extern "C" fn proxy_on_queue_ready(id: u32, _queue: u32) {
    with_root(id, (), |root| root.handle_queue(&Envoy));
}

#[no_mangle]
pub extern "C" fn proxy_on_http_call_response(
    id: u32,
    call: u32,
    headers: usize,
    _body: usize,
    _trailers: usize,
) {
    with_root(id, (), |root| root.handle_callout(&Envoy, call, headers));
}

#[no_mangle]
pub extern "C" fn proxy_on_request_headers(id: u32, _headers: usize, _end: u32) -> u32 {
    with_stream(|server| server.handle_request(&Envoy, id))
}

#[no_mangle]
pub extern "C" fn proxy_on_response_headers(id: u32, _headers: usize, end: u32) -> u32 {
    with_stream(|server| server.handle_response(&Envoy, id, end != 0))
}

#[no_mangle]
pub extern "C" fn proxy_on_response_body(id: u32, _size: usize, end: u32) -> u32 {
    with_stream(|server| server.handle_response_body(&Envoy, id, end != 0))
}

#[no_mangle]
pub extern "C" fn proxy_on_delete(id: u32) {
    with_vm((), |vm| {
        if vm.stream(|server| server.handle_end(id)).is_none() {
            if let Some(mut root) = vm.remove_root(id) {
                root.handle_end(&Envoy);
            }
        }
    });
}
