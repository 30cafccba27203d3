//! The socket below a connection: bytes are gathered before they are written, and counted both ways.
//!
//! The h2 crate asks for a flush behind nearly every frame. Here a flush does nothing; the connection's task sends what
//! was gathered once, at the end of its turn, so that the answers of many streams go out in one record and one system
//! call, and none later than it would have.
//!
//! Invariant: what is gathered is bounded; who writes more waits for the socket.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{limits::UNSENT, meter::Meter};
use crate::proxy::{clock, downstream::Downstream};

/// A client's connection as frames come and go on it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) downstream: Downstream,
    pub(super) meter: Meter,
    /// What was written, and how much of it the stream has taken.
    out: Vec<u8>,
    taken: usize,
    /// All that the stream has ever taken.
    pub(super) total: u64,
}

/// The end of it that the h2 crate holds.
#[derive(Debug)]
pub(super) struct Io(pub(super) Rc<RefCell<Link>>);

impl Link {
    pub(super) fn new(downstream: Downstream) -> Self {
        downstream.worker.counts.http2_connections.add(1);
        downstream.worker.counts.http2_connections_open.add(1);
        Self { downstream, meter: Meter::new(clock::now()), out: Vec::new(), taken: 0, total: 0 }
    }

    /// Sends what was gathered. Ready when nothing is left.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.out.len() {
            let rest = &self.out[self.taken..];
            let taken = ready!(Pin::new(&mut self.downstream.stream).poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += taken;
            self.total += taken as u64;
        }
        self.out.clear();
        self.taken = 0;
        Pin::new(&mut self.downstream.stream).poll_flush(cx)
    }

    /// Sends a frame between those of the h2 crate; answers whether there is a place for it now.
    pub(super) fn add_frame(&mut self, frame: &[u8]) -> bool {
        let has_place = self.meter.is_between_frames();
        if has_place {
            self.gather(frame);
        }
        has_place
    }

    /// Gives the room for writing back: a connection without streams holds none.
    pub(super) fn rest(&mut self) {
        if self.out.is_empty() {
            self.downstream.worker.buffers.give(std::mem::take(&mut self.out));
        }
    }

    fn gather(&mut self, bytes: &[u8]) {
        if self.out.capacity() == 0 {
            self.out = self.downstream.worker.buffers.take();
        }
        self.out.extend_from_slice(bytes);
        let resets = self.meter.send(bytes);
        if resets > 0 {
            self.downstream.worker.counts.http2_resets_sent.add(resets);
        }
    }

    fn is_full(&self) -> bool {
        self.out.len() >= UNSENT
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.downstream.worker.counts.http2_connections_open.subtract(1);
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut link = self.0.borrow_mut();
        let Link { downstream, meter, .. } = &mut *link;
        // The connection's task ends it next.
        if meter.is_flooded() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if downstream.held.is_empty() {
            ready!(Pin::new(&mut downstream.stream).poll_read(cx, buffer))?;
        } else {
            // What was read before it was known that it is HTTP/2.
            let held = downstream.held.bytes();
            let length = held.len().min(buffer.remaining());
            buffer.put_slice(&held[..length]);
            downstream.held.advance(length, &downstream.worker.buffers);
        }
        let resets = meter.receive(&buffer.filled()[before..], clock::now());
        if resets > 0 {
            downstream.worker.counts.http2_resets_received.add(resets);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut link = self.0.borrow_mut();
        if link.is_full() {
            ready!(link.poll_send(cx))?;
        }
        link.gather(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut link = self.0.borrow_mut();
        if link.is_full() {
            ready!(link.poll_send(cx))?;
        }
        parts.iter().for_each(|part| link.gather(part));
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.0.borrow_mut();
        if link.is_full() { link.poll_send(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.0.borrow_mut();
        ready!(link.poll_send(cx))?;
        Pin::new(&mut link.downstream.stream).poll_shutdown(cx)
    }
}
