//! A request on its way up, over all of its attempts: what was sent of it is kept, up to a size, for another attempt.
//!
//! Invariant: what is kept is every byte that was sent, from the first on, or nothing; and all workers' requests
//! together keep no more than `KEPT_BYTES` of bodies each.

use std::{
    cell::Cell,
    io,
    task::{Context, Poll},
};

use super::{buffers::Buffers, outbox::Outbox};
use crate::{upstream::stream::UpstreamStream, wire::emit};

/// Bytes of bodies that a worker keeps in all. Over it, bodies pass without being kept: a thousand uploads at the
/// usual size of 64 KiB, and no more than this however many clients send slowly.
const KEPT_BYTES: usize = 64 << 20;

/// The bytes of bodies that a worker keeps now.
#[derive(Debug, Default)]
pub(super) struct KeptBytes(Cell<usize>);

/// A request on its way up.
#[derive(Debug)]
pub(super) struct Replay {
    outbox: Outbox,
    /// Where the head's empty line begins in the message.
    head_end: usize,
    /// How many bytes before it say which attempt this is.
    mark: usize,
    /// How many more bytes of the body may be kept.
    room: usize,
    /// How many bytes count as kept.
    kept: usize,
    /// Whether all that was sent is still in hand.
    is_whole: bool,
    /// Whether any of the body has come from the client since its head.
    has_streamed: bool,
}

impl KeptBytes {
    /// Counts bytes, unless they are too many.
    fn add(&self, bytes: usize) -> bool {
        let sum = self.0.get() + bytes;
        let fits = sum <= KEPT_BYTES;
        if fits {
            self.0.set(sum);
        }
        fits
    }

    fn subtract(&self, bytes: usize) {
        self.0.set(self.0.get() - bytes);
    }
}

impl Replay {
    /// A message that was not sent yet: a head, whose empty line begins at `head_end`, and what of the body came with
    /// it. Of the rest of the body, nothing is kept unless [`Self::keep`] says so.
    #[inline]
    pub(super) fn new(message: Vec<u8>, head_end: usize) -> Self {
        Self {
            outbox: Outbox::new(message),
            head_end,
            mark: 0,
            room: 0,
            kept: 0,
            is_whole: true,
            has_streamed: false,
        }
    }

    /// Of the rest of the body, so many bytes may be kept.
    pub(super) fn keep(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Whether all that was sent is still in hand.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether any of the body has come from the client since its head.
    pub(super) fn has_streamed(&self) -> bool {
        self.has_streamed
    }

    /// How many bytes were sent in this attempt.
    pub(super) fn sent(&self) -> u64 {
        self.outbox.total()
    }

    /// Sends what waits.
    #[inline]
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut UpstreamStream,
    ) -> Poll<io::Result<()>> {
        self.outbox.poll_flush(cx, stream)
    }

    /// Sends bytes of the body that have just come, once all before them was sent; see [`Outbox::poll_send`].
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut UpstreamStream,
        (direct, aside): (&[u8], &[u8]),
        (buffers, kept): (&Buffers, &KeptBytes),
    ) -> Poll<io::Result<()>> {
        self.has_streamed = true;
        let bytes = direct.len() + aside.len();
        if self.is_whole && bytes <= self.room && kept.add(bytes) {
            self.room -= bytes;
            self.kept += bytes;
            return self.outbox.poll_send_kept(cx, stream, direct, aside);
        }
        if std::mem::take(&mut self.is_whole) && self.kept > 0 {
            // What was sent is of no use any more, and a buffer that has grown with it is too large to hold on to.
            self.give_back(buffers, kept);
            self.outbox.room(buffers);
        }
        self.outbox.poll_send(cx, stream, direct, aside)
    }

    /// Makes all of it unsent, as another attempt: its number stands in the head, for those behind us to know.
    #[cold]
    pub(super) fn rewind(&mut self, number: u32) {
        debug_assert!(self.is_whole, "only what is in hand is sent again");
        let mut line = Vec::new();
        emit::line(&mut line, b"X-Switchback-Attempt", number.to_string().as_bytes());
        self.outbox.rewind(self.head_end - self.mark..self.head_end, &line);
        self.head_end = self.head_end - self.mark + line.len();
        self.mark = line.len();
    }

    /// Gives the buffer back: there will be no other attempt.
    pub(super) fn give_back(&mut self, buffers: &Buffers, kept: &KeptBytes) {
        self.outbox.give_back(buffers);
        kept.subtract(std::mem::take(&mut self.kept));
        self.is_whole = false;
    }
}
