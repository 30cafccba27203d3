//! Match, draw, balance and claim: one synchronous act with no await in it.
//!
//! Invariant: whatever this returns as a [`Selection::Forward`] holds a claim, and everything it was decided by is of
//! one table. In the steady state nothing is allocated: the sequences of splits and pools are made when first needed
//! and kept until their weights change.

use std::{net::SocketAddr, sync::Arc};

use xxhash_rust::xxh3::xxh3_64;

pub use super::chooser::Chooser;
use super::{
    admission::{Permit, Refused},
    pins::Session,
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
        occupancy::Claim,
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
    match table.find(request) {
        Some(route) => select_on(table, route, chooser, upstreams, series, request),
        None => Selection::NoRoute,
    }
}

/// Decides a request of a route.
#[inline]
pub fn select_on(
    table: &Table,
    route: usize,
    chooser: &mut Chooser,
    upstreams: &mut Upstreams,
    series: &mut LocalSeries,
    request: &impl RequestView,
) -> Selection {
    let hash = |key: &SplitKey| {
        let mut client = ClientKey::default();
        key_of(key, request, &mut client).map(xxh3_64)
    };
    let split = match table.routes[route].target {
        Target::Redirect => return Selection::Redirect { route },
        Target::Split(split) => split,
        Target::Pool(pool) => {
            let mut claims = Claims {
                table,
                chooser,
                upstreams,
                series,
                tried: &[],
                hash: &hash,
                pinned: false,
                insists: false,
            };
            let claimed = claims.claim(pool, false);
            return Selection::of(route, None, pool, claimed, None);
        }
    };
    let compiled = &table.splits[split];
    let mut claims =
        Claims { table, chooser, upstreams, series, tried: &[], hash: &hash, pinned: false, insists: false };
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
    match claims.claim(pool, false) {
        Err(Refused::Unavailable) => claims.pass_on(route, (split, arm), key, session),
        claimed => Selection::of(route, Some((split, arm)), pool, claimed, session),
    }
}

/// What is known of a request whose earlier attempts have failed.
#[derive(Debug, Clone, Copy)]
pub struct Earlier<'a> {
    /// Its route.
    pub route: usize,
    /// The split and the arm in it that it was at last, unless the route names a pool.
    pub arm: Option<(usize, usize)>,
    /// The pool that it was at last.
    pub pool: usize,
    /// Its session, if its split is sticky.
    pub session: Option<Session>,
    /// What its split buckets it by: see [`copy_key`].
    pub key: &'a [u8],
    /// The endpoints that are tried no more.
    pub tried: &'a [EndpointId],
    /// Whether those that are ejected are tried, too, wherever a panic could ignore that.
    pub insists: bool,
}

/// Decides where the next attempt of a request goes: the same pool if it has another available endpoint than those
/// that were tried, else the other pools of the split, unless the split says that its share is not passed on: the next
/// best of its key, or by their weights if that is empty. The session that the request has stays the same one; it is
/// not in the answer.
pub fn select_again(
    table: &Table,
    chooser: &mut Chooser,
    upstreams: &mut Upstreams,
    series: &mut LocalSeries,
    earlier: Earlier<'_>,
) -> Selection {
    let Earlier { route, arm, pool, session, key, tried, insists } = earlier;
    let mut claims =
        Claims { table, chooser, upstreams, series, tried, hash: &|_| None, pinned: false, insists };
    // Only a session that has been there before is no new one: any other would get a pin to what takes none.
    let is_there = session.zip(arm).is_some_and(|(session, (_, arm))| session.is_pinned_to(arm));
    let claimed = if is_there { claims.claim_in_session(pool, true) } else { claims.claim(pool, true) };
    match (claimed, arm) {
        (Err(Refused::Unavailable), Some(arm)) => {
            claims.pass_on(route, arm, Some(key).filter(|key| !key.is_empty()), None)
        }
        (claimed, _) => Selection::of(route, arm, pool, claimed, None),
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
    /// What a claim has come to, for a request of a session or of none.
    #[inline]
    pub(super) fn of(
        route: usize,
        arm: Option<(usize, usize)>,
        pool: usize,
        claimed: Result<Lease, Refused>,
        session: Option<Session>,
    ) -> Self {
        match claimed {
            Ok(lease) => Self::Forward { route, arm, pool, lease, session },
            Err(Refused::Unavailable) => Self::Unavailable { route, arm },
            Err(Refused::Shed(limit)) => Self::Shed { route, arm, pool, limit },
        }
    }
}

/// What claiming needs, put together.
pub(super) struct Claims<'a> {
    pub(super) table: &'a Table,
    pub(super) chooser: &'a mut Chooser,
    pub(super) upstreams: &'a mut Upstreams,
    pub(super) series: &'a mut LocalSeries,
    tried: &'a [EndpointId],
    /// The hash of what a pool that balances by a key is to balance the request by.
    hash: &'a dyn Fn(&SplitKey) -> Option<u64>,
    /// Whether endpoints count that take no new session: only for one that is there already.
    pinned: bool,
    /// Whether ejections are ignored in every pool that may panic.
    insists: bool,
}

