//! A connection over TLS: its handshake, and then its bytes.
//!
//! Invariant: bytes that were taken to be sent are on their way to the socket before more are taken, so a client that does
//! not read holds one write's worth of records. The end of the connection without a close_notify is an error, never the end
//! of a message (RFC 8446 6.1).

use std::{
    io::{self, IoSlice, Read as _, Write as _},
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
    socket: TcpStream,
    session: ServerConnection,
    certificates: Arc<Certificates>,
    /// Whether the client was asked for a certificate, and who it is by that.
    is_asked: bool,
    identity: Option<Arc<Identity>>,
    /// Whether our end was announced.
    is_ended: bool,
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
        let stream = Stream { socket, session, certificates, is_asked, identity: None, is_ended: false };
        Ok(Self { stream, clients })
    }

    /// Waits for bytes from the client, without looking into them.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ill>> {
        match ready!(self.stream.poll_receive(cx)) {
            Ok(0) | Err(_) => Poll::Ready(Err(Ill::Gone)),
            Ok(_) => Poll::Ready(Ok(())),
        }
    }

    /// Does what the bytes that have come ask for: this is where a handshake costs.
    pub fn process(&mut self) -> Result<(), Ill> {
        let judged = self.stream.session.process_new_packets().and_then(|_| match self.is_done() {
            true => self.identify(),
            false => Ok(()),
        });
        judged.map_err(|error| {
            tracing::debug!(%error, "a handshake failed");
            // The client is told by an alert, as far as the socket takes it at once.
            self.stream.send_now();
            Ill::of(&error)
        })
    }

    /// Finds out who the client is. A session that is resumed says so without a proof that it still counts.
    fn identify(&mut self) -> Result<(), rustls::Error> {
        let Some(clients) = &self.clients else { return Ok(()) };
        let chain = self.stream.session.peer_certificates();
        if self.stream.session.handshake_kind() == Some(HandshakeKind::Resumed)
            && let Err(error) = clients.judge(chain)
        {
            self.stream.announce_end();
            return Err(error);
        }
        self.stream.identity = chain.and_then(<[_]>::first).map(|own| Arc::new(Identity::of(own)));
        Ok(())
    }

    /// Sends what waits.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ill>> {
        self.stream.poll_drain(cx).map_err(|_| Ill::Gone)
    }

    /// Whether all of it has happened.
    pub fn is_done(&self) -> bool {
        !self.stream.session.is_handshaking()
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
        &self.socket
    }

    /// The socket below, for who looks at it and takes nothing.
    pub fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// The name that the client asked for (RFC 6066 3), in lower case.
    pub fn server_name(&self) -> Option<&str> {
        self.session.server_name()
    }

    /// What was agreed on, and who the client is.
    pub fn session(&self) -> Arc<Session> {
        Arc::new(Session {
            version: match self.session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: cipher(&self.session),
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
        self.session.alpn_protocol() == Some(HTTP2)
    }

    /// The certificates of which the client was shown one.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Whether nothing that was taken to be sent waits.
    pub fn is_flushed(&self) -> bool {
        !self.session.wants_write()
    }

    /// Announces our end, as far as the socket takes it at once: to a client that was sent all that it is to get.
    pub fn end_now(&mut self) {
        self.announce_end();
        self.send_now();
    }

    /// Reads from the socket and drops what comes, unread: nobody wants it any more.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }

    fn announce_end(&mut self) {
        if !std::mem::replace(&mut self.is_ended, true) {
            self.session.send_close_notify();
        }
    }

    /// Sends what waits, as far as the socket takes it at once.
    fn send_now(&mut self) {
        let mut socket = Now(&self.socket);
        // Who can't be told has gone.
        while self.session.wants_write() && self.session.write_tls(&mut socket).is_ok_and(|sent| sent > 0) {}
    }

    /// Reads records from the socket; 0 is its end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut socket = Socket { stream: &mut self.socket, cx };
        as_poll(self.session.read_tls(&mut socket))
    }

    /// Sends what waits. Ready when nothing does.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut socket = Socket { stream: &mut self.socket, cx };
            if ready!(as_poll(self.session.write_tls(&mut socket)))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Has `take` give bytes to the session, once what it had before is on its way.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut ServerConnection) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let taken = take(&mut self.session)?;
        // What the socket does not take yet is sent by the flush that everyone who writes waits for.
        if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What the protocol itself has to say, such as the answer to an update of keys, goes out beside the reading.
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            match this.session.reader().read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(this.poll_receive(cx))?;
            if let Err(error) = this.session.process_new_packets() {
                this.send_now();
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_take(cx, |session| session.writer().write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_take(cx, |session| session.writer().write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_drain(cx)
    }

    /// Announces our end, and ends the socket's sending side behind it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.announce_end();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
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

/// A socket as the session reads and writes it, within one poll.
struct Socket<'s, 'c, 'w> {
    stream: &'s mut TcpStream,
    cx: &'c mut Context<'w>,
}

impl io::Read for Socket<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        as_result(Pin::new(&mut *self.stream).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl io::Write for Socket<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        as_result(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        as_result(Pin::new(&mut *self.stream).poll_write_vectored(self.cx, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that is written to now or not at all.
struct Now<'s>(&'s TcpStream);

impl io::Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn as_result<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn as_poll<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}
