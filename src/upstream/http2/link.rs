//! The socket below a connection of HTTP/2: bytes are gathered before they are written, and counted as they come.
//!
//! The h2 crate asks for a flush behind nearly every frame. Here a flush does nothing; the connection's task sends what was
//! gathered once, at the end of its turn.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{http2::Gathered, upstream::socket::Socket};

/// The head of a frame (RFC 9113 4.1).
const HEAD: usize = 9;
/// The type of SETTINGS.
const SETTINGS: u8 = 4;

/// A connection as frames come and go on it.
#[derive(Debug)]
pub(super) struct Link {
    stream: Socket,
    out: Gathered,
    /// How many bytes have come.
    pub(super) received: u64,
    /// The first bytes that have come: the head of a frame.
    first: [u8; HEAD],
}

/// The end of it that the h2 crate holds.
#[derive(Debug)]
pub(super) struct Io(pub(super) Rc<RefCell<Link>>);

impl Link {
    pub(super) fn new(stream: Socket) -> Self {
        Self { stream, out: Gathered::default(), received: 0, first: [0; HEAD] }
    }

    /// Sends what was gathered. Ready when nothing is left.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.poll_send(cx, &mut self.stream)
    }

    /// Gives the room for writing up: a connection without streams holds none.
    pub(super) fn rest(&mut self) {
        self.out.rest();
    }

    /// Whether the other side has said by its settings, whole, that it speaks HTTP/2 (RFC 9113 3.4).
    pub(super) fn has_settings(&self) -> bool {
        let [a, b, c, kind, ..] = self.first;
        let length = u64::from(a) << 16 | u64::from(b) << 8 | u64::from(c);
        kind == SETTINGS && self.received >= HEAD as u64 + length
    }

    fn note(&mut self, bytes: &[u8]) {
        if let Ok(have) = usize::try_from(self.received)
            && have < HEAD
        {
            let taken = bytes.len().min(HEAD - have);
            self.first[have..have + taken].copy_from_slice(&bytes[..taken]);
        }
        self.received += bytes.len() as u64;
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut link = self.0.borrow_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut link.stream).poll_read(cx, buffer))?;
        link.note(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut link = self.0.borrow_mut();
        if link.out.is_full() {
            ready!(link.poll_send(cx))?;
        }
        link.out.add(bytes, Vec::new);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut link = self.0.borrow_mut();
        if link.out.is_full() {
            ready!(link.poll_send(cx))?;
        }
        parts.iter().for_each(|part| link.out.add(part, Vec::new));
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.0.borrow_mut();
        if link.out.is_full() { link.poll_send(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.0.borrow_mut();
        ready!(link.poll_send(cx))?;
        Pin::new(&mut link.stream).poll_shutdown(cx)
    }
}
