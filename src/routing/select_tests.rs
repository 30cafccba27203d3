//! Draws, passing on, balancing and claims, through the whole of `select`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::{
    select::{Selection, copy_key},
    testing::*,
};
use crate::{
    config::{Action, Balance, Redirect, SplitKey, WhenUnavailable},
    model::bucket,
    telemetry::registry::Key,
    upstream::occupancy::Claim,
};

/// Host "a" goes to a split of blue and green, host "b" to a split with a key, host "blue" to the pool.
fn shop(pools: &[(&str, u32)], when_unavailable: WhenUnavailable) -> Bench {
    let names: Vec<(&str, &[u32])> = pools.iter().map(|(pool, _)| (*pool, [1, 1].as_slice())).collect();
    let mut config = config(&names);
    config.splits = vec![
        split("shop", pools, None, when_unavailable),
        split("keyed", pools, Some(SplitKey::Cookie("user".into())), when_unavailable),
    ];
    let to = |of: &str, host: &str, action| Arc::new(route(of, matches(&[host], "/"), action));
    let redirect = Redirect { status: 301, scheme: None, host: None, path: None };
    config.routes = vec![
        to("shop", "a", Action::Split(name("shop"))),
        to("keyed", "b", Action::Split(name("keyed"))),
        to("direct", "blue", Action::Pool(name("blue"))),
        to("away", "old", Action::Redirect(redirect)),
    ];
    Bench::new(config)
}

fn counts(bench: &mut Bench, request: &Request, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let pool = bench.pool(request).unwrap_or("none").to_owned();
        *counts.entry(pool).or_default() += 1;
    }
    counts
}

fn of(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(pool, count)| ((*pool).to_owned(), *count)).collect()
}

const MOSTLY_BLUE: [(&str, u32); 2] = [("blue", 90), ("green", 10)];

#[test]
fn each_target_is_answered_as_its_route_says() {
    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::PassOn);
    assert!(matches!(bench.select(&get("nowhere", "/")), Selection::NoRoute));
    assert!(matches!(bench.select(&get("old", "/")), Selection::Redirect { route: 3 }));
    assert!(matches!(
        bench.select(&get("blue", "/")),
        Selection::Forward { route: 2, arm: None, pool: 0, .. }
    ));
    bench.set_healthy("blue", false);
    assert!(matches!(bench.select(&get("blue", "/")), Selection::Unavailable { route: 2, arm: None }));
}

#[test]
fn a_share_is_exact_over_every_block_and_survives_an_unrelated_publish() {
    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::PassOn);
    // Ten blocks, each cut by a publish that changes another split only.
    for block in 0..10 {
        let mut block_counts = counts(&mut bench, &get("a", "/"), 7);
        bench.set("keyed", &[("blue", block + 1), ("green", 1)]);
        for (pool, count) in counts(&mut bench, &get("a", "/"), 3) {
            *block_counts.entry(pool).or_default() += count;
        }
        assert_eq!(block_counts, of(&[("blue", 9), ("green", 1)]), "block {block}");
    }
}

#[test]
fn new_weights_hold_from_the_next_request_on() {
    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::PassOn);
    bench.pool(&get("a", "/"));
    bench.set("shop", &[("blue", 0), ("green", 100)]);
    assert_eq!(counts(&mut bench, &get("a", "/"), 50), of(&[("green", 50)]));
    bench.set("shop", &[("blue", 1), ("green", 3)]);
    assert_eq!(counts(&mut bench, &get("a", "/"), 40), of(&[("blue", 10), ("green", 30)]));
}

#[test]
fn a_change_of_weights_shares_all_else_with_the_table_before() {
    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::PassOn);
    let before = Arc::clone(&bench.table);
    bench.set("shop", &[("blue", 1), ("green", 1)]);
    assert_eq!(bench.table.generation, before.generation + 1);
    assert!(Arc::ptr_eq(&bench.table.routes, &before.routes));
    assert!(Arc::ptr_eq(&bench.table.matcher, &before.matcher));
    assert!(bench.table.pools.iter().zip(&before.pools).all(|(new, old)| Arc::ptr_eq(new, old)));
    assert!(!Arc::ptr_eq(&bench.table.splits[0], &before.splits[0]));
    assert!(Arc::ptr_eq(&bench.table.splits[1], &before.splits[1]));
}

