//! Match, draw, balance and claim: one synchronous act with no await in it.
//!
//! Invariant: whatever this returns as a [`Selection::Forward`] holds a claim, and everything it was decided by is of
//! one table. In the steady state nothing is allocated: the sequences of splits and pools are made when first needed
//! and kept until their weights change.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

pub use super::chooser::Chooser;
use super::{
    admission::{Permit, Refused},
    request_view::RequestView,
    split_key::{ClientKey, key_of},
    table::{Pool, Split, Table, Target},
};
use crate::{
    config::{Balance, SplitKey, WhenUnavailable},
    model::bucket,
    telemetry::registry::LocalSeries,
    upstream::{
        balance::{Warming, bounded::Bound},
        endpoint::{Endpoint, EndpointId},
        gate::Limit,
        local::{Lease, Upstreams},
    },
};

/// How often a claim may be refused (an endpoint began to drain in the very moment) before the pool counts as
/// unavailable. Each refusal is another endpoint's, so that this is about operators, not about load.
const CLAIMS: usize = 8;

/// What a request got. Indices are into the table that it was selected from.
#[derive(Debug)]
pub enum Selection {
    /// No route takes it.
    NoRoute,
    /// The route answers it by itself: see the route's settings.
    Redirect {
        /// The route.
        route: usize,
    },
    /// It goes to an endpoint.
    Forward {
        /// The route.
        route: usize,
        /// The split and the arm in it, unless the route names a pool.
        arm: Option<(usize, usize)>,
        /// The pool.
        pool: usize,
        /// The claim on the endpoint.
        lease: Lease,
    },
    /// There is nobody to answer it.
    Unavailable {
        /// The route.
        route: usize,
        /// The split and the arm that was drawn, unless the route names a pool.
        arm: Option<(usize, usize)>,
    },
    /// Its pool is at a limit.
    Shed {
        /// The route.
        route: usize,
        /// The split and the arm in it, unless the route names a pool.
        arm: Option<(usize, usize)>,
        /// The pool.
        pool: usize,
        /// The limit.
        limit: Limit,
    },
}

/// Decides a request.
#[inline]
pub fn select(
    table: &Table,
    chooser: &mut Chooser,
    upstreams: &mut Upstreams,
    series: &mut LocalSeries,
    request: &impl RequestView,
) -> Selection {
    let Some(route) = table.find(request) else { return Selection::NoRoute };
    let hash = |key: &SplitKey| {
        let mut client = ClientKey::default();
        key_of(key, request, &mut client).map(xxh3_64)
    };
    let split = match table.routes[route].target {
        Target::Redirect => return Selection::Redirect { route },
        Target::Split(split) => split,
        Target::Pool(pool) => {
            let mut claims = Claims { table, chooser, upstreams, series, tried: &[], hash: &hash };
            let claimed = claims.claim(pool, false);
            return Selection::of(route, None, pool, claimed);
        }
    };
    let compiled = &table.splits[split];
    let mut client = ClientKey::default();
    let key = compiled.settings.key.as_ref().and_then(|key| key_of(key, request, &mut client));
    let arm = match key {
        Some(key) => bucketed(compiled, table, key, |_| true).expect("a split's weights have a sum above 0"),
        None => chooser.draw(compiled),
    };
    series.of(compiled.arms[arm].slot).drawn.add(1);
    let pool = compiled.arms[arm].pool;
    let mut claims = Claims { table, chooser, upstreams, series, tried: &[], hash: &hash };
    match claims.claim(pool, false) {
        Err(Refused::Unavailable) => claims.pass_on(route, (split, arm), key),
        claimed => Selection::of(route, Some((split, arm)), pool, claimed),
    }
}

/// Decides where the next attempt of a request goes whose earlier ones failed: the same pool if it has another
/// available endpoint than those `tried`, else the other pools of the split, unless the split says that its share is
/// not passed on: the next best of its key (see [`copy_key`]), or by their weights if that is empty.
pub fn select_again(
    table: &Table,
    chooser: &mut Chooser,
    upstreams: &mut Upstreams,
    series: &mut LocalSeries,
    earlier: (usize, Option<(usize, usize)>, usize),
    key: &[u8],
    tried: &[EndpointId],
) -> Selection {
    let (route, arm, pool) = earlier;
    let mut claims = Claims { table, chooser, upstreams, series, tried, hash: &|_| None };
    match (claims.claim(pool, true), arm) {
        (Err(Refused::Unavailable), Some(arm)) => {
            claims.pass_on(route, arm, Some(key).filter(|key| !key.is_empty()))
        }
        (claimed, _) => Selection::of(route, arm, pool, claimed),
    }
}

/// Copies what a split buckets a request by, for [`select_again`]; nothing if it buckets it by nothing.
#[cold]
pub fn copy_key(split: &Split, request: &impl RequestView, into: &mut Vec<u8>) {
    let mut client = ClientKey::default();
    if let Some(key) = split.settings.key.as_ref().and_then(|key| key_of(key, request, &mut client)) {
        into.extend_from_slice(key);
    }
}

/// The arm that a key belongs to, among those that `may` take it.
pub(super) fn bucketed(
    split: &Split,
    table: &Table,
    key: &[u8],
    may: impl Fn(usize) -> bool,
) -> Option<usize> {
    let arms = split.arms.iter().enumerate().filter(|(index, _)| may(*index));
    bucket::pick(
        key,
        arms.map(|(index, arm)| (index, &table.pools[arm.pool].settings.name, arm.seed, arm.weight)),
    )
}

