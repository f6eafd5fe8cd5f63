//! The callbacks that Envoy calls, and the contexts of this virtual machine to which they go.
//!
//! Envoy calls every callback that it finds exported, so there is none here that does nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::Envoy;
use crate::host::injector::Injector;
use crate::host::root::Root;
use crate::host::Flow;

/// The contexts of this virtual machine.
#[derive(Default)]
struct Vm {
    /// Those that have a configuration; one or two.
    roots: Vec<(u32, Root)>,
    /// Which root a stream belongs to.
    streams: BTreeMap<u32, u32>,
}

impl Vm {
    fn root(&mut self, id: u32) -> Option<&mut Root> {
        let (_, root) = self.roots.iter_mut().find(|(known, _)| *known == id)?;
        Some(root)
    }

    fn remove_root(&mut self, id: u32) -> Option<Root> {
        let place = self.roots.iter().position(|(known, _)| *known == id)?;
        Some(self.roots.swap_remove(place).1)
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

fn with_stream(id: u32, act: impl FnOnce(&mut Injector) -> Flow) -> u32 {
    let flow = with_vm(None, |vm| {
        let root = *vm.streams.get(&id)?;
        Some(act(vm.root(root)?.injector.as_mut()?))
    });
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
        // A root comes into being when it is configured.
        if root != 0 {
            vm.streams.insert(id, root);
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
    with_stream(id, |injector| injector.handle_request(&Envoy, id))
}

#[no_mangle]
pub extern "C" fn proxy_on_response_headers(id: u32, _headers: usize, end: u32) -> u32 {
    with_stream(id, |injector| {
        injector.handle_response(&Envoy, id, end != 0)
    })
}

#[no_mangle]
pub extern "C" fn proxy_on_response_body(id: u32, _size: usize, end: u32) -> u32 {
    with_stream(id, |injector| {
        injector.handle_response_body(&Envoy, id, end != 0)
    })
}

#[no_mangle]
pub extern "C" fn proxy_on_delete(id: u32) {
    with_vm((), |vm| {
        if let Some(root) = vm.streams.remove(&id) {
            if let Some(injector) = vm.root(root).and_then(|root| root.injector.as_mut()) {
                injector.handle_end(id);
            }
        } else if let Some(mut root) = vm.remove_root(id) {
            root.handle_end(&Envoy);
        }
    });
}