#[test]
fn a_file_that_moves_everything_keeps_series_and_endpoints() {
    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::PassOn);
    let before = Arc::clone(&bench.table);
    counts(&mut bench, &get("a", "/"), 5);
    bench.config.pools.reverse();
    bench.config.splits.reverse();
    bench.config.routes.reverse();
    bench.publish();
    let table = Arc::clone(&bench.table);
    assert_eq!(table.pools[1].settings.name, before.pools[0].settings.name);
    assert!(Arc::ptr_eq(&table.pools[1].endpoints[0].0, &before.pools[0].endpoints[0].0));
    assert_eq!(table.routes[3].slot, before.routes[0].slot);
    // The split's arms point to the pools' new places, and its block goes on where it stood.
    assert_eq!(table.splits[1].arms[0].pool, 1);
    counts(&mut bench, &get("a", "/"), 5);
    let drawn = |pool: &str| bench.series.counts(&Key::Split(name("shop"), name(pool))).drawn;
    assert_eq!((drawn("blue"), drawn("green")), (9, 1));
}

#[test]
fn a_pool_with_nothing_available_passes_its_share_on_by_weight() {
    let mut bench =
        shop(&[("blue", 60), ("green", 30), ("canary", 10), ("dark", 0)], WhenUnavailable::PassOn);
    bench.set_healthy("blue", false);
    // 600 of 1,000 draws fall on blue; they go 3 to 1, and never to weight 0.
    assert_eq!(counts(&mut bench, &get("a", "/"), 1000), of(&[("canary", 250), ("green", 750)]));
    let drawn = bench.series.counts(&Key::Split(name("shop"), name("blue"))).drawn;
    assert_eq!(drawn, 600, "the draw is counted where it fell");
    bench.set_healthy("green", false);
    assert_eq!(counts(&mut bench, &get("a", "/"), 100), of(&[("canary", 100)]));
    bench.set_healthy("canary", false);
    assert_eq!(
        counts(&mut bench, &get("a", "/"), 100),
        of(&[("none", 100)]),
        "dark is well but has weight 0"
    );
    bench.set_healthy("blue", true);
    assert_eq!(counts(&mut bench, &get("a", "/"), 100), of(&[("blue", 100)]));
}

#[test]
fn a_split_that_says_fail_passes_nothing_on() {
    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::Fail);
    bench.set_healthy("blue", false);
    assert_eq!(counts(&mut bench, &get("a", "/"), 100), of(&[("green", 10), ("none", 90)]));
    bench.set_healthy("green", false);
    let answer = bench.select(&get("b", "/").with("cookie", "user=a"));
    assert!(matches!(answer, Selection::Unavailable { route: 1, arm: Some((1, _)) }), "{answer:?}");
}

#[test]
fn a_key_decides_the_pool_on_every_instance_and_its_next_best_when_that_is_away() {
    let pools = [("blue", 50), ("green", 30), ("canary", 20)];
    let (mut one, mut other) = (shop(&pools, WhenUnavailable::PassOn), shop(&pools, WhenUnavailable::PassOn));
    other.chooser = super::select::Chooser::new(12345);
    for user in 0..200 {
        let request = get("b", "/").with("cookie", &format!("a=b; user={user}"));
        let pool = one.pool(&request).map(str::to_owned);
        assert_eq!(other.pool(&request), pool.as_deref());
        assert_eq!(one.pool(&request), pool.as_deref());
        one.set_healthy("blue", false);
        let next = one.pool(&request).map(str::to_owned);
        assert_eq!(next == pool, pool.as_deref() != Some("blue"), "only blue's keys move");
        assert_eq!(one.pool(&request), next.as_deref());
        one.set_healthy("blue", true);
    }
}

#[test]
fn a_request_without_the_key_is_drawn() {
    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::PassOn);
    for request in
        [get("b", "/"), get("b", "/").with("cookie", "user="), get("b", "/").with("cookie", "other=1")]
    {
        assert_eq!(counts(&mut bench, &request, 20), of(&[("blue", 18), ("green", 2)]));
    }
}

