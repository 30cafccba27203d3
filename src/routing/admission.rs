//! What a pool's limits mean for its requests in flight, compiled for the request path.
//!
//! Invariant: a pool that is at a limit turns requests away; it does not pass them on to another version, so that
//! load alone never changes a release's shares.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::table::{Pool, Table};
use crate::{
    config::{self, Balance},
    upstream::{endpoint::Endpoint, gate::Limit, local::Lease, pool::PoolState},
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

impl Pool {
    /// The limit by which the pool would turn away a request now that `may` use some of its endpoints, at least one.
    pub(super) fn full(&self, may: impl Fn(&Endpoint) -> bool) -> Option<Limit> {
        self.state.gate.full(self.bounds.most).or_else(|| {
            let most = self.bounds.most_on_endpoint;
            let mut usable = self.endpoints.iter().filter(|(endpoint, weight)| *weight > 0 && may(endpoint));
            let all_full = usable.all(|(endpoint, _)| endpoint.occupancy.in_flight() >= most);
            all_full.then_some(Limit::MaxEndpointRequests)
        })
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

impl Table {
    /// Says to all that outlives tables what this one means for it. To be called right before the table is published,
    /// in the place of `before`: one that is never published then has changed nothing.
    pub fn come_into_force(&self, before: Option<&Table>) {
        let before = before.map_or(&[][..], |table| &table.pools);
        let before: HashMap<_, _> = before.iter().map(|pool| (&pool.settings.name, pool)).collect();
        for pool in &self.pools {
            let known = before.get(&pool.settings.name).copied();
            if !known.is_some_and(|known| Arc::ptr_eq(known, pool)) {
                prepare(pool, known);
            }
        }
    }
}

/// Tells what is shared of a pool about its limits, and begins to warm the endpoints that it did not have before.
/// Those of a pool that is new are all alike, and are not warmed.
fn prepare(pool: &Pool, before: Option<&Arc<Pool>>) {
    let Pool { settings, endpoints, state, .. } = pool;
    state.gate.adapt(settings.limits.adaptive);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::{Action, HashBalance, SlowStart, SplitKey, WhenUnavailable},
        model::adaptive::Adaptive,
        routing::{build::build, select::Selection, testing::*},
        upstream::gate::AdaptiveLimit,
    };

    /// Host "a" goes to a split of blue and green, both with the pool settings that `edit` makes; "blue" to the pool.
    fn shop(weights: &[u32], edit: impl Fn(&mut config::Pool)) -> Bench {
        let mut config = config(&[("blue", weights), ("green", weights)]);
        config.pools.iter_mut().for_each(|pool| edit(Arc::make_mut(pool)));
        let both = [("blue", 50), ("green", 50)];
        config.splits = vec![split("shop", &both, None, WhenUnavailable::PassOn)];
        let to = |of, host, action| Arc::new(route(of, matches(&[host], "/"), action));
        config.routes = vec![
            to("shop", "a", Action::Split(name("shop"))),
            to("direct", "blue", Action::Pool(name("blue"))),
        ];
        Bench::new(config)
    }

    fn in_flight(bench: &Bench, pool: usize) -> Vec<u64> {
        let endpoints = bench.table.pools[pool].endpoints.iter();
        endpoints.map(|(endpoint, _)| endpoint.occupancy.in_flight()).collect()
    }

    #[test]
    fn a_full_pool_turns_away_and_passes_nothing_on_to_the_other_version() {
        let mut bench = shop(&[1, 1], |pool| pool.limits.max_requests = Some(3));
        let held: Vec<_> = (0..100).map(|_| bench.select(&get("a", "/"))).collect();
        let shed = |selection: &&Selection| {
            matches!(selection, Selection::Shed { arm: Some(_), limit: Limit::MaxRequests, .. })
        };
        assert_eq!(held.iter().filter(shed).count(), 94);
        assert_eq!([0, 1].map(|pool| in_flight(&bench, pool).iter().sum::<u64>()), [3, 3]);
        drop(held);
        assert_eq!([0, 1].map(|pool| bench.table.pools[pool].state.gate.in_flight()), [0, 0]);
        // What a pool that is away passes on may find the other one full: it is turned away there, too.
        bench.set_healthy("green", false);
        let held: Vec<_> = (0..10).map(|_| bench.select(&get("a", "/"))).collect();
        let forwarded =
            held.iter().filter(|selection| matches!(selection, Selection::Forward { pool: 0, .. }));
        assert_eq!(forwarded.count(), 3);
        assert!(matches!(held[9], Selection::Shed { pool: 0, .. }), "{:?}", held[9]);
    }

    #[test]
    fn a_full_pool_whose_endpoints_have_all_gone_has_nobody_to_answer_and_passes_on() {
        let mut bench = shop(&[1, 1], |pool| pool.limits.max_requests = Some(3));
        let held: Vec<_> = (0..3).map(|_| bench.select(&get("blue", "/"))).collect();
        assert!(matches!(bench.select(&get("blue", "/")), Selection::Shed { .. }));
        bench.set_healthy("blue", false);
        assert!(matches!(bench.select(&get("blue", "/")), Selection::Unavailable { .. }));
        for _ in 0..3 {
            let passed_on = bench.select(&get("a", "/"));
            assert!(matches!(passed_on, Selection::Forward { pool: 1, .. }), "{passed_on:?}");
        }
        drop(held);
        assert_eq!(bench.table.pools[0].state.gate.in_flight(), 0);
    }

    #[test]
    fn full_endpoints_are_passed_over_and_all_of_them_turn_away() {
        for balance in [Balance::LeastRequest, Balance::RoundRobin, hash()] {
            let mut bench = shop(&[1, 5, 0], |pool| {
                pool.limits.max_endpoint_requests = Some(2);
                pool.balance = balance.clone();
            });
            let request = get("blue", "/").with("x-user", "alice");
            let mut held: Vec<_> = (0..4).map(|_| bench.select(&request)).collect();
            assert_eq!(in_flight(&bench, 0), [2, 2, 0], "{balance:?}");
            let full = bench.select(&request);
            let expected = matches!(full, Selection::Shed { limit: Limit::MaxEndpointRequests, pool: 0, .. });
            assert!(expected, "{balance:?}: {full:?}");
            held.pop();
            assert!(matches!(bench.select(&request), Selection::Forward { .. }), "{balance:?}");
            drop(held);
            bench.set_healthy("blue", false);
            assert!(matches!(bench.select(&request), Selection::Unavailable { .. }), "{balance:?}");
            assert_eq!(bench.table.pools[0].state.gate.in_flight(), 0, "{balance:?}");
        }
    }

    #[test]
    fn another_attempt_of_a_request_in_a_full_pool_is_let_in() {
        let mut bench = shop(&[1, 1], |pool| pool.limits.max_requests = Some(1));
        let Selection::Forward { route, arm, pool, lease, .. } = bench.select(&get("blue", "/")) else {
            panic!("there is room");
        };
        let again = bench.select_again((route, arm, pool), &[lease.id]);
        assert!(matches!(again, Selection::Forward { .. }), "{again:?}");
        drop(lease);
        assert!(matches!(bench.select(&get("blue", "/")), Selection::Shed { .. }), "it still has its permit");
        drop(again);
        assert!(matches!(bench.select(&get("blue", "/")), Selection::Forward { .. }));
    }

    fn hash() -> Balance {
        Balance::Hash(HashBalance { key: SplitKey::Header("x-user".into()), max_load: 125 })
    }

    #[test]
    fn a_key_keeps_its_endpoint_and_a_request_without_it_goes_to_the_least_loaded() {
        let mut bench = shop(&[1; 8], |pool| pool.balance = hash());
        let mut endpoint = |request: &Request| match bench.select(request) {
            Selection::Forward { lease, .. } => lease.id,
            other => panic!("{other:?}"),
        };
        let mut seen = HashSet::new();
        for user in 0..100 {
            let request = get("blue", "/").with("x-user", &format!("user-{user}"));
            let own = endpoint(&request);
            seen.insert(own);
            assert!((0..10).all(|_| endpoint(&request) == own), "user-{user} moved");
        }
        assert_eq!(seen.len(), 8, "keys are on all endpoints");
        let without: HashSet<_> = (0..100).map(|_| endpoint(&get("blue", "/"))).collect();
        assert_eq!(without.len(), 8, "a request without a key has no endpoint of its own");
    }

    #[test]
    fn limits_change_with_the_table_that_says_so_and_not_before_it_is_in_force() {
        let mut bench = shop(&[1], |pool| pool.limits.max_connections = Some(1));
        let endpoint = Arc::clone(&bench.table.pools[0].endpoints[0].0);
        assert!(endpoint.places.take() && !endpoint.places.take());
        let waiting = endpoint.places.join();
        let adaptive = Adaptive { min: 2, max: 4, tolerance: 1.5 };
        bench.config.pools.iter_mut().for_each(|pool| {
            let limits = &mut Arc::make_mut(pool).limits;
            (limits.max_connections, limits.adaptive) = (Some(2), Some(adaptive));
        });
        let Bench { config, state, resolved, registry, series, table, .. } = &mut bench;
        drop(build(2, config, state, resolved, registry, series, Some(table)));
        assert_eq!((endpoint.places.taken(), endpoint.state.gate.adaptive().is_some()), (1, false));
        bench.publish();
        assert_eq!((endpoint.places.taken(), endpoint.places.waiting()), (2, 0), "who waited is let in");
        assert_eq!(endpoint.state.gate.adaptive().map(AdaptiveLimit::current), Some(2));
        bench.config.pools.iter_mut().for_each(|pool| Arc::make_mut(pool).limits.adaptive = None);
        bench.publish();
        assert!(endpoint.state.gate.adaptive().is_none());
        endpoint.places.leave(&waiting);
    }

    #[test]
    fn endpoints_that_come_later_are_warmed_and_those_of_the_start_are_not() {
        let slow_start = SlowStart { window: Duration::from_secs(60), aggression: 1.0, min_weight: 0.1 };
        let mut bench = shop(&[1; 3], |pool| pool.slow_start = Some(slow_start));
        let cold = |bench: &Bench| {
            let endpoints = bench.table.pools[0].endpoints.iter();
            endpoints.map(|(endpoint, _)| !endpoint.warmth.is_warm()).collect::<Vec<_>>()
        };
        assert_eq!(cold(&bench), [false; 3]);
        let live = bench.state.pools.get_mut("blue").unwrap();
        let mut new = live.endpoints[0].clone();
        new.address = "127.0.9.9:80".parse().unwrap();
        live.endpoints.push(new);
        bench.publish();
        assert_eq!(cold(&bench), [false, false, false, true]);
        let start = Instant::now();
        let mut share = |after: u64| {
            bench.chooser.set_time(start + Duration::from_secs(after));
            let taken = (0..10_000).filter(|_| match bench.select(&get("blue", "/")) {
                Selection::Forward { lease, .. } => lease.id == bench.table.pools[0].endpoints[3].0.id,
                other => panic!("{other:?}"),
            });
            taken.count() as f64 / 10_000.0
        };
        for (after, factor) in [(0, 0.1), (30, 0.5), (61, 1.0)] {
            let (share, expected) = (share(after), factor / (3.0 + factor));
            assert!((share - expected).abs() < 0.02, "after {after} s: {share} of {expected}");
        }
        assert_eq!(cold(&bench), [false; 4]);
    }
}
