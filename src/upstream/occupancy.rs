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
/// Set while no new session may come; requests of sessions that are pinned here still may.
const RESERVED: u64 = 1 << 62;
/// Set while the probes say that the endpoint is not well, or have not said yet that it is.
const UNHEALTHY: u64 = 1 << 61;
/// Set while the endpoint is ejected because it misbehaved.
const EJECTED: u64 = 1 << 60;
/// The bits that hold the count.
const COUNT: u64 = EJECTED - 1;

/// The count and the state bits of one endpoint.
#[derive(Debug)]
pub struct Occupancy(AtomicU64);

/// What a claim has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Claim {
    /// The request is counted in.
    Granted,
    /// No new request may come.
    Draining,
    /// There are as many requests as may be.
    Full,
}

/// A reading of an endpoint's word: all of it is of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing(u64);

impl Default for Occupancy {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Occupancy {
    /// An endpoint of a pool that is probed: not healthy before the first success.
    pub fn unproven() -> Self {
        Self(AtomicU64::new(UNHEALTHY))
    }

    /// Counts one request in, unless the endpoint is draining or has `most` already. Each that is granted is paired
    /// with one [`Self::release`].
    ///
    /// An endpoint that is unhealthy, ejected or reserved can be claimed: whether to is the balancer's choice, not a
    /// matter of correctness.
    #[inline]
    pub fn claim(&self, most: u64) -> Claim {
        let before = self.0.fetch_add(1, Ordering::AcqRel);
        if before & DRAINING != 0 {
            self.release();
            return Claim::Draining;
        }
        if before & COUNT >= most {
            self.release();
            return Claim::Full;
        }
        Claim::Granted
    }

    /// Counts one request out.
    #[inline]
    pub fn release(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Requests in flight.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.standing().in_flight()
    }

    /// Count and state of one moment.
    #[inline]
    pub fn standing(&self) -> Standing {
        Standing(self.0.load(Ordering::Acquire))
    }

    /// Whether a new request may and should come.
    #[inline]
    pub fn is_available(&self) -> bool {
        self.standing().is_available()
    }

    /// Whether no new request may come.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.standing().is_draining()
    }

    /// Stops new requests and answers how many are in flight.
    pub fn drain(&self) -> u64 {
        self.0.fetch_or(DRAINING, Ordering::AcqRel) & COUNT
    }

    /// Stops new sessions; requests of sessions that are pinned here may come, also if none might before.
    pub fn reserve(&self) {
        self.0.fetch_or(RESERVED, Ordering::AcqRel);
        // At no moment in between is the endpoint open to all.
        self.0.fetch_and(!DRAINING, Ordering::AcqRel);
    }

    /// Lets new requests and sessions come again.
    pub fn undrain(&self) {
        self.0.fetch_and(!(DRAINING | RESERVED), Ordering::AcqRel);
    }

    /// Says whether the endpoint is thought to be well.
    pub fn set_healthy(&self, healthy: bool) {
        self.set(UNHEALTHY, !healthy);
    }

    /// Says whether the endpoint is ejected.
    pub fn set_ejected(&self, ejected: bool) {
        self.set(EJECTED, ejected);
    }

    fn set(&self, bit: u64, on: bool) {
        if on {
            self.0.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Whether it is draining and nothing is in flight: nothing will ever come until it is undrained.
    pub fn is_drained(&self) -> bool {
        let standing = self.standing();
        standing.is_draining() && standing.in_flight() == 0
    }
}

impl Standing {
    /// Requests in flight.
    #[inline]
    pub fn in_flight(self) -> u64 {
        self.0 & COUNT
    }

    /// Whether a new request may and should come: neither draining nor reserved, and well.
    #[inline]
    pub fn is_available(self) -> bool {
        self.0 & !COUNT == 0
    }

    /// Whether a new request may and should come in a pool that ignores ejections if it `panics`.
    #[inline]
    pub fn is_available_in(self, panics: bool) -> bool {
        self.is_available() || (panics && self.is_available_but_for_ejection())
    }

    /// Whether a new request may come if ejections are ignored.
    #[inline]
    pub fn is_available_but_for_ejection(self) -> bool {
        self.0 & (DRAINING | RESERVED | UNHEALTHY) == 0
    }

    /// Whether a request of a session that is pinned here may and should come.
    #[inline]
    pub fn takes_pinned(self) -> bool {
        self.0 & (DRAINING | UNHEALTHY | EJECTED) == 0
    }

    /// Whether a request of a session that is pinned here may come if ejections are ignored.
    #[inline]
    pub fn takes_pinned_but_for_ejection(self) -> bool {
        self.0 & (DRAINING | UNHEALTHY) == 0
    }

    /// Whether no new request may come.
    #[inline]
    pub fn is_draining(self) -> bool {
        self.0 & DRAINING != 0
    }

    /// Whether new sessions may come: neither draining nor reserved.
    pub fn takes_new(self) -> bool {
        self.0 & (DRAINING | RESERVED) == 0
    }

    /// Whether no new session may come.
    pub fn is_reserved(self) -> bool {
        self.0 & RESERVED != 0
    }

    /// Whether its probes say that it is well, or there are none.
    pub fn is_healthy(self) -> bool {
        self.0 & UNHEALTHY == 0
    }

    /// In a word: `available`, or the first reason why no new request should come.
    pub fn name(self) -> &'static str {
        match self {
            _ if self.is_draining() || self.is_reserved() => "draining",
            _ if !self.is_healthy() => "unhealthy",
            _ if self.is_ejected() => "ejected",
            _ => "available",
        }
    }

    /// Whether it is ejected.
    pub fn is_ejected(self) -> bool {
        self.0 & EJECTED != 0
    }
}
