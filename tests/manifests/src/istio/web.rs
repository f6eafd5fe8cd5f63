//! A web server with one file, where Istio's agent fetches the .wasm of a WasmPlugin.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Ends with its drop.
pub(super) struct Web {
    fetched: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Web {
    /// Serves `content` at `path`.
    pub(super) async fn start(
        listen: SocketAddr,
        path: &'static str,
        content: Vec<u8>,
    ) -> Result<Web> {
        let listener = TcpListener::bind(listen).await?;
        let fetched = Arc::new(AtomicUsize::new(0));
        let (content, counter) = (Arc::new(content), Arc::clone(&fetched));
        let accepting = tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let (content, counter) = (Arc::clone(&content), Arc::clone(&counter));
                tokio::spawn(async move {
                    // A caller that goes away asks again.
                    if let Ok(true) = answer(caller, path, &content).await {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Web { fetched, accepting })
    }

    /// How often the file was fetched.
    pub(super) fn fetched(&self) -> usize {
        self.fetched.load(Ordering::Relaxed)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Answers one request; whether it got the file.
async fn answer(caller: TcpStream, path: &str, content: &[u8]) -> std::io::Result<bool> {
    let mut caller = BufReader::new(caller);
    let mut first = String::new();
    caller.read_line(&mut first).await?;
    let mut line = String::new();
    while caller.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let is_known = first.starts_with(&format!("GET {path} "));
    let (status, body) = match is_known {
        true => ("200 OK", content),
        false => ("404 Not Found", &[][..]),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/wasm\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    caller.write_all(head.as_bytes()).await?;
    caller.write_all(body).await?;
    caller.shutdown().await?;
    Ok(is_known)
}
