//! Who is on an endpoint: the count of requests in flight and whether it still takes new ones, in one word.
//!
//! Invariant: a claim and the drain bit are one atomic. Either a claim precedes the bit, and whoever drains sees it
//! in the count, or it sees the bit and is refused. So "drained" (the bit is set and the count is 0) is final: no
//! request can slip in behind it. Model-checked in `tests/loom.rs`.

#[cfg(switchback_loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(switchback_loom))]
use std::sync::atomic::{AtomicU64, Ordering};

/// Set while no new request may come.
const DRAINING: u64 = 1 << 63;
/// Set while the endpoint is thought to be broken.
const UNHEALTHY: u64 = 1 << 62;
/// The bits that hold the count.
const COUNT: u64 = UNHEALTHY - 1;

/// The count and the state bits of one endpoint.
#[derive(Debug)]
pub struct Occupancy(AtomicU64);

impl Default for Occupancy {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Occupancy {
    /// Counts one request in, unless the endpoint is draining. Each success is paired with one [`Self::release`].
    ///
    /// An unhealthy endpoint can be claimed: whether to is the balancer's choice, not a matter of correctness.
    #[inline]
    #[must_use]
    pub fn claim(&self) -> bool {
        let before = self.0.fetch_add(1, Ordering::AcqRel);
        if before & DRAINING != 0 {
            self.release();
            return false;
        }
        true
    }

    /// Counts one request out.
    #[inline]
    pub fn release(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Requests in flight.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.0.load(Ordering::Acquire) & COUNT
    }

    /// Whether a new request may and should come: neither draining nor unhealthy.
    #[inline]
    pub fn is_available(&self) -> bool {
        self.0.load(Ordering::Acquire) & (DRAINING | UNHEALTHY) == 0
    }

    /// Whether no new request may come.
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::Acquire) & DRAINING != 0
    }

    /// Stops new requests and answers how many are in flight.
    pub fn drain(&self) -> u64 {
        self.0.fetch_or(DRAINING, Ordering::AcqRel) & COUNT
    }

    /// Lets new requests come again.
    pub fn undrain(&self) {
        self.0.fetch_and(!DRAINING, Ordering::AcqRel);
    }

    /// Says whether the endpoint is thought to be well.
    pub fn set_healthy(&self, healthy: bool) {
        if healthy {
            self.0.fetch_and(!UNHEALTHY, Ordering::AcqRel);
        } else {
            self.0.fetch_or(UNHEALTHY, Ordering::AcqRel);
        }
    }

    /// Whether it is draining and nothing is in flight: nothing will ever come until it is undrained.
    pub fn is_drained(&self) -> bool {
        let word = self.0.load(Ordering::Acquire);
        word & DRAINING != 0 && word & COUNT == 0
    }
}
