//! How the endpoints of a pool are spoken to, and how a connection to one is made.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::socket::Socket;
use crate::{
    model::protocol::Protocol,
    tls::{Back, Unfit},
};

/// How the endpoints of a pool are spoken to.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// In which protocol.
    pub protocol: Protocol,
    /// Over TLS, if there is something here.
    pub tls: Option<Arc<Back>>,
}

/// A connection that was made.
#[derive(Debug)]
pub struct Made {
    /// Its bytes.
    pub socket: Socket,
    /// The number of the way in which it was made.
    pub way: u64,
    /// Whether HTTP/2 is to be spoken on it.
    pub is_http2: bool,
}

/// Why there is no connection to an endpoint. Nothing of a request was sent.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// The system could make none.
    #[error("it can't be connected to: {0}")]
    Unreachable(#[from] io::Error),
    /// It speaks something else than HTTP/2, which its pool is for.
    #[error("it does not speak HTTP/2")]
    NotHttp2,
    /// TLS could not be spoken on it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl Way {
    /// Whether another one is the same, but for what has changed in its files.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        is_same_tls && self.protocol == other.protocol
    }

    /// What tells connections that were made this way from those that were made in others, or by files of before.
    #[inline]
    pub fn number(&self) -> u64 {
        match &self.tls {
            None => self.protocol as u64,
            Some(back) => back.number(),
        }
    }

    /// Connects to an endpoint. `alone` asks for HTTP/1.1 and nothing else.
    pub async fn connect(&self, address: SocketAddr, alone: bool) -> Result<Made, NoConnection> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        SockRef::from(&socket).set_tcp_keepalive(&keep_alive())?;
        let Some(back) = &self.tls else {
            let is_http2 = !alone && self.protocol == Protocol::Http2;
            return Ok(Made { socket: Socket::Plain(socket), way: self.number(), is_http2 });
        };
        // In a box, as every request's task would be larger by it otherwise.
        let (stream, way) = Box::pin(back.begin(socket, address.ip(), alone)).await?;
        let is_http2 = stream.is_http2();
        Ok(Made { socket: Socket::Tls(Box::new(stream)), way, is_http2 })
    }
}

/// How peers that have vanished without a word are found out: after a minute of silence, three probes ten seconds
/// apart. Only so does a tunnel whose peer lost its power come to its end.
pub fn keep_alive() -> TcpKeepalive {
    let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(10));
    TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(3)
}
