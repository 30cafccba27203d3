//! One address of a pool, as all workers see it.

use std::net::SocketAddr;

use super::{drain::Progress, occupancy::Occupancy, outcomes::Outcomes};
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
}

impl EndpointId {
    /// An index into a vector that is as long as the registry.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