#[test]
fn fields_and_client_addresses_are_keys_too() {
    let mut config = config(&[("blue", &[1]), ("green", &[1])]);
    config.splits = vec![
        split(
            "field",
            &[("blue", 1), ("green", 1)],
            Some(SplitKey::Header("user".into())),
            WhenUnavailable::Fail,
        ),
        split("client", &[("blue", 1), ("green", 1)], Some(SplitKey::ClientIp), WhenUnavailable::Fail),
    ];
    let to = |of: &str| Arc::new(route(of, matches(&[of], "/"), Action::Split(name(of))));
    config.routes = vec![to("field"), to("client")];
    let mut bench = Bench::new(config);
    for number in 0..=255_u8 {
        let expected = |split: &str, key: &str| {
            let pools = ["blue", "green"].map(name);
            let seeded = pools.iter().map(|pool| (pool, pool, bucket::seed(&name(split), pool), 1));
            bucket::pick(key.as_bytes(), seeded).unwrap().to_string()
        };
        let field = get("field", "/").with("user", &number.to_string());
        assert_eq!(bench.pool(&field), Some(&*expected("field", &number.to_string())));
        let v4 = IpAddr::from([192, 0, 2, number]);
        let mapped = IpAddr::from(Ipv4Addr::new(192, 0, 2, number).to_ipv6_mapped());
        let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number) + 1]);
        for (client, key) in [(v4, v4.to_string()), (mapped, v4.to_string()), (v6, v6.to_string())] {
            let request = Request { client, ..get("client", "/") };
            assert_eq!(bench.pool(&request), Some(&*expected("client", &key)));
        }
    }
}

/// One pool behind host "p", with a balance and these weights of its endpoints.
fn pool(balance: Balance, weights: &[u32]) -> Bench {
    let mut config = config(&[("p", weights)]);
    Arc::get_mut(&mut config.pools[0]).unwrap().balance = balance;
    config.routes = vec![Arc::new(route("p", matches(&[], "/"), Action::Pool(name("p"))))];
    Bench::new(config)
}

/// How often each endpoint is taken, each claim given back at once.
fn taken(bench: &mut Bench, requests: usize) -> Vec<usize> {
    let endpoints = bench.table.pools[0].endpoints.len();
    let mut taken = vec![0; endpoints + 1];
    for _ in 0..requests {
        match bench.select(&get("p", "/")) {
            Selection::Forward { lease, .. } => taken[lease.id.index()] += 1,
            _ => taken[endpoints] += 1,
        }
    }
    taken
}

#[test]
fn round_robin_is_exact_by_weight_and_passes_over_the_sick() {
    let mut bench = pool(Balance::RoundRobin, &[1, 2, 0, 1]);
    assert_eq!(taken(&mut bench, 400), [100, 200, 0, 100, 0]);
    let endpoints = bench.table.pools[0].endpoints.clone();
    endpoints[1].0.occupancy.set_healthy(false);
    endpoints[2].0.occupancy.set_healthy(true);
    let counts = taken(&mut bench, 1000);
    assert_eq!((counts[1], counts[2], counts[4]), (0, 0, 0));
    assert!(counts[0].abs_diff(counts[3]) < 150, "{counts:?}");
    endpoints[0].0.occupancy.drain();
    endpoints[3].0.occupancy.drain();
    assert_eq!(taken(&mut bench, 10), [0, 0, 0, 0, 10]);
}

#[test]
fn least_request_shares_an_idle_pool_by_weight() {
    let mut bench = pool(Balance::LeastRequest, &[1, 2, 0, 1]);
    let counts = taken(&mut bench, 40_000);
    assert_eq!((counts[2], counts[4]), (0, 0));
    for (count, expected) in [(counts[0], 10_000), (counts[1], 20_000), (counts[3], 10_000)] {
        assert!(count.abs_diff(expected) < 4 * 100, "{counts:?}");
    }
}

#[test]
fn least_request_evens_out_what_is_in_flight() {
    let mut bench = pool(Balance::LeastRequest, &[1, 1, 2]);
    let mut leases = Vec::new();
    for _ in 0..400 {
        let Selection::Forward { lease, .. } = bench.select(&get("p", "/")) else { panic!("all are well") };
        leases.push(lease);
    }
    let endpoints = bench.table.pools[0].endpoints.clone();
    let in_flight: Vec<u64> = endpoints.iter().map(|(endpoint, _)| endpoint.occupancy.in_flight()).collect();
    for (count, expected) in in_flight.iter().zip([100, 100, 200]) {
        assert!(count.abs_diff(expected) < 10, "{in_flight:?}");
    }
    // Two choices are different ones, so an idle endpoint beside a busy one is always found.
    let mut bench = pool(Balance::LeastRequest, &[1, 1]);
    let busy = bench.table.pools[0].endpoints[0].0.clone();
    assert_eq!(busy.occupancy.claim(u64::MAX), Claim::Granted);
    assert_eq!(taken(&mut bench, 100), [0, 100, 0]);
}

