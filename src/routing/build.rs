//! Compiles a table.
//!
//! Invariant: nothing of the new generation can be seen before the whole of it is done, and what did not change is
//! shared with the previous one, by identity. A worker's place in a split's sequence survives by that.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    admission::Bounds,
    matcher::Matcher,
    pins,
    rate_limit::RateLimit,
    table::{Arm, Pool, Route, Split, Table, Target},
};
use crate::{
    config::{Action, Balance, Config},
    model::{
        bucket,
        live_state::{LivePool, LiveState},
        name::Name,
        resolved::Resolved,
    },
    telemetry::registry::{Key, Registry as Series},
    upstream::{balance::Balancer, endpoint::Endpoint, registry::Registry},
};

/// Compiles the table of a generation. Parts that did not change since `previous` are shared with it, so that a
/// change of weights compiles no route anew: all it does for each is to compare one pointer.
pub fn build(
    generation: u64,
    config: &Config,
    state: &LiveState,
    resolved: &Resolved,
    endpoints: &mut Registry,
    series: &Series,
    previous: Option<&Table>,
) -> Table {
    let pools = pools(config, state, resolved, endpoints, series, previous);
    let pool_index = by_name(config.pools.iter().map(|pool| &pool.name));
    let splits = splits(config, state, &pool_index, series, previous);
    let (routes, matcher) = match previous.filter(|previous| same_routes(config, previous)) {
        Some(previous) => (Arc::clone(&previous.routes), Arc::clone(&previous.matcher)),
        None => {
            let routes = routes(config, &pool_index, series, previous);
            let matcher = Arc::new(Matcher::new(&routes));
            (routes, matcher)
        }
    };
    let keys = previous.map(|previous| previous.keys.clone()).unwrap_or_default();
    Table { generation, routes, splits, pools, keys, matcher }
}

fn by_name<'a>(names: impl Iterator<Item = &'a Name>) -> HashMap<&'a Name, usize> {
    names.zip(0..).collect()
}

fn pools(
    config: &Config,
    state: &LiveState,
    resolved: &Resolved,
    registry: &mut Registry,
    series: &Series,
    previous: Option<&Table>,
) -> Vec<Arc<Pool>> {
    let before = previous.map(|table| by_name(table.pools.iter().map(|pool| &pool.settings.name)));
    let compile = |settings: &Arc<crate::config::Pool>| {
        let live = state.pools.get(&settings.name).expect("the live state has every declared pool");
        let endpoints = endpoints(settings, live, resolved, registry, series);
        let known = previous
            .zip(before.as_ref())
            .and_then(|(table, index)| Some(&table.pools[*index.get(&settings.name)?]));
        let same = known.and_then(|pool| {
            let same = Arc::ptr_eq(&pool.settings, settings)
                && pool.endpoints.len() == endpoints.len()
                && pool.endpoints.iter().zip(&endpoints).all(|(a, b)| (a.0.id, a.1) == (b.0.id, b.1));
            same.then(|| Arc::clone(pool))
        });
        same.unwrap_or_else(|| {
            let balancer = Balancer::new(&endpoints, matches!(settings.balance, Balance::Hash(_)));
            let slot = series.declare(&Key::Pool(settings.name.clone()));
            let state = registry.pool(&settings.name);
            let bounds = Bounds::of(settings);
            Arc::new(Pool { settings: Arc::clone(settings), endpoints, slot, state, bounds, balancer })
        })
    };
    config.pools.iter().map(compile).collect()
}

/// A pool's endpoints with their weights. A name stands for all of its addresses; of an address that comes twice, the
/// first counts.
fn endpoints(
    settings: &crate::config::Pool,
    live: &LivePool,
    resolved: &Resolved,
    registry: &mut Registry,
    series: &Series,
) -> Vec<(Arc<Endpoint>, u32)> {
    let mut seen = HashSet::with_capacity(live.endpoints.len());
    let mut endpoints = Vec::with_capacity(live.endpoints.len());
    for declared in &live.endpoints {
        for target in resolved.targets(&declared.address) {
            if seen.insert(target.address) {
                let is_probed = settings.health.is_some();
                let endpoint = registry.endpoint(&settings.name, target.address, is_probed, series);
                endpoints.push((endpoint, u64::from(declared.weight) * u64::from(target.weight)));
            }
        }
    }
    fitting(endpoints)
}

/// Weights of 32 bits. A declared weight times a service's may have 36: if one is over 32, all are divided alike and
/// rounded, so that shares stay what they were. A weight above 0 stays above 0.
fn fitting(endpoints: Vec<(Arc<Endpoint>, u64)>) -> Vec<(Arc<Endpoint>, u32)> {
    let largest = endpoints.iter().map(|(_, weight)| *weight).max().unwrap_or(0);
    let divisor = largest.div_ceil(u64::from(u32::MAX)).max(1);
    let fit = |weight: u64| {
        let scaled = (weight + divisor / 2) / divisor;
        u32::try_from(scaled.max(u64::from(weight > 0))).expect("the largest was divided enough")
    };
    endpoints.into_iter().map(|(endpoint, weight)| (endpoint, fit(weight))).collect()
}

