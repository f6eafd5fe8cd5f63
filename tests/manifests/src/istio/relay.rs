//! Passes connections on, also from one network namespace into another: how calls of the cases begin in a pod.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, Context, Result};
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Ends with its drop.
pub(super) struct Relay(
    Option<oneshot::Sender<()>>,
    Option<std::thread::JoinHandle<()>>,
);

impl Relay {
    /// Listens in the network namespace of this file, or in the program's own, and connects from there.
    pub(super) async fn start(
        namespace: Option<&Path>,
        listen: SocketAddr,
        to: SocketAddr,
    ) -> Result<Relay> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let namespace = namespace.map(Path::to_owned);
        let thread = std::thread::spawn(move || {
            let listening = start(namespace, listen);
            match listening {
                Ok((runtime, listener)) => {
                    let _ = ready.send(Ok(()));
                    runtime.block_on(async {
                        tokio::select! {
                            () = pass_on(listener, to) => {}
                            _ = stopped => {}
                        }
                    });
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        });
        is_ready
            .await
            .map_err(|_| anyhow!("its thread is gone"))?
            .with_context(|| format!("a relay on {listen}"))?;
        Ok(Relay(Some(stop), Some(thread)))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.0.take());
        // The port is free again when this returns.
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

fn start(
    namespace: Option<PathBuf>,
    listen: SocketAddr,
) -> Result<(tokio::runtime::Runtime, TcpListener)> {
    if let Some(namespace) = namespace {
        let file = File::open(&namespace)?;
        // Of this thread alone, and of what it connects and listens on.
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind(listen))?;
    Ok((runtime, listener))
}

async fn pass_on(listener: TcpListener, to: SocketAddr) {
    loop {
        let Ok((mut caller, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                // A connection that breaks is its two ends' matter.
                let _ = copy_bidirectional(&mut caller, &mut server).await;
            }
        });
    }
}
