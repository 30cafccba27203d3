//! What is on its way to a socket.

use std::{
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::buffers::Buffers;

/// Bytes up to this size are copied behind a head to go out in one write; more are written from where they are.
const COPIED: usize = 8 << 10;

/// Bytes that a socket has not taken yet.
///
/// Back-pressure: whoever fills it reads nothing more until [`Outbox::poll_flush`] is ready, so it holds one read's
/// worth of bytes at most.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Bytes to send, and bytes that were sent.
    bytes: Vec<u8>,
    sent: usize,
    /// All that was ever sent.
    total: u64,
}

impl Outbox {
    /// An outbox with bytes to send.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, sent: 0, total: 0 }
    }

    /// Whether nothing waits.
    #[inline]
    pub(super) fn is_flushed(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Whether a part of what was written to it together has been sent, and not the rest.
    pub(super) fn is_cut(&self) -> bool {
        self.sent > 0 && !self.is_flushed()
    }

    /// How many bytes were ever sent.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Where to write what is to be sent next, in a buffer of the worker's. Bytes that were sent make room.
    pub(super) fn room(&mut self, buffers: &Buffers) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
        } else if self.is_flushed() {
            self.bytes.clear();
        } else {
            return &mut self.bytes;
        }
        self.sent = 0;
        &mut self.bytes
    }

    /// Gives the buffer back, and with it whatever waits in it.
    pub(super) fn give_back(&mut self, buffers: &Buffers) {
        buffers.give(std::mem::take(&mut self.bytes));
        self.sent = 0;
    }

    /// Makes all of it unsent, with other bytes in a place: for another attempt.
    pub(super) fn rewind(&mut self, place: Range<usize>, with: &[u8]) {
        self.bytes.splice(place, with.iter().copied());
        self.sent = 0;
        self.total = 0;
    }

    /// Sends what waits, here and in the stream. A stream of plain TCP has nothing that waits.
    #[inline]
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while !self.is_flushed() {
            let sent = ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
            self.total += sent as u64;
        }
        Pin::new(stream).poll_flush(cx)
    }

    /// Does as [`Self::poll_send`], and keeps all of it for [`Self::rewind`].
    pub(super) fn poll_send_kept(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
        direct: &[u8],
        aside: &[u8],
    ) -> Poll<io::Result<()>> {
        self.bytes.extend_from_slice(direct);
        self.bytes.extend_from_slice(aside);
        self.poll_flush(cx, stream)
    }

    /// Sends what waits, then `direct`, then `aside`, as far as the socket takes it now; the rest is kept. Ready when
    /// nothing is left.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
        direct: &[u8],
        aside: &[u8],
    ) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            self.bytes.clear();
            self.sent = 0;
        }
        if direct.len() + aside.len() <= COPIED {
            self.bytes.extend_from_slice(direct);
            self.bytes.extend_from_slice(aside);
            return self.poll_flush(cx, stream);
        }
        let mut parts = [IoSlice::new(&self.bytes[self.sent..]), IoSlice::new(direct), IoSlice::new(aside)];
        let mut parts = &mut parts[..];
        let mut pending = false;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match Pin::new(&mut *stream).poll_write_vectored(cx, parts) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => {
                    self.total += sent as u64;
                    IoSlice::advance_slices(&mut parts, sent);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    pending = true;
                    break;
                }
            }
        }
        if !pending {
            self.bytes.clear();
            self.sent = 0;
            return Pin::new(stream).poll_flush(cx);
        }
        // Which of the three parts the rest begins in follows from how long it is.
        let left: usize = parts.iter().map(|part| part.len()).sum();
        let behind = direct.len() + aside.len();
        self.sent = self.bytes.len() - left.saturating_sub(behind);
        if self.is_flushed() {
            self.bytes.clear();
            self.sent = 0;
        }
        let direct_left = left.min(behind).saturating_sub(aside.len());
        self.bytes.extend_from_slice(&direct[direct.len() - direct_left..]);
        self.bytes.extend_from_slice(&aside[aside.len() - left.min(aside.len())..]);
        Poll::Pending
    }
}
