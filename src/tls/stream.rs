//! A client's connection over TLS: its handshake, and then its bytes.
//!
//! Invariant: who the client is was found out before its first byte is read.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    certificates::Certificates,
    clients::Clients,
    front::{Front, HTTP2},
    identity::Identity,
    records::Records,
};

/// A handshake that has begun.
#[derive(Debug)]
pub struct Handshake {
    stream: Stream,
    clients: Option<Arc<Clients>>,
}

/// A connection over TLS.
#[derive(Debug)]
pub struct Stream {
    records: Records<ServerConnection>,
    certificates: Arc<Certificates>,
    /// Whether the client was asked for a certificate, and who it is by that.
    is_asked: bool,
    identity: Option<Arc<Identity>>,
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ill {
    /// The client has gone.
    Gone,
    /// The client ended it with an alert: it does not trust the certificate, say.
    RefusedByClient,
    /// The client knows no version, cipher suite or signature that is spoken here.
    Incompatible,
    /// The client shows no certificate, and is to.
    NoCertificate,
    /// The client's certificate does not count: it is another authority's, out of date or revoked.
    BadCertificate,
    /// The client asked for protocols that are not spoken here (ALPN).
    NoProtocol,
    /// What came is no TLS, or wrong.
    Malformed,
}

/// What came of a handshake, for those who tell of it.
#[derive(Debug)]
pub struct Session {
    /// The version that is spoken.
    pub version: &'static str,
    /// The cipher suite, by its name in the registry of IANA.
    pub cipher: &'static str,
    /// The name that the client asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// Whether the client was asked for a certificate.
    pub is_asked: bool,
    /// Who the client is by the certificate that it has shown.
    pub identity: Option<Arc<Identity>>,
}

impl Handshake {
    /// Begins one with the certificates in force.
    pub fn begin(socket: TcpStream, front: &Front) -> Result<Self, rustls::Error> {
        let in_force = front.in_force();
        let session = ServerConnection::new(Arc::clone(&in_force.config))?;
        let certificates = Arc::clone(&in_force.certificates);
        let clients = in_force.clients.clone();
        let is_asked = clients.is_some();
        let stream =
            Stream { records: Records::new(socket, session), certificates, is_asked, identity: None };
        Ok(Self { stream, clients })
    }

    /// Waits for bytes from the client, without looking into them.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ill>> {
        match ready!(self.stream.records.poll_receive(cx)) {
            Ok(0) | Err(_) => Poll::Ready(Err(Ill::Gone)),
            Ok(_) => Poll::Ready(Ok(())),
        }
    }

    /// Does what the bytes that have come ask for: this is where a handshake costs.
    pub fn process(&mut self) -> Result<(), Ill> {
        let judged = self.stream.records.session.process_new_packets().and_then(|_| match self.is_done() {
            true => self.identify(),
            false => Ok(()),
        });
        judged.map_err(|error| {
            tracing::debug!(%error, "a handshake failed");
            // The client is told by an alert, as far as the socket takes it at once.
            self.stream.records.send_now();
            Ill::of(&error)
        })
    }

    /// Finds out who the client is. A session that is resumed says so without a proof that it still counts.
    fn identify(&mut self) -> Result<(), rustls::Error> {
        let Some(clients) = &self.clients else { return Ok(()) };
        let chain = self.stream.records.session.peer_certificates();
        if self.stream.records.session.handshake_kind() == Some(HandshakeKind::Resumed)
            && let Err(error) = clients.judge(chain)
        {
            self.stream.records.announce_end();
            return Err(error);
        }
        self.stream.identity = chain.and_then(<[_]>::first).map(|own| Arc::new(Identity::of(own)));
        Ok(())
    }

    /// Sends what waits.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ill>> {
        self.stream.records.poll_drain(cx).map_err(|_| Ill::Gone)
    }

    /// Whether all of it has happened.
    pub fn is_done(&self) -> bool {
        !self.stream.records.session.is_handshaking()
    }

    /// The connection that came of it.
    pub fn into_stream(self) -> Stream {
        self.stream
    }
}

impl Ill {
    fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(_) => Self::RefusedByClient,
            rustls::Error::NoApplicationProtocol => Self::NoProtocol,
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(_) => Self::BadCertificate,
            rustls::Error::PeerIncompatible(_) => Self::Incompatible,
            _ => Self::Malformed,
        }
    }
}

impl Stream {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.records.socket
    }

    /// The socket below, for who looks at it and takes nothing.
    pub fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.records.socket
    }

    /// The name that the client asked for (RFC 6066 3), in lower case.
    pub fn server_name(&self) -> Option<&str> {
        self.records.session.server_name()
    }

    /// What was agreed on, and who the client is.
    pub fn session(&self) -> Arc<Session> {
        Arc::new(Session {
            version: match self.records.session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: cipher(&self.records.session),
            server_name: self.server_name().map(Box::from),
            is_asked: self.is_asked,
            identity: self.identity.clone(),
        })
    }

    /// Who the client is by the certificate that it has shown.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// Whether HTTP/2 was agreed on (ALPN, RFC 7301).
    pub fn is_http2(&self) -> bool {
        self.records.session.alpn_protocol() == Some(HTTP2)
    }

    /// The certificates of which the client was shown one.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Whether nothing that was taken to be sent waits.
    pub fn is_flushed(&self) -> bool {
        !self.records.session.wants_write()
    }

    /// Announces our end, as far as the socket takes it at once: to a client that was sent all that it is to get.
    pub fn end_now(&mut self) {
        self.records.end_now();
    }

    /// Reads from the socket and drops what comes, unread: nobody wants it any more.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.records.poll_discard(cx, buffer)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().records).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().records).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().records).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().records).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().records).poll_shutdown(cx)
    }
}

fn cipher(session: &ServerConnection) -> &'static str {
    match session.negotiated_cipher_suite().map(|suite| suite.suite()) {
        // rustls calls these by names of its own.
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite.and_then(|suite| suite.as_str()).unwrap_or_default(),
    }
}
