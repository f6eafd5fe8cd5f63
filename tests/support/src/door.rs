//! A port that refuses connections until it is opened, and then passes them on.
//!
//! The port is bound from the start, so nobody else can get it in between, and a bound port that does not listen
//! refuses: no guess at a port that happens to be free.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// A port of the loopback; dropping it closes the port.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    socket: Option<TcpSocket>,
    passing: Option<JoinHandle<()>>,
}

impl Door {
    /// A port that refuses connections.
    pub fn closed() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self {
            address: socket.local_addr()?,
            socket: Some(socket),
            passing: None,
        })
    }

    /// Accepts connections from now on and passes each on to `to`; a second call changes nothing.
    pub fn open(&mut self, to: SocketAddr) -> io::Result<()> {
        let Some(socket) = self.socket.take() else {
            return Ok(());
        };
        let listener = socket.listen(BACKLOG)?;
        self.passing = Some(tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        // A connection that breaks is its two ends' matter.
                        let _ = copy_bidirectional(&mut caller, &mut server).await;
                    }
                });
            }
        }));
        Ok(())
    }

    /// Where the port is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(passing) = &self.passing {
            passing.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::wechat::{FakeWeChat, Settings};

    #[tokio::test]
    async fn a_closed_door_refuses_and_an_open_one_passes_on() {
        let fake = FakeWeChat::start(Settings::default()).await;
        let mut door = Door::closed().unwrap();
        let url = format!("http://{}/cgi-bin/echo", door.address());
        let refused = TcpStream::connect(door.address()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        door.open(fake.address()).unwrap();
        let answer = Client::new().get(&url).await.unwrap();
        assert_eq!(answer.errcode(), Some(41001));
    }
}
