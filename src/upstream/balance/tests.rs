//! Properties of the choices by a key, and the course of slow start.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::{bounded::Bound, *};
use crate::{
    model::name::Name,
    telemetry::registry::Registry as Series,
    upstream::{occupancy::Claim, registry::Registry},
};

/// Endpoints at these ports with these weights.
fn pool(of: &[(u16, u32)]) -> Vec<(Arc<Endpoint>, u32)> {
    let (mut registry, series) = (Registry::default(), Series::default());
    let name = Name::new("app").unwrap();
    let mut endpoint = |port: u16| {
        let address = SocketAddr::from(([10, 0, (port >> 8) as u8, port as u8], 80));
        registry.endpoint(&name, address, false, &series)
    };
    of.iter().map(|(port, weight)| (endpoint(*port), *weight)).collect()
}

fn even(count: u16) -> Vec<(Arc<Endpoint>, u32)> {
    pool(&(0..count).map(|port| (port, 1)).collect::<Vec<_>>())
}

fn hash(key: u32) -> u64 {
    xxh3_64(format!("user-{key}").as_bytes())
}

/// No bound at all: whose a key is, whatever the load.
const ANY: Bound = Bound { max_load: 100_000, in_flight: 1 << 40 };

/// The address that each key comes to.
fn owners(endpoints: &Weighted, keys: u32, may: impl Fn(&Endpoint) -> bool) -> Vec<Option<SocketAddr>> {
    let balancer = Balancer::new(endpoints, true);
    let mut rng = fastrand::Rng::with_seed(1);
    let owner = |key| {
        let index = balancer.by_key(endpoints, hash(key), ANY, &mut rng, None, &may)?;
        Some(endpoints[index].0.address)
    };
    (0..keys).map(owner).collect()
}

#[test]
fn keys_are_shared_by_weight() {
    let weights = [1, 2, 0, 5, 2];
    let endpoints = pool(&(0..).zip(weights).collect::<Vec<_>>());
    let mut counts = BTreeMap::new();
    for owner in owners(&endpoints, 50_000, |_| true) {
        *counts.entry(owner.unwrap()).or_insert(0_u32) += 1;
    }
    for (endpoint, weight) in &endpoints {
        let count = f64::from(counts.get(&endpoint.address).copied().unwrap_or(0));
        let share = f64::from(*weight) / 10.0;
        let sigma = (50_000.0 * share * (1.0 - share)).sqrt();
        assert!(
            (count - 50_000.0 * share).abs() <= 5.0 * sigma,
            "{} has {count} at {share}",
            endpoint.address
        );
    }
}

/// The table's own evenness, apart from that of the keys.
#[test]
fn slots_are_shared_by_weight() {
    for weights in [vec![1; 7], vec![1, 2, 3, 1000], vec![3; 40], vec![1, 1, 1_000_000]] {
        let endpoints = weights
            .iter()
            .zip(0..)
            .map(|(weight, port)| (SocketAddr::from(([10, 0, 0, 1], 1000 + port)), *weight));
        let maglev = Maglev::new(endpoints);
        let mut counts = vec![0_u64; weights.len()];
        maglev.walk(0).for_each(|index| counts[index] += 1);
        let (sum, slots) = (weights.iter().map(|weight| u64::from(*weight)).sum::<u64>(), 4_099);
        assert_eq!(counts.iter().sum::<u64>(), slots);
        for (count, weight) in counts.iter().zip(&weights) {
            let share = slots as f64 * f64::from(*weight) / sum as f64;
            // Rounding down costs each at most a slot, which those of more weight get.
            let bound = if weights.iter().all(|other| other == weight) { 1.0 } else { weights.len() as f64 };
            let stray = (*count as f64 - share).abs();
            assert!(stray <= bound, "{count} slots at {share}: {weights:?}");
        }
    }
}

#[test]
fn an_endpoint_that_leaves_moves_nearly_only_its_own_keys_and_one_that_is_away_only_its_own() {
    let endpoints = even(20);
    let before = owners(&endpoints, 20_000, |_| true);
    let gone = endpoints[7].0.address;
    let away = owners(&endpoints, 20_000, |endpoint| endpoint.address != gone);
    let left: Vec<_> = endpoints.iter().filter(|(endpoint, _)| endpoint.address != gone).cloned().collect();
    let left = owners(&left, 20_000, |_| true);
    let mut moved = 0;
    let mut to = BTreeSet::new();
    for ((before, away), left) in before.iter().zip(&away).zip(&left) {
        if *before == Some(gone) {
            to.insert(*away);
            assert_ne!(*left, Some(gone));
        } else {
            assert_eq!(away, before, "a key of an endpoint that is there moved");
            moved += u32::from(left != before);
        }
    }
    assert!(to.len() > 15, "its keys are spread over the others: {to:?}");
    assert!(moved < 20_000 * 5 / 100, "{moved} of 20000 keys of other endpoints moved");
}

