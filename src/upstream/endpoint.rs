//! One address of a pool, as all workers see it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    drain::Progress, occupancy::Occupancy, outcomes::Outcomes, places::Places, pool::PoolState,
    warmth::Warmth,
};
use crate::{model::name::Name, telemetry::registry::Slot};

/// An endpoint's place in the registry: small, dense, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub(super) u32);

/// One address of a pool. It outlives the tables that name it, and so do its count and its state.
#[derive(Debug)]
pub struct Endpoint {
    /// Its place in the registry.
    pub id: EndpointId,
    /// The pool that it belongs to.
    pub pool: Name,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its series.
    pub slot: Slot,
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
}

impl Endpoint {
    /// It has become available: in a pool with slow start, it is warmed from now on.
    pub fn became_available(&self, now: Instant) {
        self.warmth.begin(now);
    }
}

impl EndpointId {
    /// An index into a vector that is as long as the registry.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