#[test]
fn a_last_healthy_endpoint_among_many_is_found() {
    for balance in [Balance::LeastRequest, Balance::RoundRobin] {
        let mut bench = pool(balance.clone(), &[7; 100]);
        for (endpoint, _) in &bench.table.pools[0].endpoints[1..] {
            endpoint.occupancy.set_healthy(false);
        }
        assert_eq!(taken(&mut bench, 50)[0], 50, "{balance:?}");
        bench.table.pools[0].endpoints[0].0.occupancy.drain();
        assert_eq!(taken(&mut bench, 50)[100], 50, "{balance:?}");
    }
}

#[test]
fn a_pool_with_no_endpoints_or_weights_of_0_is_unavailable() {
    for balance in [Balance::LeastRequest, Balance::RoundRobin] {
        for weights in [&[][..], &[0], &[0, 0]] {
            let mut bench = pool(balance.clone(), weights);
            assert_eq!(taken(&mut bench, 5)[weights.len()], 5, "{balance:?} {weights:?}");
        }
    }
}

#[test]
fn a_selection_counts_in_flight_until_its_lease_ends() {
    let mut bench = pool(Balance::LeastRequest, &[1]);
    let endpoint = bench.table.pools[0].endpoints[0].0.clone();
    let first = bench.select(&get("p", "/"));
    let second = bench.select(&get("p", "/"));
    assert_eq!(endpoint.occupancy.in_flight(), 2);
    drop(first);
    assert_eq!((endpoint.occupancy.drain(), endpoint.occupancy.is_drained()), (1, false));
    assert!(matches!(bench.select(&get("p", "/")), Selection::Unavailable { .. }));
    drop(second);
    assert!(endpoint.occupancy.is_drained());
}

#[test]
fn another_attempt_goes_to_an_endpoint_that_was_not_tried_and_then_to_the_other_pools() {
    let mut bench = shop(&[("blue", 70), ("green", 30), ("dark", 0)], WhenUnavailable::PassOn);
    let mut tried = Vec::new();
    let mut earlier = (0, Some((0, 0)), 0);
    let mut pools = Vec::new();
    while let Selection::Forward { route, arm, pool, lease, .. } = bench.select_again(earlier, &tried) {
        assert!(!tried.contains(&lease.id), "an endpoint is tried once");
        assert_eq!(bench.table.splits[0].arms[arm.unwrap().1].pool, pool);
        tried.push(lease.id);
        pools.push(pool);
        earlier = (route, arm, pool);
    }
    assert_eq!(pools, [0, 0, 1, 1], "dark has weight 0");
    let drawn = bench.series.counts(&Key::Split(name("shop"), name("blue"))).drawn;
    assert_eq!(drawn, 0, "another attempt is no draw");

    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::Fail);
    bench.set_healthy("blue", false);
    let answer = bench.select_again((0, Some((0, 0)), 0), &[]);
    assert!(matches!(answer, Selection::Unavailable { route: 0, arm: Some((0, 0)) }), "{answer:?}");
    let answer = bench.select_again((2, None, 0), &[]);
    assert!(matches!(answer, Selection::Unavailable { route: 2, arm: None }), "{answer:?}");
}

#[test]
fn another_attempt_of_a_keyed_request_goes_to_the_keys_next_best() {
    let mut bench = shop(&[("blue", 80), ("green", 10), ("canary", 10)], WhenUnavailable::PassOn);
    let blue: Vec<_> = bench.table.pools[0].endpoints.iter().map(|(endpoint, _)| endpoint.id).collect();
    let mut next = BTreeMap::<usize, usize>::new();
    for user in 0..300 {
        let request = get("b", "/").with("cookie", &format!("user={user}"));
        bench.set_healthy("blue", true);
        let Selection::Forward { route, arm, pool: 0, .. } = bench.select(&request) else { continue };
        let mut key = Vec::new();
        copy_key(&bench.table.splits[1], &request, &mut key);
        // None of the pool's endpoints could be reached.
        let Selection::Forward { pool, .. } = bench.select_again_by((route, arm, 0), &key, &blue) else {
            panic!("there are other pools");
        };
        bench.set_healthy("blue", false);
        let expected = bench.table.pools[pool].settings.name.clone();
        assert_eq!(bench.pool(&request), Some(expected.as_str()));
        *next.entry(pool).or_default() += 1;
    }
    assert!(next.len() == 2 && next.values().all(|count| *count > 60), "{next:?}");
    let mut key = Vec::new();
    copy_key(&bench.table.splits[0], &get("a", "/").with("cookie", "user=1"), &mut key);
    assert!(key.is_empty(), "a split without a key has none");
}

