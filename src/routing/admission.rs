//! What a pool's limits mean for its requests in flight, compiled for the request path.
//!
//! Invariant: a pool that is at a limit turns requests away; it does not pass them on to another version, so that
//! load alone never changes a release's shares.

use std::{collections::HashSet, sync::Arc, time::Instant};

use super::table::Pool;
use crate::{
    config::{self, Balance},
    upstream::{balance::Weighted, gate::Limit, local::Lease, pool::PoolState},
};

/// What bounds a pool's requests in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In the pool.
    pub(super) most: u64,
    /// On one endpoint.
    pub(super) most_on_endpoint: u64,
    /// Whether they are counted at the pool's gate: for a limit, or for the bound of a balancing by key.
    pub(super) is_gated: bool,
}

/// Why a pool takes no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// None of its endpoints may be used.
    Unavailable,
    /// A limit was reached.
    Shed(Limit),
}

impl Bounds {
    pub(super) fn of(settings: &config::Pool) -> Self {
        let limits = &settings.limits;
        let most = |limit: Option<u32>| limit.map_or(u64::MAX, u64::from);
        Self {
            most: most(limits.max_requests),
            most_on_endpoint: most(limits.max_endpoint_requests),
            is_gated: limits.max_requests.is_some()
                || limits.adaptive.is_some()
                || matches!(settings.balance, Balance::Hash(_)),
        }
    }
}

/// A permit of a pool's gate, until it becomes a lease's.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a PoolState);

impl<'a> Permit<'a> {
    /// Lets a request in. One that is `in_already` is let in for another attempt, whatever the limits.
    pub(super) fn new(pool: &'a Pool, in_already: bool) -> Result<Self, Refused> {
        let gate = &pool.state.gate;
        match in_already {
            true => gate.enter_again(),
            false => gate.enter(pool.bounds.most).map_err(Refused::Shed)?,
        }
        Ok(Self(&pool.state))
    }

    /// From now on the lease holds it.
    pub(super) fn pass_to(self, lease: Lease) -> Lease {
        std::mem::forget(self);
        lease.gated()
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

/// Tells what is shared of a pool about its limits, and begins to warm the endpoints that it did not have before.
/// Those of a pool that is new are all alike, and are not warmed.
pub(super) fn prepare(
    settings: &config::Pool,
    endpoints: &Weighted,
    state: &PoolState,
    before: Option<&Arc<Pool>>,
) {
    if let Some(adaptive) = settings.limits.adaptive {
        state.gate.adapt(adaptive);
    }
    for (endpoint, _) in endpoints {
        endpoint.places.cap(settings.limits.max_connections);
    }
    let Some(before) = before.filter(|_| settings.slow_start.is_some()) else { return };
    let weighted = before.endpoints.iter().filter(|(_, weight)| *weight > 0);
    let known: HashSet<_> = weighted.map(|(endpoint, _)| endpoint.id).collect();
    if known.is_empty() {
        return;
    }
    let now = Instant::now();
    for (endpoint, weight) in endpoints {
        if *weight > 0 && !known.contains(&endpoint.id) {
            endpoint.became_available(now);
        }
    }
}
