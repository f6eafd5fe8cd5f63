//! An upstream that notes when each request arrives, and answers when all of them have.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;
/// The most that a request's head may have, in bytes.
const HEAD_LIMIT: usize = 16 * 1024;
/// What every request is answered.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json; encoding=utf-8\r\n\
    content-length: 27\r\n\r\n{\"errcode\":0,\"errmsg\":\"ok\"}";

/// The upstream; it runs until it is dropped.
#[derive(Debug)]
pub struct Arrivals {
    address: SocketAddr,
    calls: Calls,
    server: JoinHandle<()>,
}

type Calls = Arc<Mutex<Vec<(Instant, String)>>>;

impl Arrivals {
    /// Starts one that answers once `expected` requests have come.
    pub async fn start(expected: usize) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let calls = Calls::default();
        let (all_here, wait) = watch::channel(false);
        let all_here = Arc::new(all_here);
        let noted = Arc::clone(&calls);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (noted, all_here) = (Arc::clone(&noted), Arc::clone(&all_here));
                let wait = wait.clone();
                // A connection that breaks shows as a request that never comes.
                tokio::spawn(async move {
                    let _ = serve(stream, &noted, expected, &all_here, wait).await;
                });
            }
        });
        Ok(Self {
            address,
            calls,
            server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have come.
    pub fn arrived(&self) -> usize {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Every request's arrival and target, in the order of their arrival.
    pub fn into_calls(self) -> Vec<(Instant, String)> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    calls: &Calls,
    expected: usize,
    all_here: &watch::Sender<bool>,
    mut wait: watch::Receiver<bool>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(2_048);
    loop {
        let read = stream.read_buf(&mut head).await?;
        // Before anything else: this is the measurement.
        let at = Instant::now();
        anyhow::ensure!(read > 0 && head.len() < HEAD_LIMIT, "no request");
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if request.parse(&head)?.is_partial() {
            continue;
        }
        let target = request.path.context("no target")?.to_owned();
        let here = {
            let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push((at, target));
            calls.len()
        };
        if here == expected {
            all_here.send_replace(true);
        }
        wait.wait_for(|all| *all).await?;
        stream.write_all(ANSWER).await?;
        head.clear();
    }
}
