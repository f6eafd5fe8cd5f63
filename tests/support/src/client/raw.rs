//! One connection driven by hand: requests byte by byte, left in the middle, hung up or reset.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Answer;

/// The most headers of an answer.
const HEADERS: usize = 64;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection driven by hand.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Sends a request's head as given; nothing is added, so give `host` and the body's length yourself.
    pub async fn send_head(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes()).await
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends one chunk of a chunked body.
    pub async fn send_chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk).await
    }

    /// Ends a chunked body.
    pub async fn finish_chunks(&mut self) -> io::Result<()> {
        self.send(b"0\r\n\r\n").await
    }

    /// Reads an interim answer (100 Continue and its like) and says which; an error where the final one comes.
    pub async fn read_interim(&mut self) -> io::Result<u16> {
        let interim = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some((length, status, _)) = parse_head(&self.unread)? {
                    if status >= 200 {
                        return Err(invalid(status));
                    }
                    self.unread.drain(..length);
                    return Ok(status);
                }
                self.read_more().await?;
            }
        });
        interim
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads the next answer whole; an error where the connection ends before, or after 30 s.
    pub async fn read_answer(&mut self) -> io::Result<Answer> {
        let started = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, async {
            let (status, headers) = self.read_head().await?;
            let headers_after = started.elapsed();
            let body = self.read_body(&headers).await?;
            Ok(Answer {
                status,
                headers,
                body,
                headers_after,
                elapsed: started.elapsed(),
            })
        });
        answer
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads everything until the other side closes; an error where it resets.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.unread);
        self.stream.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    /// Closes the connection as a caller does that lost its patience.
    pub async fn hang_up(mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Closes the connection by a reset (RST).
    pub fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    async fn read_head(&mut self) -> io::Result<(u16, HeaderMap)> {
        loop {
            if let Some((length, status, headers)) = parse_head(&self.unread)? {
                self.unread.drain(..length);
                // 100 Continue and its like are not the answer.
                if status >= 200 {
                    return Ok((status, headers));
                }
                continue;
            }
            self.read_more().await?;
        }
    }

    async fn read_body(&mut self, headers: &HeaderMap) -> io::Result<Bytes> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks().await;
        }
        match text("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => self.take(length).await,
            Some(Err(error)) => Err(invalid(error)),
            None => self.read_to_end().await.map(Bytes::from),
        }
    }

    async fn read_chunks(&mut self) -> io::Result<Bytes> {
        let mut body = Vec::new();
        loop {
            let size = loop {
                if let httparse::Status::Complete((head, size)) =
                    httparse::parse_chunk_size(&self.unread)
                        .map_err(|_| invalid("a bad chunk size"))?
                {
                    self.unread.drain(..head);
                    break size as usize;
                }
                self.read_more().await?;
            };
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Ok(body.into());
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Bytes> {
        while self.unread.len() < length {
            self.read_more().await?;
        }
        Ok(self.unread.drain(..length).collect::<Vec<_>>().into())
    }

    async fn read_more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// The head's length, status and headers, once it is there whole.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, u16, HeaderMap)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(invalid)? else {
        return Ok(None);
    };
    let mut map = HeaderMap::new();
    for header in response.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(invalid)?;
        map.append(
            name,
            HeaderValue::from_bytes(header.value).map_err(invalid)?,
        );
    }
    Ok(Some((length, response.code.unwrap_or_default(), map)))
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