#[test]
fn an_endpoint_that_comes_takes_its_share_and_moves_few_else() {
    let before = owners(&even(20), 20_000, |_| true);
    let after = owners(&even(21), 20_000, |_| true);
    let new = even(21)[20].0.address;
    let taken = after.iter().filter(|owner| **owner == Some(new)).count();
    let between = before.iter().zip(&after).filter(|(a, b)| a != b && **b != Some(new)).count();
    assert!(taken.abs_diff(20_000 / 21) < 150, "{taken}");
    assert!(between < 20_000 * 5 / 100, "{between}");
}

#[test]
fn raising_a_weight_moves_few_keys_from_elsewhere_to_elsewhere() {
    let of = |raised| (0..20).map(|port| (port, if port == 3 { raised } else { 10 })).collect::<Vec<_>>();
    let before = owners(&pool(&of(10)), 20_000, |_| true);
    let after = owners(&pool(&of(20)), 20_000, |_| true);
    let grown = Some(pool(&of(10))[3].0.address);
    let lost = before.iter().zip(&after).filter(|(a, b)| **a == grown && **b != grown).count();
    let between = before.iter().zip(&after).filter(|(a, b)| a != b && **b != grown).count();
    assert!(lost < 60, "{lost} keys left the endpoint whose weight rose");
    assert!(between < 20_000 * 8 / 100, "{between}");
}

#[test]
fn the_order_of_the_endpoints_is_no_matter() {
    let mut of: Vec<_> = (0..30).map(|port| (port, u32::from(port % 3 + 1))).collect();
    let one = owners(&pool(&of), 2_000, |_| true);
    fastrand::Rng::with_seed(3).shuffle(&mut of);
    assert_eq!(owners(&pool(&of), 2_000, |_| true), one);
}

/// Computed with Python's xxhash, by the program in `docs/balancing.md`.
#[test]
fn the_published_vectors_hold() {
    let address = |port| SocketAddr::from(([10, 0, 0, port], 8080));
    let even = Maglev::new((1..=3).map(|port| (address(port), 1)));
    let uneven = Maglev::new([(address(1), 1), (address(2), 2), (address(3), 5)].into_iter());
    let first = |maglev: &Maglev, key: &str| {
        maglev.walk(xxh3_64(key.as_bytes())).next().map(|index| index + 1).unwrap()
    };
    for (key, owners) in VECTORS {
        assert_eq!([first(&even, key), first(&uneven, key)], owners, "{key}");
    }
}

/// Key, its endpoint with equal weights, its endpoint with weights 1, 2 and 5.
const VECTORS: [(&str, [usize; 2]); 6] = [
    ("a", [2, 2]),
    ("alice", [3, 3]),
    ("bob", [3, 3]),
    ("user-42", [2, 2]),
    ("203.0.113.7", [1, 1]),
    ("zo\u{eb}", [3, 3]),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However the keys are chosen, also all the same: nobody has more than its part, rounded up, at the time when it
    /// takes a request.
    #[test]
    fn no_endpoint_takes_more_than_its_bound(
        weights in prop::collection::vec(0_u32..20, 1..12),
        keys in prop::collection::vec(0_u32..5, 1..400),
        away: prop::sample::Index,
        max_load in prop_oneof![Just(100_u32), Just(125), Just(200)],
        seed: u64,
    ) {
        let endpoints = pool(&(0..).zip(weights.iter().copied()).collect::<Vec<_>>());
        let away = endpoints[away.index(endpoints.len())].0.id;
        let usable = |endpoint: &Endpoint| endpoint.id != away;
        let sum: u64 = endpoints.iter().filter(|(endpoint, _)| usable(endpoint))
            .map(|(_, weight)| u64::from(*weight)).sum();
        let balancer = Balancer::new(&endpoints, true);
        let mut rng = fastrand::Rng::with_seed(seed);
        for (taken, key) in (1_u64..).zip(keys) {
            let bound = Bound { max_load, in_flight: taken };
            let chosen = balancer.by_key(&endpoints, hash(key), bound, &mut rng, None, usable);
            prop_assert_eq!(chosen.is_some(), sum > 0);
            let Some(chosen) = chosen else { break };
            let (endpoint, weight) = &endpoints[chosen];
            prop_assert!(usable(endpoint) && *weight > 0);
            prop_assert_eq!(endpoint.occupancy.claim(u64::MAX), Claim::Granted);
            let most = (u64::from(max_load) * u64::from(*weight) * taken).div_ceil(100 * sum);
            prop_assert!(endpoint.occupancy.in_flight() <= most, "{} of {most}", endpoint.occupancy.in_flight());
        }
    }

    /// A key that can't have its endpoint has the same second one each time, and comes back when it can.
    #[test]
    fn overload_moves_a_key_in_a_fixed_order(key: u32, count in 2_u16..50, seed: u64) {
        let endpoints = even(count);
        let balancer = Balancer::new(&endpoints, true);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut choose = |in_flight| {
            let bound = Bound { max_load: 125, in_flight };
            balancer.by_key(&endpoints, hash(key), bound, &mut rng, None, |_| true).unwrap()
        };
        let own = choose(1);
        prop_assert_eq!(choose(1), own);
        let load = &endpoints[own].0.occupancy;
        for _ in 0..3 {
            prop_assert_eq!(load.claim(u64::MAX), Claim::Granted);
        }
        let second = choose(4);
        if count > 2 {
            prop_assert_ne!(second, own);
        }
        prop_assert_eq!(choose(4), second);
        (0..3).for_each(|_| load.release());
        prop_assert_eq!(choose(1), own);
    }
}

