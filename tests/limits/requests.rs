//! Requests in flight: caps of the pool and of an endpoint, the limit that finds itself, and the bound of a balancing
//! by key.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    GET, Held, asking, assert_all_returned, assert_shed, holding, shed,
    support::{self, Client, Setup, Switchback, Upstream, upstream::OK, wait_until},
};

#[test]
fn requests_over_the_pools_cap_are_turned_away_at_once() {
    let (upstream, held) = holding();
    let switchback = Setup::new().global("workers = 2").pool("max_requests = 2").start(&upstream);
    let within: Vec<_> = (0..2).map(|_| asking(&switchback)).collect();
    wait_until("two are in flight", || held.count() == 2);
    for _ in 0..5 {
        let since = Instant::now();
        assert_shed(&switchback.client().exchange(GET).whole(), "max_requests");
        assert!(since.elapsed() < Duration::from_secs(1), "not at once: {:?}", since.elapsed());
    }
    assert_eq!(shed(&switchback, "max_requests"), 5);
    let status = switchback.admin("GET", "/v1/pools/app", "").text();
    assert!(status.contains(r#""max_requests":{"limit":2,"used":2}"#), "{status}");
    held.let_go(3);
    within.into_iter().for_each(|asking| assert_eq!(asking.join().unwrap().status, 200));
    assert_all_returned(&switchback);
    assert_eq!(switchback.client().exchange(GET).whole().status, 200, "there is room again");
}

#[test]
fn a_full_endpoint_is_passed_over_and_all_full_ones_turn_away() {
    let ((one, held_one), (other, held_other)) = (holding(), holding());
    let setup =
        Setup::new().global("workers = 2").pool("max_endpoint_requests = 2\nbalance = \"round_robin\"");
    let switchback = setup.start_all(&[&one, &other]);
    let within: Vec<_> = (0..4).map(|_| asking(&switchback)).collect();
    wait_until("both are full", || (held_one.count(), held_other.count()) == (2, 2));
    assert_shed(&switchback.client().exchange(GET).whole(), "max_endpoint_requests");
    assert_eq!(shed(&switchback, "max_endpoint_requests"), 1);
    held_one.let_go(3);
    wait_until("one has room", || held_one.count() == 0);
    (0..1).for_each(|_| assert_eq!(switchback.client().exchange(GET).whole().status, 200));
    held_other.let_go(2);
    within.into_iter().for_each(|asking| assert_eq!(asking.join().unwrap().status, 200));
    assert_all_returned(&switchback);
}

#[test]
fn a_full_version_does_not_spill_over_to_the_other_one() {
    let (blue, held) = holding();
    let green = Upstream::ok();
    let config = support::config::blue_green(2, (1, 1), "", &blue, &green)
        .replace("[pool.green]", "max_requests = 1\n[pool.green]");
    let switchback = Switchback::start(&config);
    let mut clients = Vec::new();
    while held.count() == 0 {
        clients.push(asking(&switchback));
        let asked = clients.len();
        wait_until("it is answered or held", || {
            held.count() == 1 || clients.iter().filter(|asking| asking.is_finished()).count() == asked
        });
    }
    let before = green.requests();
    let mut statuses = [0, 0];
    let mut client = switchback.client();
    for _ in 0..200 {
        let answer = client.exchange(GET).whole();
        statuses[usize::from(answer.status == 503)] += 1;
    }
    assert_eq!(green.requests() - before, statuses[0]);
    assert!((90..=110).contains(&statuses[0]), "green kept its half, and no more: {statuses:?}");
    held.let_go(1);
    clients.into_iter().for_each(|asking| assert_eq!(asking.join().unwrap().status, 200));
}

#[test]
fn a_limit_that_finds_itself_follows_a_slow_upstream() {
    // It serves two at a time, 10 ms each.
    let serving = Arc::new(Held::default());
    serving.let_go(2);
    let at_upstream = Arc::clone(&serving);
    let upstream = Upstream::start(move |exchange| {
        exchange.body();
        at_upstream.pass();
        thread::sleep(Duration::from_millis(10));
        at_upstream.let_go(1);
        exchange.send(OK);
    });
    let pool = "adaptive = { min = 2, max = 100, tolerance = 1.5 }";
    let switchback = Setup::new().global("workers = 2").pool(pool).start(&upstream);
    let over = Arc::new(AtomicBool::new(false));
    let address = switchback.address;
    let clients: Vec<_> = (0..24)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let (mut served, mut shed) = (0, 0);
                while !over.load(SeqCst) {
                    let answer = client.exchange(GET).whole();
                    match answer.status {
                        200 => served += 1,
                        _ => {
                            assert_shed(&answer, "adaptive");
                            shed += 1;
                            thread::sleep(Duration::from_millis(10));
                        }
                    }
                }
                (served, shed)
            })
        })
        .collect();
    wait_until("it has measured", || upstream.requests() > 300);
    let limits: Vec<f64> = (0..20)
        .map(|_| {
            thread::sleep(Duration::from_millis(50));
            switchback.metric("switchback_pool_adaptive_limit")
        })
        .collect();
    over.store(true, SeqCst);
    let counts: Vec<(u32, u32)> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(limits.iter().all(|limit| (2.0..=20.0).contains(limit)), "{limits:?}");
    assert!(counts.iter().map(|(served, _)| served).sum::<u32>() > 200, "{counts:?}");
    assert!(shed(&switchback, "adaptive") > 0);
    assert_all_returned(&switchback);
}

#[test]
fn a_key_comes_to_one_endpoint_and_an_overloaded_one_passes_it_on() {
    let upstreams: Vec<_> = (0..4).map(|_| holding()).collect();
    let endpoints: Vec<_> = upstreams.iter().map(|(upstream, _)| upstream).collect();
    let pool = "balance = \"hash\"\nhash = { header = \"X-User\", max_load = 1.25 }";
    let switchback = Setup::new().global("workers = 2").pool(pool).start_all(&endpoints);
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nX-User: alice\r\n\r\n";
    upstreams.iter().for_each(|(_, held)| held.let_go(20));
    // On one connection, so that each has ended before the next: two at once would be two of the pool's in flight.
    let mut client = switchback.client();
    (0..20).for_each(|_| assert_eq!(client.exchange(request).whole().status, 200));
    let used: Vec<_> = endpoints.iter().map(|upstream| upstream.requests()).collect();
    assert_eq!(used.iter().filter(|count| **count == 20).count(), 1, "{used:?}");
    assert_eq!(used.iter().sum::<usize>(), 20, "{used:?}");
    let own = used.iter().position(|count| *count == 20).unwrap();
    // Eight at once: 1.25 x 8 / 4, rounded up, is three for each.
    let address = switchback.address;
    for (_, held) in &upstreams {
        held.locked().0 = 0;
    }
    let at_once: Vec<_> = (0..8)
        .map(|_| thread::spawn(move || Client::connect(address).exchange(request).whole().status))
        .collect();
    wait_until("all are there", || upstreams.iter().map(|(_, held)| held.count()).sum::<usize>() == 8);
    let counts: Vec<_> = upstreams.iter().map(|(_, held)| held.count()).collect();
    assert!(counts.iter().all(|count| *count <= 3), "{counts:?}");
    assert!(counts[own] >= 2, "its own has its part: {counts:?}");
    upstreams.iter().for_each(|(_, held)| held.let_go(8));
    let statuses: BTreeSet<_> = at_once.into_iter().map(|asking| asking.join().unwrap()).collect();
    assert_eq!(statuses, BTreeSet::from([200]));
    assert_all_returned(&switchback);
}
