//! A port before a server whose callers ask once per connection: what lies between the two can be put out of order at any
//! time.
//!
//! A request is what comes until its caller closes its side, as the plugin's requests to Redis do, and an answer is what
//! the server sends until it closes; whatever keeps a connection open otherwise does not get through.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of those who come through.
#[derive(Clone, Debug)]
pub enum Mode {
    /// They get their answers.
    Open,
    /// They get their answers so much later.
    Slow(Duration),
    /// They reach nobody and hear nothing, and those who came in this time never will: the network loses everything.
    Cut,
    /// Those whose request has this line in it reach the server when this is over.
    KeepsRequests(&'static str),
    /// Those whose request has this line in it reach the server, and get their answers when this is over.
    KeepsAnswers(&'static str),
    /// Whatever they ask, they get this in place of an answer.
    Says(Vec<u8>),
    /// They get bytes without an end.
    Floods,
    /// They reach the server, and both sides are closed as soon as they close theirs. A real service may get an answer out
    /// before that; here it never wins that race.
    DropsAnswers,
}

/// A port of the loopback; dropping it closes the port.
#[derive(Debug)]
pub struct Passage {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    kept: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Passage {
    /// An open one to a server.
    pub async fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mode = watch::Sender::new(Mode::Open);
        let kept = Arc::new(AtomicUsize::new(0));
        let (modes, keeps) = (mode.clone(), Arc::clone(&kept));
        let accepting = tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let mode = modes.subscribe();
                let keeps = Arc::clone(&keeps);
                // A connection that breaks is its two ends' matter.
                tokio::spawn(async move { pass(caller, server, mode, &keeps).await.ok() });
            }
        });
        Ok(Self {
            address,
            mode,
            kept,
            accepting,
        })
    }

    /// Where the port is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many are kept now and have not got where they were going, or are cut off.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::SeqCst)
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(
    mut caller: TcpStream,
    server: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    kept: &AtomicUsize,
) -> io::Result<()> {
    let mut request = Vec::new();
    caller.read_to_end(&mut request).await?;
    if request.is_empty() {
        // Somebody looked whether there is a server.
        return Ok(());
    }
    let now = mode.borrow_and_update().clone();
    let answer = match now {
        Mode::Open => ask(server, &request).await?,
        Mode::Slow(by) => {
            let answer = ask(server, &request).await?;
            tokio::time::sleep(by).await;
            answer
        }
        Mode::Cut => {
            let _kept = Kept::one_more(kept);
            let _ = mode.changed().await;
            return Ok(());
        }
        Mode::KeepsRequests(line) if has(&request, line) => {
            let kept = Kept::one_more(kept);
            let _ = mode.changed().await;
            let answer = ask(server, &request).await?;
            drop(kept);
            answer
        }
        Mode::KeepsAnswers(line) if has(&request, line) => {
            let answer = ask(server, &request).await?;
            let _kept = Kept::one_more(kept);
            let _ = mode.changed().await;
            answer
        }
        Mode::KeepsRequests(_) | Mode::KeepsAnswers(_) => ask(server, &request).await?,
        Mode::Says(answer) => answer,
        Mode::Floods => loop {
            caller.write_all(&[b'x'; 4_096]).await?;
        },
        Mode::DropsAnswers => {
            TcpStream::connect(server)
                .await?
                .write_all(&request)
                .await?;
            return Ok(());
        }
    };
    caller.write_all(&answer).await?;
    caller.shutdown().await
}

async fn ask(server: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(server).await?;
    server.write_all(request).await?;
    server.shutdown().await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Whether one of the request's lines is this one.
fn has(request: &[u8], line: &str) -> bool {
    let mut lines = request.split(|byte| *byte == b'\n');
    lines.any(|found| found.strip_suffix(b"\r").unwrap_or(found) == line.as_bytes())
}

/// Counts one until what was kept has got where it was going.
struct Kept<'a>(&'a AtomicUsize);

impl<'a> Kept<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::until;

    const SOON: Duration = Duration::from_secs(10);

    /// A server that answers what it is asked, and a passage to it.
    async fn echo() -> Passage {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = caller.split();
                    tokio::io::copy(&mut from, &mut to).await.ok()
                });
            }
        });
        Passage::to(server).await.unwrap()
    }

    #[tokio::test]
    async fn each_mode_does_what_it_says() {
        let passage = echo().await;
        let asks = || ask(passage.address(), b"hello");
        assert_eq!(asks().await.unwrap(), b"hello");
        passage.set(Mode::Slow(Duration::from_millis(1)));
        assert_eq!(asks().await.unwrap(), b"hello");
        passage.set(Mode::Says(b"other".to_vec()));
        assert_eq!(asks().await.unwrap(), b"other");
        passage.set(Mode::DropsAnswers);
        assert_eq!(asks().await.unwrap(), b"");
        for (mode, heard) in [
            (Mode::KeepsRequests("hello"), "hello"),
            (Mode::KeepsAnswers("hello"), "hello"),
            (Mode::Cut, ""),
        ] {
            passage.set(mode);
            let address = passage.address();
            let asking = tokio::spawn(async move { ask(address, b"hello").await.unwrap() });
            until(SOON, "a kept one", || passage.kept() == 1).await;
            passage.set(Mode::Open);
            assert_eq!(asking.await.unwrap(), heard.as_bytes());
            until(SOON, "none is kept", || passage.kept() == 0).await;
        }
        passage.set(Mode::KeepsAnswers("hell"));
        assert_eq!(asks().await.unwrap(), b"hello");
        passage.set(Mode::Floods);
        let mut caller = TcpStream::connect(passage.address()).await.unwrap();
        caller.write_all(b"hello").await.unwrap();
        caller.shutdown().await.unwrap();
        let mut flood = vec![0; 1 << 20];
        caller.read_exact(&mut flood).await.unwrap();
    }
}
