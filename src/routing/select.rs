//! Match, draw, balance and claim: one synchronous act with no await in it.
//!
//! Invariant: whatever this returns as a [`Selection::Forward`] holds a claim, and everything it was decided by is of
//! one table. In the steady state nothing is allocated: the sequences of splits and pools are made when first needed
//! and kept until their weights change.

use std::sync::Arc;

pub use super::chooser::Chooser;
use super::{
    request_view::RequestView,
    split_key::{ClientKey, key_of},
    table::{Pool, Split, Table, Target},
};
use crate::{
    config::{Balance, WhenUnavailable},
    model::bucket,
    telemetry::registry::LocalSeries,
    upstream::{
        endpoint::{Endpoint, EndpointId},
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
    let split = match table.routes[route].target {
        Target::Redirect => return Selection::Redirect { route },
        Target::Split(split) => split,
        Target::Pool(pool) => {
            return match (Claims { table, chooser, upstreams, series, tried: &[] }).claim(pool) {
                Some(lease) => Selection::Forward { route, arm: None, pool, lease },
                None => Selection::Unavailable { route, arm: None },
            };
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
    let mut claims = Claims { table, chooser, upstreams, series, tried: &[] };
    match claims.claim(pool) {
        Some(lease) => Selection::Forward { route, arm: Some((split, arm)), pool, lease },
        None => claims.pass_on(route, (split, arm), key),
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
    let mut claims = Claims { table, chooser, upstreams, series, tried };
    match (claims.claim(pool), arm) {
        (Some(lease), _) => Selection::Forward { route, arm, pool, lease },
        (None, Some(arm)) => claims.pass_on(route, arm, Some(key).filter(|key| !key.is_empty())),
        (None, None) => Selection::Unavailable { route, arm },
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

/// What claiming needs, put together.
struct Claims<'a> {
    table: &'a Table,
    chooser: &'a mut Chooser,
    upstreams: &'a mut Upstreams,
    series: &'a mut LocalSeries,
    tried: &'a [EndpointId],
}

impl Claims<'_> {
    /// Claims an endpoint of a pool, chosen as the pool balances; `None` if none takes a request.
    #[inline]
    fn claim(&mut self, pool: usize) -> Option<Lease> {
        let pool = &self.table.pools[pool];
        for _ in 0..CLAIMS {
            let panics = pool.state.panics();
            let index = self.balance(pool, panics).or_else(|| self.balance_in_sudden_panic(pool))?;
            if let Ok(lease) = self.upstreams.claim(&pool.endpoints[index].0, u64::MAX, self.series) {
                return Some(lease);
            }
        }
        None
    }

    #[inline]
    fn balance(&mut self, pool: &Arc<Pool>, panics: bool) -> Option<usize> {
        let tried = self.tried;
        let may = |endpoint: &Endpoint| {
            endpoint.occupancy.standing().is_available_in(panics) && !tried.contains(&endpoint.id)
        };
        match &pool.settings.balance {
            Balance::LeastRequest | Balance::Hash(_) => {
                pool.balancer.least_request(&pool.endpoints, self.chooser.rng(), may)
            }
            Balance::RoundRobin => {
                let (sequence, rng) = self.chooser.round_robin(pool)?;
                pool.balancer.round_robin(&pool.endpoints, sequence, rng, may)
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
            if let Some(lease) = self.claim(pool) {
                return Selection::Forward { route, arm: Some((split, next)), pool, lease };
            }
            left &= !(1 << next);
        }
        Selection::Unavailable { route, arm: Some(from) }
    }
}
