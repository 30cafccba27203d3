//! The compiled, immutable, numbered routing table.

use std::sync::Arc;

use super::{
    admission::Bounds, matcher::Matcher, pins::SharedKeys, rate_limit::RateLimit, request_view::RequestView,
};
use crate::{
    config,
    telemetry::registry::Slot,
    upstream::{balance::Balancer, endpoint::Endpoint, pool::PoolState},
};

/// One generation of the routing table.
#[derive(Debug)]
pub struct Table {
    /// Its number; each published table has a higher one.
    pub generation: u64,
    /// The routes, in the file's order; shared with the next generation if the file did not change.
    pub routes: Arc<[Route]>,
    /// The splits, in the file's order.
    pub splits: Vec<Arc<Split>>,
    /// The pools, in the file's order.
    pub pools: Vec<Arc<Pool>>,
    /// The keys of pins; the same for every table.
    pub keys: SharedKeys,
    /// The routes' matches, compiled; shared as the routes are.
    pub(super) matcher: Arc<Matcher>,
}

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    /// What the file says of it.
    pub settings: Arc<config::Route>,
    /// Where its requests go.
    pub target: Target,
    /// Its series.
    pub slot: Slot,
    /// How often it takes requests; the same in the next generation if the file says the same of it.
    pub rate_limit: Option<Arc<RateLimit>>,
}

/// Where a route's requests go: indices into the same table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An index into [`Table::splits`].
    Split(usize),
    /// An index into [`Table::pools`].
    Pool(usize),
    /// Answered by Switchback itself, as the route's settings say.
    Redirect,
}

/// A compiled split with the weights in force.
#[derive(Debug)]
pub struct Split {
    /// What the file says of it (its weights there are the declared ones, not those in force).
    pub settings: Arc<config::Split>,
    /// Its pools with the weights in force, in declared order.
    pub arms: Vec<Arm>,
}

/// One pool's part in a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm {
    /// An index into [`Table::pools`].
    pub pool: usize,
    /// The weight that decides: the one in force, or 0 while the pool drains and another takes its share.
    pub weight: u32,
    /// The weight in force.
    pub set_weight: u32,
    /// The series of this pool in this split.
    pub slot: Slot,
    /// What makes the pool's order of keys its own: see [`crate::model::bucket::seed`].
    pub seed: u64,
    /// Pins to this pool count no more that were issued up to this moment, in milliseconds since 1970; 0 if none were
    /// released.
    pub released: u64,
}

/// A compiled pool.
#[derive(Debug)]
pub struct Pool {
    /// What the file says of it.
    pub settings: Arc<config::Pool>,
    /// Its endpoints with their weights, in declared order.
    pub endpoints: Vec<(Arc<Endpoint>, u32)>,
    /// Its series.
    pub slot: Slot,
    /// What is shared of it over all workers and tables.
    pub state: Arc<PoolState>,
    /// What bounds its requests in flight.
    pub(super) bounds: Bounds,
    /// Draws among its endpoints.
    pub(super) balancer: Balancer,
}

impl Table {
    /// The first route that takes a request: an index into [`Table::routes`].
    #[inline]
    pub fn find(&self, request: &impl RequestView) -> Option<usize> {
        self.matcher.find(&self.routes, request)
    }
}

impl Pool {
    /// Whether any endpoint would take a new request: one that is ejected, too, where they all are and the pool may
    /// panic.
    pub fn is_available(&self) -> bool {
        self.any(|endpoint| endpoint.occupancy.standing().is_available_in(self.may_panic()))
    }

    /// Why it takes no new request, in words, if it does not.
    pub(super) fn why_away(&self) -> &'static str {
        if self.drains() { "drains" } else { "has no available endpoint" }
    }

    /// Whether it has endpoints, and all of them drain.
    pub fn drains(&self) -> bool {
        self.any(|_| true) && !self.any(|endpoint| endpoint.occupancy.standing().takes_new())
    }

    /// Whether it balances by a key of the request.
    pub(super) fn balances_by_key(&self) -> bool {
        matches!(self.settings.balance, config::Balance::Hash(_))
    }

    /// Whether any endpoint would take a new request without panic.
    pub(super) fn has_available(&self) -> bool {
        self.any(|endpoint| endpoint.occupancy.is_available())
    }

    /// Whether its settings let it ignore ejections.
    pub(super) fn may_panic(&self) -> bool {
        self.settings.panic_threshold > 0.0
    }

    /// Whether ejections are ignored now: the pool panics, or is about to, as no endpoint is left but those ejected.
    pub fn ignores_ejections(&self) -> bool {
        self.state.panics() || self.may_panic() && !self.has_available()
    }

    fn any(&self, is: impl Fn(&Endpoint) -> bool) -> bool {
        self.endpoints.iter().any(|(endpoint, weight)| *weight > 0 && is(endpoint))
    }
}
