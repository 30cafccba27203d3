//! The worker's buffers: taken when bytes have to be kept over a wait, given back when they are gone.
//!
//! Invariant: a connection that is idle holds none.

use std::cell::RefCell;

/// What a buffer begins with: a usual request's head and small body.
const CAPACITY: usize = 4 << 10;
/// A buffer that grew beyond this is not kept: one large message must not make the worker large for good.
const KEPT_CAPACITY: usize = 16 << 10;
/// Buffers that are kept: enough for the requests in flight of a busy worker, 4 MiB at the usual
/// size and 16 MiB at worst.
const KEPT: usize = 1024;

/// Buffers that are not in use.
#[derive(Debug, Default)]
pub(super) struct Buffers(RefCell<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer.
    #[inline]
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(CAPACITY))
    }

    /// Gives a buffer back. One that has no room was never taken from here and is dropped.
    #[inline]
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > KEPT_CAPACITY {
            return;
        }
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            buffer.clear();
            kept.push(buffer);
        }
    }
}