fn splits(
    config: &Config,
    state: &LiveState,
    pools: &HashMap<&Name, usize>,
    series: &Series,
    previous: Option<&Table>,
) -> Vec<Arc<Split>> {
    let before = previous.map(|table| by_name(table.splits.iter().map(|split| &split.settings.name)));
    let compile = |settings: &Arc<crate::config::Split>| {
        let weights = state.weights.get(&settings.name).expect("the live state has every declared split");
        // A pool that drains is passed over as one of weight 0 is, unless nobody else would be left.
        let drains = |pool: &Name| state.pools.get(pool).is_some_and(|pool| pool.drain.is_some());
        let someone_is_left = weights.iter().any(|(pool, weight)| weight > 0 && !drains(pool));
        let released = |pool: &Name| state.released.get(&(settings.name.clone(), pool.clone()));
        let arm = |(pool, weight): (&Name, u32)| Arm {
            pool: *pools.get(pool).expect("weights name declared pools only"),
            weight: if someone_is_left && drains(pool) { 0 } else { weight },
            set_weight: weight,
            slot: series.declare(&Key::Split(settings.name.clone(), pool.clone())),
            seed: bucket::seed(&settings.name, pool),
            released: released(pool).map_or(0, |at| pins::released_until(*at)),
        };
        let arms: Vec<Arm> = weights.iter().map(arm).collect();
        let same = previous.zip(before.as_ref()).and_then(|(table, index)| {
            let split = &table.splits[*index.get(&settings.name)?];
            (Arc::ptr_eq(&split.settings, settings) && split.arms == arms).then(|| Arc::clone(split))
        });
        same.unwrap_or_else(|| Arc::new(Split { settings: Arc::clone(settings), arms }))
    };
    config.splits.iter().map(compile).collect()
}

/// Whether the previous table's routes are those of this file and their indices still mean the same.
fn same_routes(config: &Config, previous: &Table) -> bool {
    fn same<'a>(
        a: impl ExactSizeIterator<Item = &'a Name>,
        b: impl ExactSizeIterator<Item = &'a Name>,
    ) -> bool {
        a.len() == b.len() && a.eq(b)
    }
    config.routes.len() == previous.routes.len()
        && config.routes.iter().zip(&*previous.routes).all(|(new, old)| Arc::ptr_eq(new, &old.settings))
        && same(
            config.pools.iter().map(|pool| &pool.name),
            previous.pools.iter().map(|pool| &pool.settings.name),
        )
        && same(
            config.splits.iter().map(|split| &split.name),
            previous.splits.iter().map(|split| &split.settings.name),
        )
}

fn routes(
    config: &Config,
    pools: &HashMap<&Name, usize>,
    series: &Series,
    previous: Option<&Table>,
) -> Arc<[Route]> {
    let splits = by_name(config.splits.iter().map(|split| &split.name));
    let limits = previous.into_iter().flat_map(|table| &*table.routes);
    let limits = limits.filter_map(|route| Some((&route.settings.name, route.rate_limit.as_ref()?)));
    let limits: HashMap<_, _> = limits.collect();
    let rate_limit = |route: &crate::config::Route| {
        let settings = route.rate_limit.as_ref()?;
        let same = limits.get(&route.name).filter(|limit| limit.settings() == settings);
        Some(same.map_or_else(|| Arc::new(RateLimit::new(settings)), |limit| Arc::clone(limit)))
    };
    let compile = |settings: &Arc<crate::config::Route>| Route {
        target: match &settings.action {
            Action::Split(name) => {
                Target::Split(*splits.get(name).expect("routes name declared splits only"))
            }
            Action::Pool(name) => Target::Pool(*pools.get(name).expect("routes name declared pools only")),
            Action::Redirect(_) => Target::Redirect,
        },
        slot: series.declare(&Key::Route(settings.name.clone())),
        rate_limit: rate_limit(settings),
        settings: Arc::clone(settings),
    };
    config.routes.iter().map(compile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Action, HashBalance, SplitKey},
        model::resolved,
        routing::{select::Selection, testing::*},
    };

    /// The shares of two targets of a service, `declared` with a weight, of which one has twice the weight of the other.
    fn shares(declared: u32, balance: &Balance, weights: [u32; 2]) -> [f64; 2] {
        const REQUESTS: u32 = 30_000;
        let mut config = config(&[("blue", &[1])]);
        Arc::make_mut(&mut config.pools[0]).balance = balance.clone();
        config.routes = vec![Arc::new(route("all", matches(&["a"], "/"), Action::Pool(name("blue"))))];
        let mut bench = Bench::new(config);
        let live = &mut bench.state.pools.get_mut("blue").unwrap().endpoints[0];
        (live.address, live.weight) = ("srv:_http._tcp.app".parse().unwrap(), declared);
        let target = |(weight, last)| resolved::Target { address: ([10, 0, 0, last], 80).into(), weight };
        bench.resolved.set(live.address.clone(), weights.into_iter().zip(1..).map(target).collect());
        bench.publish();
        let first = bench.table.pools[0].endpoints[0].0.id;
        let taken = (0..REQUESTS).filter(|user| {
            match bench.select(&get("a", "/").with("x-user", &format!("user-{user}"))) {
                Selection::Forward { lease, .. } => lease.id == first,
                other => panic!("{other:?}"),
            }
        });
        let share = taken.count() as f64 / f64::from(REQUESTS);
        [share, 1.0 - share]
    }

    #[test]
    fn shares_of_a_service_hold_for_the_largest_weights_too() {
        let hash = Balance::Hash(HashBalance { key: SplitKey::Header("x-user".into()), max_load: 125 });
        for balance in [Balance::LeastRequest, Balance::RoundRobin, hash] {
            for declared in [1, 100_000, 1_000_000] {
                let [larger, smaller] = shares(declared, &balance, [65_535, 32_768]);
                let ratio = larger / smaller;
                assert!((ratio - 2.0).abs() < 0.1, "{declared}, {balance:?}: {ratio} to 1");
            }
            let [_, least] = shares(1_000_000, &balance, [65_535, 1]);
            assert!(least < 0.001, "{balance:?}: {least}");
        }
    }
}
