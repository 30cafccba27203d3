//! A client's connection as bytes: plain, over TLS, or a stream of one of HTTP/2.
//!
//! Invariant: plain HTTP pays a branch for the others, and nothing else.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::http2;
use crate::tls::{self, Certificates};

/// A client's connection as bytes.
#[derive(Debug)]
pub(super) enum ClientStream {
    /// As they are.
    Plain(TcpStream),
    /// In records. In a box, as it is much larger.
    Tls(Box<tls::Stream>),
    /// A stream of a connection of HTTP/2, which has one request. In a box, too.
    Http2(Box<http2::Stream>),
}

impl ClientStream {
    /// What the client asked for in its handshake, if TLS is spoken and it named a host: that name in lower case, and the
    /// certificates of which it was shown one.
    #[inline]
    pub(super) fn asked(&self) -> Option<(&str, &Arc<Certificates>)> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some((stream.server_name()?, stream.certificates())),
            Self::Http2(stream) => stream.asked(),
        }
    }

    /// What was agreed on in the client's handshake, and who it is. A stream of HTTP/2 has it from its connection's.
    pub(super) fn session(&self) -> Option<Arc<tls::Session>> {
        match self {
            Self::Tls(stream) => Some(stream.session()),
            Self::Plain(_) | Self::Http2(_) => None,
        }
    }

    /// Whether the client has asked for HTTP/2 in its handshake, and was granted it (RFC 9113 3.2).
    pub(super) fn has_agreed_on_http2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.is_http2())
    }

    /// Whether a request came by HTTP/2.
    #[inline]
    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// The scheme that the client used to come here.
    #[inline]
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain(_) => "http",
            Self::Tls(_) => "https",
            Self::Http2(stream) => stream.scheme(),
        }
    }

    /// The socket, of who has one of its own.
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.socket()),
            Self::Http2(_) => None,
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
            // Behind its request nothing comes but a reset.
            Self::Http2(stream) => stream.poll_reset(cx).map(Err),
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
            // What is left of its request ends with it.
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether nothing that was taken to be sent waits here.
    #[inline]
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Http2(_) => true,
            Self::Tls(stream) => stream.is_flushed(),
        }
    }

    /// Whether the client has reset it: only a reset leaves an error on a socket.
    pub(super) fn is_reset(&self) -> bool {
        match self {
            Self::Http2(stream) => stream.is_reset(),
            Self::Plain(stream) => !matches!(stream.take_error(), Ok(None)),
            Self::Tls(stream) => !matches!(stream.socket().take_error(), Ok(None)),
        }
    }

    /// Tells the client that it was sent all that it is to get; the connection is closed next.
    #[inline]
    pub(super) fn end_now(&mut self) {
        if let Self::Tls(stream) = self {
            stream.end_now();
        }
    }

    /// Has the close be a reset. That of a stream within its response always is.
    pub(super) fn reset_at_close(&self) {
        if let Some(socket) = self.socket() {
            // If this fails, there is no client any more to be deceived.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
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
            Self::Http2(stream) => stream.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Self::Http2(stream) => stream.poll_write(cx, bytes),
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
            Self::Http2(stream) => {
                stream.poll_write(cx, parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // What a stream has taken is its connection's to send.
            Self::Plain(_) | Self::Http2(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }
}
