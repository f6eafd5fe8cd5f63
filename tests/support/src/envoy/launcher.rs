//! Starts programs from a thread that never ends.
//!
//! Envoy asks the kernel for a SIGTERM when its parent dies (`PR_SET_PDEATHSIG`, part of its hot restart), and to the
//! kernel the parent is the thread that started it, not the process. Threads of a runtime do end: tokio's worker that has
//! blocked (`block_in_place`) is replaced and goes away after 10 s of idleness, and with it every Envoy that it started.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What to start, and where to say what came of it.
type Order = (Command, Sender<io::Result<Child>>);

static LAUNCHER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();

/// As [`Command::spawn`].
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    let (done, outcome) = channel();
    let launcher = LAUNCHER.get_or_init(|| Mutex::new(start()));
    let sent = launcher
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, done));
    sent.map_err(|_| gone())?;
    outcome.recv().map_err(|_| gone())?
}

fn start() -> Sender<Order> {
    let (orders, inbox) = channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, done) in inbox {
            // Whoever ordered it waits for this, or its process is going down.
            let _ = done.send(command.spawn());
        }
    });
    orders
}

fn gone() -> io::Error {
    io::Error::other("the launcher's thread is gone")
}
