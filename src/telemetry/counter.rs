//! Counters with one writer.
//!
//! Invariant: a counter is written by one thread only, the worker that owns it. That is why an addition is a plain
//! load and store (no locked instruction, no shared cache line), and why any thread may read it at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that one thread changes and every thread may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Wraps at 2^64.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Takes away what was added before: what makes a counter a gauge.
    #[inline]
    pub fn subtract(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(amount), Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