/// Thousands of endpoints cost a key a few looks; looking at all of them would be 5,000.
#[test]
fn a_large_pool_is_cheap() {
    let endpoints = even(5_000);
    let balancer = Balancer::new(&endpoints, true);
    let looked = Cell::new(0_u64);
    let mut rng = fastrand::Rng::with_seed(5);
    let may = |_: &Endpoint| {
        looked.set(looked.get() + 1);
        true
    };
    for key in 0..20_000 {
        balancer.by_key(&endpoints, hash(key), ANY, &mut rng, None, may).unwrap();
    }
    assert!(looked.get() / 20_000 < 40, "{} looks for a key", looked.get() / 20_000);
}

const SLOW: SlowStart = SlowStart { window: Duration::from_secs(60), aggression: 1.0, min_weight: 0.1 };

/// The share of the last endpoint `age` after it became available, of so many choices.
fn share(
    endpoints: &Weighted,
    since: Instant,
    age: u64,
    mut choose: impl FnMut(&Warming<'_>) -> usize,
) -> f64 {
    let mut count = 0;
    for _ in 0..20_000 {
        let warming = Warming::new(&SLOW, Some(since + Duration::from_secs(age)));
        count += u32::from(choose(&warming) == endpoints.len() - 1);
    }
    f64::from(count) / 20_000.0
}

#[test]
fn a_new_endpoints_share_follows_the_curve() {
    for by_turn in [false, true] {
        let endpoints = even(4);
        let balancer = Balancer::new(&endpoints, false);
        let since = Instant::now();
        endpoints[3].0.became_available(since);
        let mut rng = fastrand::Rng::with_seed(9);
        let mut sequence = Sequence::new([1; 4]).unwrap();
        for (age, factor) in
            [(0, 0.1), (15, 0.25), (30, 0.5), (45, 0.75), (59, 59.0 / 60.0), (60, 1.0), (90, 1.0)]
        {
            let share = share(&endpoints, since, age, |warming| {
                let warming = Some(warming);
                let chosen = match by_turn {
                    true => balancer.round_robin(&endpoints, &mut sequence, &mut rng, warming, |_| true),
                    false => balancer.least_request(&endpoints, &mut rng, warming, |_| true),
                };
                chosen.unwrap()
            });
            let expected = factor / (3.0 + factor);
            assert!((share - expected).abs() < 0.015, "by turn {by_turn}, {age} s: {share} of {expected}");
        }
        assert!(endpoints[3].0.warmth.is_warm());
    }
}

#[test]
fn endpoints_that_are_all_new_share_as_ever() {
    let endpoints = even(3);
    let since = Instant::now();
    endpoints.iter().for_each(|(endpoint, _)| endpoint.became_available(since));
    let balancer = Balancer::new(&endpoints, true);
    let mut rng = fastrand::Rng::with_seed(9);
    let drawn = share(&endpoints, since, 1, |warming| {
        balancer.least_request(&endpoints, &mut rng, Some(warming), |_| true).unwrap()
    });
    assert!((drawn - 1.0 / 3.0).abs() < 0.02, "{drawn}");
    let bound = Bound { max_load: 125, in_flight: 1 };
    let warming = Warming::new(&SLOW, Some(since));
    assert!(balancer.by_key(&endpoints, 7, bound, &mut rng, Some(&warming), |_| true).is_some());
}

/// A cold endpoint's part of the bound is its part of the weight.
#[test]
fn a_key_of_a_cold_endpoint_goes_on_sooner() {
    let endpoints = even(2);
    let balancer = Balancer::new(&endpoints, true);
    let since = Instant::now();
    endpoints[0].0.became_available(since);
    let mut rng = fastrand::Rng::with_seed(9);
    let mut taken = [0_u64; 2];
    for key in 0..1_000 {
        let warming = Warming::new(&SLOW, Some(since));
        let bound = Bound { max_load: 125, in_flight: u64::from(key) + 1 };
        let chosen =
            balancer.by_key(&endpoints, hash(key), bound, &mut rng, Some(&warming), |_| true).unwrap();
        assert_eq!(endpoints[chosen].0.occupancy.claim(u64::MAX), Claim::Granted);
        taken[chosen] += 1;
    }
    // 1.25 x 0.1 / 1.1 of a thousand, rounded up.
    assert!((100..=115).contains(&taken[0]), "{taken:?}");
}
