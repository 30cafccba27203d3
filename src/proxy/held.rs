//! Bytes of requests to come: a part of a head, or pipelined requests.
//!
//! Invariant: reading one request out of many that wait costs nothing for those behind it.

use super::buffers::Buffers;

/// Bytes that were read from a client and not used yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    from: usize,
    /// Whether they were read as a head already, and are only a part of one.
    pub(super) is_partial: bool,
    /// Whether the time for that head has begun.
    pub(super) is_timed: bool,
}

impl Held {
    /// What waits.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    /// Whether nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.from == self.bytes.len()
    }

    /// Adds bytes behind those that wait.
    #[inline]
    pub(super) fn add(&mut self, bytes: &[u8], buffers: &Buffers) {
        if bytes.is_empty() {
            return;
        }
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
        }
        if self.from > 0 {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops the first bytes, which have been used.
    pub(super) fn advance(&mut self, count: usize, buffers: &Buffers) {
        self.from += count;
        self.is_partial = false;
        self.is_timed = false;
        if self.is_empty() {
            self.clear(buffers);
        }
    }

    /// Drops all.
    pub(super) fn clear(&mut self, buffers: &Buffers) {
        buffers.give(std::mem::take(&mut self.bytes));
        self.from = 0;
        self.is_partial = false;
        self.is_timed = false;
    }

    /// Takes all out, in a buffer of the worker's.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..std::mem::take(&mut self.from));
        bytes
    }
}
