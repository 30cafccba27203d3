//! A connection over TLS to an endpoint: its handshake, and then its bytes.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{front::HTTP2, records::Records};

/// A connection over TLS to an endpoint.
#[derive(Debug)]
pub struct EndpointStream(Records<ClientConnection>);

/// Why no connection over TLS came of one to an endpoint. Nothing was sent but the handshake.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The endpoint closed or reset it.
    #[error("it ends the connection within the handshake of TLS")]
    Gone,
    /// Its certificate does not count.
    #[error("its certificate does not count: {0}")]
    Certificate(String),
    /// It has ended the handshake by an alert: it asks for a certificate of ours, say.
    #[error("it refuses the handshake of TLS: {0}")]
    Refused(String),
    /// It does not speak the protocol that the pool is for.
    #[error("it does not agree to HTTP/2 in the handshake of TLS (ALPN)")]
    NoProtocol,
    /// It knows no version, cipher suite or signature of ours, or speaks no TLS.
    #[error("no TLS can be spoken with it: {0}")]
    Malformed(String),
    /// Our own files are bad.
    #[error("the files of the pool's TLS can't be used")]
    Ours,
}

impl From<rustls::Error> for Unfit {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(why) => Self::Certificate(why.to_string()),
            rustls::Error::NoCertificatesPresented => Self::Certificate("it shows none".to_owned()),
            rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)
            | rustls::Error::NoApplicationProtocol => Self::NoProtocol,
            rustls::Error::AlertReceived(alert) => Self::Refused(format!("{alert:?}")),
            error => Self::Malformed(error.to_string()),
        }
    }
}

/// Speaks TLS with an endpoint that is to prove that it is the one of this name.
pub(super) async fn handshake(
    socket: TcpStream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<EndpointStream, Unfit> {
    let session = ClientConnection::new(config, name)?;
    let mut records = Records::new(socket, session);
    poll_fn(|cx| {
        loop {
            // What is left of it is sent by whoever writes next.
            let drained = records.poll_drain(cx).map_err(|_| Unfit::Gone)?;
            if !records.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(drained);
            match ready!(records.poll_receive(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Unfit::Gone)),
                Ok(_) => {}
            }
            if let Err(error) = records.session.process_new_packets() {
                // The endpoint is told by an alert, as far as the socket takes it at once.
                records.send_now();
                return Poll::Ready(Err(error.into()));
            }
        }
    })
    .await?;
    Ok(EndpointStream(records))
}

impl EndpointStream {
    /// Whether HTTP/2 was agreed on (ALPN, RFC 7301).
    pub fn is_http2(&self) -> bool {
        self.0.session.alpn_protocol() == Some(HTTP2)
    }

    /// Whether neither bytes nor an end have come behind what was read. What the protocol itself says meanwhile, such as
    /// tickets for later connections, is taken in.
    pub fn is_quiet(&mut self) -> bool {
        loop {
            let Records { socket, session, .. } = &mut self.0;
            match session.read_tls(&mut TryRead(socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
            match session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                _ => return false,
            }
        }
    }
}

/// A socket that is read now or not at all.
struct TryRead<'s>(&'s TcpStream);

impl io::Read for TryRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Drop for EndpointStream {
    /// An endpoint is told that nothing more comes, as far as the socket takes it at once.
    fn drop(&mut self) {
        self.0.end_now();
    }
}

impl AsyncRead for EndpointStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for EndpointStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
