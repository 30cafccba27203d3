//! A client's connection as bytes: plain, or over TLS.
//!
//! Invariant: plain HTTP pays a branch for TLS, and nothing else.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::tls::{self, Certificates};

/// A client's connection as bytes.
#[derive(Debug)]
pub(super) enum ClientStream {
    /// As they are.
    Plain(TcpStream),
    /// In records. In a box, as it is much larger.
    Tls(Box<tls::Stream>),
}

impl ClientStream {
    /// What the client asked for in its handshake, if TLS is spoken and it named a host: that name in lower case, and the
    /// certificates of which it was shown one.
    #[inline]
    pub(super) fn asked(&self) -> Option<(&str, &Certificates)> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some((stream.server_name()?, stream.certificates())),
        }
    }

    /// The scheme that the client used to come here.
    #[inline]
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain(_) => "http",
            Self::Tls(_) => "https",
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.socket(),
        }
    }

    /// Waits for bytes or an end on the socket, and takes nothing. What is there over TLS is records.
    pub(super) fn poll_peek(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_peek(cx, buffer),
            Self::Tls(stream) => stream.socket_mut().poll_peek(cx, buffer),
        }
    }

    /// Reads what nobody wants.
    pub(super) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => stream.poll_discard(cx, buffer),
        }
    }

    /// Whether nothing that was taken to be sent waits here.
    #[inline]
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(stream) => stream.is_flushed(),
        }
    }

    /// The error that the socket has met, if any.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket().take_error()
    }

    /// Tells the client that it was sent all that it is to get; the connection is closed next.
    #[inline]
    pub(super) fn end_now(&mut self) {
        if let Self::Tls(stream) = self {
            stream.end_now();
        }
    }

    /// Has the close be a reset.
    pub(super) fn reset_at_close(&self) {
        // If this fails, there is no client any more to be deceived.
        let _ = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }
}

impl AsyncRead for ClientStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