impl Selection {
    /// What a claim has come to.
    #[inline]
    fn of(route: usize, arm: Option<(usize, usize)>, pool: usize, claimed: Result<Lease, Refused>) -> Self {
        match claimed {
            Ok(lease) => Self::Forward { route, arm, pool, lease },
            Err(Refused::Unavailable) => Self::Unavailable { route, arm },
            Err(Refused::Shed(limit)) => Self::Shed { route, arm, pool, limit },
        }
    }
}

/// What claiming needs, put together.
struct Claims<'a> {
    table: &'a Table,
    chooser: &'a mut Chooser,
    upstreams: &'a mut Upstreams,
    series: &'a mut LocalSeries,
    tried: &'a [EndpointId],
    /// The hash of what a pool that balances by a key is to balance the request by.
    hash: &'a dyn Fn(&SplitKey) -> Option<u64>,
}

impl Claims<'_> {
    /// Claims an endpoint of a pool, chosen as the pool balances. A request that is `in_already` needs no other permit
    /// of the pool.
    #[inline]
    fn claim(&mut self, pool: usize, in_already: bool) -> Result<Lease, Refused> {
        let pool = &self.table.pools[pool];
        if !pool.bounds.is_gated {
            return self.claim_endpoint(pool);
        }
        let permit = Permit::new(pool, in_already)?;
        let lease = self.claim_endpoint(pool)?;
        Ok(permit.pass_to(lease))
    }

    #[inline]
    fn claim_endpoint(&mut self, pool: &Arc<Pool>) -> Result<Lease, Refused> {
        let most = pool.bounds.most_on_endpoint;
        for _ in 0..CLAIMS {
            let panics = pool.state.panics();
            let index = self.balance(pool, panics).or_else(|| self.balance_in_sudden_panic(pool));
            let Some(index) = index else { break };
            if let Ok(lease) = self.upstreams.claim(&pool.endpoints[index].0, most, self.series) {
                return Ok(lease);
            }
        }
        Err(self.why_none(pool))
    }

    /// Why none of a pool's endpoints was claimed: are those that could be used full?
    #[cold]
    fn why_none(&self, pool: &Pool) -> Refused {
        let most = pool.bounds.most_on_endpoint;
        let panics = pool.ignores_ejections();
        let is_full = |(endpoint, weight): &(Arc<Endpoint>, u32)| {
            let standing = endpoint.occupancy.standing();
            *weight > 0 && standing.is_available_in(panics) && !self.tried.contains(&endpoint.id)
        };
        match most != u64::MAX && pool.endpoints.iter().any(is_full) {
            true => Refused::Shed(Limit::MaxEndpointRequests),
            false => Refused::Unavailable,
        }
    }

    #[inline]
    fn balance(&mut self, pool: &Arc<Pool>, panics: bool) -> Option<usize> {
        let (tried, most) = (self.tried, pool.bounds.most_on_endpoint);
        let may = |endpoint: &Endpoint| {
            let standing = endpoint.occupancy.standing();
            standing.is_available_in(panics) && standing.in_flight() < most && !tried.contains(&endpoint.id)
        };
        let warming = pool.settings.slow_start.as_ref().map(|slow| Warming::new(slow, self.chooser.time()));
        let warming = warming.as_ref();
        if let Balance::Hash(settings) = &pool.settings.balance
            && let Some(hash) = (self.hash)(&settings.key)
        {
            let bound = Bound { max_load: settings.max_load, in_flight: pool.state.gate.in_flight() };
            return pool.balancer.by_key(&pool.endpoints, hash, bound, self.chooser.rng(), warming, may);
        }
        match &pool.settings.balance {
            Balance::LeastRequest | Balance::Hash(_) => {
                pool.balancer.least_request(&pool.endpoints, self.chooser.rng(), warming, may)
            }
            Balance::RoundRobin => {
                let (sequence, rng) = self.chooser.round_robin(pool)?;
                pool.balancer.round_robin(&pool.endpoints, sequence, rng, warming, may)
            }
        }
    }

    /// Balances once more if the last endpoint that was not ejected has gone in this very moment: whoever decides on
    /// panic has not seen it yet, and no request is to be lost by that.
    #[cold]
    fn balance_in_sudden_panic(&mut self, pool: &Arc<Pool>) -> Option<usize> {
        let is_due = !pool.state.panics() && pool.may_panic() && !pool.has_available();
        if is_due { self.balance(pool, true) } else { None }
    }

    /// Gives the share of a pool that can't take it to the split's other available pools: to the key's next best, or
    /// by their weights. A pool of weight 0 is never among them.
    #[cold]
    fn pass_on(&mut self, route: usize, from: (usize, usize), key: Option<&[u8]>) -> Selection {
        let (split, drawn) = from;
        let compiled = &self.table.splits[split];
        let mut left: u64 = 0;
        if compiled.settings.when_unavailable == WhenUnavailable::PassOn {
            for (index, arm) in compiled.arms.iter().enumerate() {
                let takes = index != drawn && arm.weight > 0 && self.table.pools[arm.pool].is_available();
                left |= u64::from(takes) << index;
            }
        }
        // Each round takes one arm out, so there are fewer rounds than arms.
        while left != 0 {
            let next = match key {
                Some(key) => bucketed(compiled, self.table, key, |index| left & 1 << index != 0),
                None => self.chooser.draw_among(compiled, left),
            };
            let Some(next) = next else { break };
            let pool = compiled.arms[next].pool;
            match self.claim(pool, false) {
                Err(Refused::Unavailable) => left &= !(1 << next),
                claimed => return Selection::of(route, Some((split, next)), pool, claimed),
            }
        }
        Selection::Unavailable { route, arm: Some(from) }
    }
}