/// Every kind of selection that goes well, and those where a pool is away, once each part of the table has been met.
#[test]
fn nothing_is_allocated_in_the_steady_state() {
    let mut bench = shop(&[("blue", 60), ("green", 30), ("canary", 10)], WhenUnavailable::PassOn);
    Arc::make_mut(&mut bench.config.pools[0]).balance = Balance::RoundRobin;
    bench.config.splits.push(split(
        "by-client",
        &MOSTLY_BLUE,
        Some(SplitKey::ClientIp),
        WhenUnavailable::PassOn,
    ));
    let by_client = route("by-client", matches(&["*.c"], "/a/b"), Action::Split(name("by-client")));
    bench.config.routes.push(by_client.into());
    bench.set("by-client", &MOSTLY_BLUE);
    let requests = [
        get("a", "/x/y"),
        get("b", "/").with("cookie", "a=b; user=42"),
        get("b", "/"),
        get("x.y.c", "/a/b/c"),
        get("blue", "/"),
        get("old", "/"),
        get("nowhere", "/"),
    ];
    let round = |bench: &mut Bench| {
        for request in &requests {
            let selection = bench.select(request);
            if let Selection::Forward { route, arm, pool, lease, .. } = &selection {
                bench.select_again((*route, *arm, *pool), &[lease.id]);
            }
        }
    };
    for blue_is_well in [true, false] {
        bench.set_healthy("blue", blue_is_well);
        (0..200).for_each(|_| round(&mut bench));
        let counted = allocation_counter::measure(|| (0..200).for_each(|_| round(&mut bench)));
        assert_eq!(counted.count_total, 0, "blue is well: {blue_is_well}");
    }
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1, "the counter counts");
}

#[test]
fn an_attempt_that_insists_goes_to_what_is_ejected_but_not_to_what_drains_or_is_unhealthy() {
    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::PassOn);
    let blue = Arc::clone(&bench.table.pools[0]);
    let [(first, _), (second, _)] = &blue.endpoints[..] else { panic!("blue has two endpoints") };
    let earlier = (2, None, 0);
    second.occupancy.set_ejected(true);
    let answer = bench.select_again(earlier, &[first.id]);
    assert!(matches!(answer, Selection::Unavailable { .. }), "{answer:?}");
    let answer = bench.insist(earlier, &[first.id]);
    assert!(matches!(&answer, Selection::Forward { lease, .. } if lease.id == second.id), "{answer:?}");
    drop(answer);
    let answer = bench.insist(earlier, &[first.id, second.id]);
    assert!(matches!(answer, Selection::Unavailable { .. }), "both were tried: {answer:?}");
    second.occupancy.set_healthy(false);
    let answer = bench.insist(earlier, &[first.id]);
    assert!(matches!(answer, Selection::Unavailable { .. }), "{answer:?}");
    second.occupancy.set_healthy(true);
    second.occupancy.drain();
    let answer = bench.insist(earlier, &[first.id]);
    assert!(matches!(answer, Selection::Unavailable { .. }), "{answer:?}");
    second.occupancy.undrain();
    Arc::make_mut(&mut bench.config.pools[0]).panic_threshold = 0.0;
    bench.publish();
    let answer = bench.insist(earlier, &[first.id]);
    assert!(matches!(answer, Selection::Unavailable { .. }), "ejections are never ignored: {answer:?}");
}

#[test]
fn what_is_ejected_gets_nothing_unless_the_pool_panics_or_has_nothing_else() {
    let mut bench = shop(&MOSTLY_BLUE, WhenUnavailable::PassOn);
    let blue = Arc::clone(&bench.table.pools[0]);
    let [(first, _), (second, _)] = &blue.endpoints[..] else { panic!("blue has two endpoints") };
    let mut of_first = |requests: usize| {
        let is_first =
            |selection| matches!(selection, Selection::Forward { lease, .. } if lease.id == first.id);
        (0..requests).filter(|_| is_first(bench.select(&get("blue", "/")))).count()
    };
    first.occupancy.set_ejected(true);
    assert_eq!(of_first(100), 0);
    blue.state.set_panic(true);
    assert!((20..80).contains(&of_first(100)), "both share in a panic");
    blue.state.set_panic(false);
    assert_eq!(of_first(100), 0);
    second.occupancy.drain();
    assert_eq!(of_first(100), 100, "nobody has declared a panic yet, and no request is lost");
    first.occupancy.set_healthy(false);
    assert_eq!(counts(&mut bench, &get("a", "/"), 10), of(&[("green", 10)]), "an unhealthy one gets nothing");
}
