//! One address of a pool, as all workers see it, and the numbers by which endpoints are told apart.
//!
//! Invariant: no two endpoints that anybody holds have the same number. An endpoint gives its own back when the last who
//! held it has let go, so that nothing that is kept by number (a worker's handle, a prober, a drain) can be taken for
//! another endpoint's, and what is as long as the highest number stays short.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use super::{
    drain::Progress,
    occupancy::Occupancy,
    outcomes::{Alarm, Outcomes},
    places::Places,
    pool::PoolState,
    warmth::Warmth,
};
use crate::{model::name::Name, telemetry::endpoints::EndpointSeries};

/// An endpoint's number: small, and its own as long as anybody holds the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u32);

/// The numbers of endpoints; every clone is the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers(Arc<Mutex<Free>>);

#[derive(Debug, Default)]
struct Free {
    /// The lowest number that was never given.
    next: u32,
    given_back: Vec<u32>,
}

/// One address of a pool. It outlives the tables that name it, and so do its count and its state, until it is retired.
#[derive(Debug)]
pub struct Endpoint {
    /// Its number.
    pub id: EndpointId,
    /// The pool that it belongs to.
    pub pool: Name,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is counted of it.
    pub series: Arc<EndpointSeries>,
    /// Who is on it.
    pub occupancy: Occupancy,
    /// How far its drain has come.
    pub drain: Progress,
    /// How it has done lately.
    pub outcomes: Outcomes,
    /// Its connections.
    pub places: Places,
    /// Since when it takes traffic, if that is not long ago.
    pub warmth: Warmth,
    /// What is shared of its pool.
    pub state: Arc<PoolState>,
    is_retired: AtomicBool,
    numbers: Numbers,
}

impl Endpoint {
    /// A new one. Of a pool that `is_probed` it is not healthy before its first success.
    pub(super) fn new(
        pool: Name,
        address: SocketAddr,
        is_probed: bool,
        series: Arc<EndpointSeries>,
        state: Arc<PoolState>,
        alarm: Arc<Alarm>,
        numbers: &Numbers,
    ) -> Self {
        Self {
            id: numbers.take(),
            pool,
            address,
            series,
            occupancy: if is_probed { Occupancy::unproven() } else { Occupancy::default() },
            drain: Progress::default(),
            outcomes: Outcomes::new(alarm),
            places: Places::default(),
            warmth: Warmth::default(),
            state,
            is_retired: AtomicBool::new(false),
            numbers: numbers.clone(),
        }
    }

    /// Retires an endpoint that is in no table any more, unless something of it is left: a request in flight or a
    /// connection. Answers whether it is retired. That is final, as a drain is: who may still find it, by a table of
    /// before, is refused a claim, and nothing of it is counted from then on.
    pub(super) fn retire(&self) -> bool {
        let is_idle = self.occupancy.drain() == 0 && self.places.taken() == 0;
        if is_idle {
            self.is_retired.store(true, Relaxed);
        }
        is_idle
    }

    /// Whether whoever keeps it for later may let go of it: it will never be used again.
    pub fn is_retired(&self) -> bool {
        self.is_retired.load(Relaxed)
    }

    /// It has become available: in a pool with slow start, it is warmed from now on.
    pub fn became_available(&self, now: Instant) {
        self.warmth.begin(now);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.numbers.give_back(self.id);
    }
}

impl EndpointId {
    /// An index into a vector that is no longer than there were endpoints at once.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Numbers {
    fn take(&self) -> EndpointId {
        let mut free = self.lock();
        EndpointId(free.given_back.pop().unwrap_or_else(|| {
            let number = free.next;
            free.next = number.checked_add(1).expect("nobody has memory for 2^32 endpoints");
            number
        }))
    }

    fn give_back(&self, id: EndpointId) {
        self.lock().given_back.push(id.0);
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // One push or pop is all that is done under it, so a panic can't leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
