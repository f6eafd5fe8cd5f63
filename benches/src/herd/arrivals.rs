//! An upstream that lets requests come and reads them afterwards, with the kernel's stamp of their arrival.

use std::io::{IoSliceMut, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{ensure, Context as _, Result};
use nix::sys::socket::{
    listen, recvmsg, setsockopt, sockopt::ReceiveTimestampns, Backlog, ControlMessageOwned,
    MsgFlags,
};
use nix::sys::time::TimeSpec;

/// The most that is read of a request, in bytes: all of one of the benchmark's own.
const READ: usize = 8 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;
/// What every request is answered.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json; encoding=utf-8\r\n\
    content-length: 27\r\n\r\n{\"errcode\":0,\"errmsg\":\"ok\"}";

/// The upstream. It lives as long as the process: a thread of it waits for connections.
#[derive(Debug)]
pub struct Arrivals {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Arrivals {
    /// Listens on a free port of the loopback.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // The standard library's backlog of 128 is too short for a herd: what finds no place is tried again a second later.
        listen(&listener, Backlog::new(BACKLOG)?)?;
        let address = listener.local_addr()?;
        let connections = Arc::default();
        let accepted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A failure shows as an error or as a hang that ends when requests are read.
                let _ = setsockopt(&stream, ReceiveTimestampns, &true);
                let _ = stream.set_nonblocking(true);
                lock(&accepted).push(stream);
            }
        });
        Ok(Self {
            address,
            connections,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        lock(&self.connections).len()
    }

    /// On how many connections something has come; nothing is read.
    pub fn came(&self) -> usize {
        let connections = lock(&self.connections);
        let came = |stream: &&TcpStream| stream.peek(&mut [0]).is_ok();
        connections.iter().filter(came).count()
    }

    /// Reads the request on every connection, when it came and its head, and answers it.
    pub fn read_and_answer(&self) -> Result<Vec<(SystemTime, String)>> {
        let mut connections = lock(&self.connections);
        connections
            .iter_mut()
            .map(|stream| {
                let request = read(stream)?;
                stream.write_all(ANSWER)?;
                Ok(request)
            })
            .collect()
    }
}

fn read(stream: &TcpStream) -> Result<(SystemTime, String)> {
    let mut buffer = vec![0; READ];
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )
    .context("a request did not come")?;
    let stamp = message
        .cmsgs()?
        .find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
            _ => None,
        })
        .context("the kernel stamps no arrivals")?;
    let length = message.bytes;
    let head = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
    ensure!(head.contains("\r\n\r\n"), "half a request: {head}");
    Ok((SystemTime::UNIX_EPOCH + stamp, head))
}

fn lock(connections: &Mutex<Vec<TcpStream>>) -> MutexGuard<'_, Vec<TcpStream>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}
