//! Match, draw, balance and claim: one synchronous act with no await in it.
//!
//! Invariant: whatever this returns as a [`Selection::Forward`] holds a claim, and everything it was decided by is of
//! one table. In the steady state nothing is allocated: the sequences of splits and pools are made when first needed
//! and kept until their weights change.

use std::{net::SocketAddr, sync::Arc};

pub use super::chooser::Chooser;
use super::{
    pins::Session,
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
        /// The session that the request belongs to, if its split is sticky.
        session: Option<Session>,
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
            return match (Claims { table, chooser, upstreams, series, tried: &[], pinned: false }).claim(pool)
            {
                Some(lease) => Selection::Forward { route, arm: None, pool, lease, session: None },
                None => Selection::Unavailable { route, arm: None },
            };
        }
    };
    let compiled = &table.splits[split];
    let mut claims = Claims { table, chooser, upstreams, series, tried: &[], pinned: false };
    let mut session = None;
    if let Some(sticky) = &compiled.settings.sticky {
        match claims.pinned(route, split, sticky, request) {
            Ok(selection) => return selection,
            Err(opened) => session = Some(opened),
        }
    }
    let mut client = ClientKey::default();
    let key = compiled.settings.key.as_ref().and_then(|key| key_of(key, request, &mut client));
    let arm = match key {
        Some(key) => bucketed(compiled, table, key, |_| true).expect("a split's weights have a sum above 0"),
        None => claims.chooser.draw(compiled),
    };
    claims.series.of(compiled.arms[arm].slot).drawn.add(1);
    let pool = compiled.arms[arm].pool;
    match claims.claim(pool) {
        Some(lease) => Selection::Forward { route, arm: Some((split, arm)), pool, lease, session },
        None => claims.pass_on(route, (split, arm), key, session),
    }
}

/// Decides where the next attempt of a request goes whose earlier ones failed: the same pool if it has another
/// available endpoint than those `tried`, else the other pools of the split, unless the split says that its share is
/// not passed on: the next best of its key (see [`copy_key`]), or by their weights if that is empty. The session that
/// the request has stays the same one; it is not in the answer.
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
    let mut claims = Claims { table, chooser, upstreams, series, tried, pinned: false };
    // Where the request was, its session is not a new one.
    let is_sticky = arm.is_some_and(|(split, _)| table.splits[split].settings.sticky.is_some());
    let lease = if is_sticky { claims.claim_in_session(pool) } else { claims.claim(pool) };
    match (lease, arm) {
        (Some(lease), _) => Selection::Forward { route, arm, pool, lease, session: None },
        (None, Some(arm)) => claims.pass_on(route, arm, Some(key).filter(|key| !key.is_empty()), None),
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
pub(super) struct Claims<'a> {
    pub(super) table: &'a Table,
    pub(super) chooser: &'a mut Chooser,
    pub(super) upstreams: &'a mut Upstreams,
    pub(super) series: &'a mut LocalSeries,
    tried: &'a [EndpointId],
    /// Whether endpoints count that take no new session: only for one that is there already.
    pinned: bool,
}

impl Claims<'_> {
    /// Claims an endpoint of a pool, chosen as the pool balances; `None` if none takes a request.
    #[inline]
    pub(super) fn claim(&mut self, pool: usize) -> Option<Lease> {
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

    /// Claims an endpoint of a pool for a session that is there already: one that takes every session, or else one
    /// that takes no new ones.
    pub(super) fn claim_in_session(&mut self, pool: usize) -> Option<Lease> {
        self.claim(pool).or_else(|| {
            self.pinned = true;
            let lease = self.claim(pool);
            self.pinned = false;
            lease
        })
    }

    /// Claims the endpoint of a pool at an address for a session that is there already, if it takes the request.
    pub(super) fn claim_at(&mut self, pool: usize, address: SocketAddr) -> Option<Lease> {
        let pool = &self.table.pools[pool];
        let known = pool.endpoints.iter().find(|(endpoint, _)| endpoint.address == address);
        let may = |endpoint: &Endpoint| takes(endpoint, true, pool.state.panics());
        let (endpoint, _) = known.filter(|(endpoint, weight)| *weight > 0 && may(endpoint))?;
        self.upstreams.claim(endpoint, u64::MAX, self.series).ok()
    }

    #[inline]
    fn balance(&mut self, pool: &Arc<Pool>, panics: bool) -> Option<usize> {
        let (tried, pinned) = (self.tried, self.pinned);
        let may = |endpoint: &Endpoint| takes(endpoint, pinned, panics) && !tried.contains(&endpoint.id);
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
    fn pass_on(
        &mut self,
        route: usize,
        from: (usize, usize),
        key: Option<&[u8]>,
        session: Option<Session>,
    ) -> Selection {
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
                return Selection::Forward { route, arm: Some((split, next)), pool, lease, session };
            }
            left &= !(1 << next);
        }
        Selection::Unavailable { route, arm: Some(from) }
    }
}

/// Whether an endpoint takes a request, of a session that is there already or of a new one, in a pool that ignores
/// ejections if it `panics`.
#[inline]
pub(super) fn takes(endpoint: &Endpoint, pinned: bool, panics: bool) -> bool {
    let standing = endpoint.occupancy.standing();
    if !pinned {
        return standing.is_available_in(panics);
    }
    standing.takes_pinned() || (panics && standing.takes_pinned_but_for_ejection())
}