impl Claims<'_> {
    /// Claims an endpoint of a pool, chosen as the pool balances. A request that is `in_already` needs no other permit
    /// of the pool.
    #[inline]
    pub(super) fn claim(&mut self, pool: usize, in_already: bool) -> Result<Lease, Refused> {
        let pool = &self.table.pools[pool];
        if !pool.bounds.is_gated {
            return self.claim_endpoint(pool);
        }
        let permit = Permit::new(pool, in_already).map_err(|why| self.or_nobody(pool, why))?;
        let lease = self.claim_endpoint(pool)?;
        Ok(permit.pass_to(lease))
    }

    /// Why a pool that gives no permit takes no request: one that has nobody to answer it is not busy but away.
    #[cold]
    fn or_nobody(&self, pool: &Pool, why: Refused) -> Refused {
        if self.could_be_used(pool) { why } else { Refused::Unavailable }
    }

    #[inline]
    fn claim_endpoint(&mut self, pool: &Arc<Pool>) -> Result<Lease, Refused> {
        let most = pool.bounds.most_on_endpoint;
        for _ in 0..CLAIMS {
            let panics = pool.state.panics() || self.insists && pool.may_panic();
            let index = self.balance(pool, panics).or_else(|| self.balance_in_sudden_panic(pool));
            let Some(index) = index else { break };
            if let Ok(lease) = self.upstreams.claim(&pool.endpoints[index].0, most) {
                return Ok(lease);
            }
        }
        Err(self.why_none(pool))
    }

    /// Why none of a pool's endpoints was claimed: are those that could be used full?
    #[cold]
    fn why_none(&self, pool: &Pool) -> Refused {
        match pool.bounds.most_on_endpoint != u64::MAX && self.could_be_used(pool) {
            true => Refused::Shed(Limit::MaxEndpointRequests),
            false => Refused::Unavailable,
        }
    }

    /// Whether any endpoint of a pool takes the request, its limit aside.
    fn could_be_used(&self, pool: &Pool) -> bool {
        let panics = pool.ignores_ejections() || self.insists && pool.may_panic();
        pool.endpoints.iter().any(|(endpoint, weight)| {
            *weight > 0 && takes(endpoint, self.pinned, panics) && !self.tried.contains(&endpoint.id)
        })
    }

    /// Claims an endpoint of a pool for a session that is there already: one that takes every session, or else one
    /// that takes no new ones. A pool that is full sheds its sessions; it does not move them.
    pub(super) fn claim_in_session(&mut self, pool: usize, in_already: bool) -> Result<Lease, Refused> {
        match self.claim(pool, in_already) {
            Err(Refused::Unavailable) => {
                self.pinned = true;
                let claimed = self.claim(pool, in_already);
                self.pinned = false;
                claimed
            }
            claimed => claimed,
        }
    }

    /// Claims the endpoint of a pool at an address for a session that is there already, if it takes the request.
    pub(super) fn claim_at(&mut self, pool: usize, address: SocketAddr) -> Result<Lease, Refused> {
        let pool = &self.table.pools[pool];
        let known = pool.endpoints.iter().find(|(endpoint, _)| endpoint.address == address);
        let may = |endpoint: &Endpoint| takes(endpoint, true, pool.state.panics());
        let known = known.filter(|(endpoint, weight)| *weight > 0 && may(endpoint));
        let (endpoint, _) = known.ok_or(Refused::Unavailable)?;
        let permit = if pool.bounds.is_gated { Some(Permit::new(pool, false)?) } else { None };
        let claimed = self.upstreams.claim(endpoint, pool.bounds.most_on_endpoint);
        let lease = claimed.map_err(|why| match why {
            Claim::Full => Refused::Shed(Limit::MaxEndpointRequests),
            _ => Refused::Unavailable,
        })?;
        Ok(match permit {
            Some(permit) => permit.pass_to(lease),
            None => lease,
        })
    }

    #[inline]
    fn balance(&mut self, pool: &Arc<Pool>, panics: bool) -> Option<usize> {
        let (tried, pinned, most) = (self.tried, self.pinned, pool.bounds.most_on_endpoint);
        let may = |endpoint: &Endpoint| {
            takes(endpoint, pinned, panics)
                && endpoint.occupancy.in_flight() < most
                && !tried.contains(&endpoint.id)
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
            match self.claim(pool, false) {
                Err(Refused::Unavailable) => left &= !(1 << next),
                claimed => return Selection::of(route, Some((split, next)), pool, claimed, session),
            }
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
