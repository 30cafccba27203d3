//! Connections of the admin API over TLS: their handshakes, and who is at the other end.
//!
//! Invariant: a handshake holds nobody up but its own connection, and has a limit in time; where certificates are required, no
//! byte of a call is read from who has shown none that counts.

use std::{future::poll_fn, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::author::Peer;
use crate::tls::{self, Front, Handshake};

/// A connection, in the clear or not.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Makes a connection of what was accepted; none if its handshake fails.
pub(super) async fn arrive(
    stream: TcpStream,
    address: SocketAddr,
    front: Option<Arc<Front>>,
) -> Option<(Box<dyn Duplex>, Peer)> {
    let Some(front) = front else { return Some((Box::new(stream), Peer::tcp(address))) };
    let shaken = timeout(front.settings.handshake_timeout, shake(stream, &front)).await;
    match shaken {
        Ok(Some(stream)) => {
            let peer = Peer::tls(address, stream.identity().map(|identity| &**identity));
            Some((Box::new(stream), peer))
        }
        Ok(None) => None,
        Err(_) => {
            tracing::debug!(peer = %address, "a handshake with the admin API took too long");
            None
        }
    }
}

async fn shake(stream: TcpStream, front: &Front) -> Option<tls::Stream> {
    let address = stream.peer_addr().ok();
    let failed =
        |ill: tls::Ill| tracing::debug!(peer = ?address, ?ill, "a handshake with the admin API failed");
    let mut handshake = Handshake::begin(stream, front).ok()?;
    while !handshake.is_done() {
        poll_fn(|cx| handshake.poll_receive(cx)).await.map_err(failed).ok()?;
        handshake.process().map_err(failed).ok()?;
        poll_fn(|cx| handshake.poll_send(cx)).await.map_err(failed).ok()?;
    }
    Some(handshake.into_stream())
}
