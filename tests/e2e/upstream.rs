//! An upstream for business calls in place of the fake WeChat, which answers byte for byte what a test says: for answers
//! that no proper server gives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is sent for a request with this head.
type Answers = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// Each of its connections serves one request and is closed behind the answer.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    serving: JoinHandle<()>,
}

/// A request as it came; what is no UTF-8 is replaced.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    /// With its chunks and trailers, if it came in such.
    pub(crate) body: String,
}

impl Upstream {
    pub(crate) async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer): (_, Arc<Answers>) = (Arc::clone(&requests), Arc::new(answer));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move {
                    // A connection that breaks is what some tests want.
                    let _ = serve(stream, &seen, answer.as_ref()).await;
                });
            }
        });
        Upstream {
            address,
            requests,
            serving,
        }
    }

    /// The last request.
    pub(crate) fn last(&self) -> Option<Request> {
        self.requests.lock().unwrap().last().cloned()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Request {
    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &Answers,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let head = read_until(&mut stream, &mut bytes, b"\r\n\r\n").await?;
    let lower = head.to_ascii_lowercase();
    if lower.contains("\r\nexpect: 100-continue") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let length = lower.split_once("\r\ncontent-length: ");
    let body = if lower.contains("\r\ntransfer-encoding: chunked") {
        let mut body = read_until(&mut stream, &mut bytes, b"0\r\n").await?;
        // Trailers, or the empty line alone.
        while !body.ends_with("\r\n\r\n") {
            body += &read_until(&mut stream, &mut bytes, b"\r\n").await?;
        }
        body
    } else if let Some((_, rest)) = length {
        let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
        while bytes.len() < length {
            read(&mut stream, &mut bytes).await?;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    } else {
        String::new()
    };
    let sent = answer(&head);
    seen.lock().unwrap().push(Request { head, body });
    stream.write_all(&sent).await?;
    stream.shutdown().await
}

/// Takes everything up to and with `end`.
async fn read_until(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    end: &[u8],
) -> std::io::Result<String> {
    loop {
        if let Some(at) = bytes.windows(end.len()).position(|part| part == end) {
            let taken: Vec<u8> = bytes.drain(..at + end.len()).collect();
            return Ok(String::from_utf8_lossy(&taken).into_owned());
        }
        read(stream, bytes).await?;
    }
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    match stream.read_buf(bytes).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
