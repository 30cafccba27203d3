//! What carries a request to an endpoint and its response back, as bytes of HTTP/1.1: a connection of its own, or a stream of one
//! of HTTP/2.
//!
//! Invariant: plain HTTP pays a branch for the others, and nothing else.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    http2::{self, Refusal},
    socket::Socket,
};
use crate::model::grpc::GrpcStatus;

/// What carries a request to an endpoint and its response back.
#[derive(Debug)]
pub enum UpstreamStream {
    /// A connection that it has for itself.
    Own(Socket),
    /// A stream of a connection of HTTP/2. In a box, as it is much larger.
    Http2(Box<http2::Stream>),
}

impl UpstreamStream {
    /// Whether nothing has come on it that was not read, and another request may follow.
    #[inline]
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Own(socket) => socket.is_quiet(),
            // It has had its request.
            Self::Http2(_) => false,
        }
    }

    /// Whether it is one of many on its connection.
    #[inline]
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Why the endpoint has not processed the request, if that is certain.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Http2(stream) => stream.refusal(),
            Self::Own(_) => None,
        }
    }

    /// What the response says of a call of gRPC, if it has come to its end and says nothing else.
    pub fn sole_grpc_status(&self) -> Option<GrpcStatus> {
        match self {
            Self::Http2(stream) => stream.sole_grpc_status(),
            Self::Own(_) => None,
        }
    }

    /// What the response says of a call of gRPC, as far as it has come.
    pub fn grpc_status(&self) -> Option<GrpcStatus> {
        match self {
            Self::Http2(stream) => stream.grpc_status(),
            Self::Own(_) => None,
        }
    }
}

impl AsyncRead for UpstreamStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Own(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Http2(stream) => stream.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Own(socket) => Pin::new(socket).poll_write(cx, bytes),
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
            Self::Own(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
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
            Self::Own(socket) => Pin::new(socket).poll_flush(cx),
            // What a stream has taken is its connection's to send.
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Own(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }
}
