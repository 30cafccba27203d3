//! What bounds a pool's use, seen from both sides: caps hold over all workers, who waits is served in turn, and what
//! is turned away is told at once.

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use support::{Client, Response, Setup, Switchback, Upstream, upstream::OK, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Holds requests at the upstream until they are let go.
#[derive(Default)]
struct Held {
    /// How many may pass, and how many are held.
    state: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Held {
    fn locked(&self) -> MutexGuard<'_, (usize, usize)> {
        self.state.lock().expect("no panic holds it")
    }

    fn pass(&self) {
        let mut state = self.locked();
        state.1 += 1;
        while state.0 == 0 {
            state = self.changed.wait(state).expect("no panic holds it");
        }
        state.0 -= 1;
        state.1 -= 1;
    }

    fn let_go(&self, count: usize) {
        self.locked().0 += count;
        self.changed.notify_all();
    }

    fn count(&self) -> usize {
        self.locked().1
    }
}

/// An upstream that answers a request when it is let go.
fn holding() -> (Upstream, Arc<Held>) {
    let held = Arc::new(Held::default());
    let at_upstream = Arc::clone(&held);
    let upstream = Upstream::start(move |exchange| {
        exchange.body();
        at_upstream.pass();
        exchange.send(OK);
    });
    (upstream, held)
}

/// A client that has sent a request, and reads its answer on a thread of its own.
fn asking(switchback: &Switchback) -> thread::JoinHandle<Response> {
    let address = switchback.address;
    thread::spawn(move || Client::connect(address).exchange(GET).whole())
}

fn pending(switchback: &Switchback) -> f64 {
    switchback.metric("switchback_pool_requests_pending")
}

fn shed(switchback: &Switchback, limit: &str) -> u64 {
    let metrics = switchback.metrics();
    let start = format!("switchback_pool_shed_total{{pool=\"app\",limit=\"{limit}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&*start));
    value.expect("every limit has its counter").parse().expect("a count")
}

/// Asserts that an answer is that of a limit.
fn assert_shed(answer: &Response, limit: &str) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.head.one("retry-after"), Some("1"), "{answer:?}");
    assert_eq!(answer.head.one("content-type"), Some("application/problem+json"));
    assert!(answer.text().contains(limit), "{answer:?}");
}

/// Waits until everything is as before the first request.
fn assert_all_returned(switchback: &Switchback) {
    for gauge in [
        "switchback_pool_requests_pending",
        "switchback_pool_requests_in_flight",
        "switchback_endpoint_requests_in_flight",
        "switchback_route_requests_in_flight",
    ] {
        wait_until(gauge, || switchback.metric(gauge) == 0.0);
    }
}

#[test]
fn a_cap_of_connections_holds_over_all_workers_under_load() {
    const CAP: usize = 3;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (in_script, highest) = (Arc::clone(&now), Arc::clone(&most));
    let upstream = Upstream::start(move |exchange| {
        highest.fetch_max(in_script.fetch_add(1, SeqCst) + 1, SeqCst);
        exchange.body();
        thread::sleep(Duration::from_micros(300));
        // Some connections end, so that places change hands in every way.
        let closes = exchange.on_connection % 50 == 49;
        in_script.fetch_sub(1, SeqCst);
        exchange.send(OK);
        if closes {
            exchange.close();
        }
    });
    let setup = Setup::new()
        .global("workers = 3")
        .pool(&format!("max_connections = {CAP}\npending_timeout = \"15s\""));
    let switchback = setup.start(&upstream);
    let address = switchback.address;
    let clients: Vec<_> = (0..16)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                (0..60).for_each(|_| assert_eq!(client.exchange(GET).whole().status, 200));
            })
        })
        .collect();
    while !clients.iter().all(thread::JoinHandle::is_finished) {
        let open = switchback.metric("switchback_endpoint_connections_open");
        assert!(open <= CAP as f64, "{open} connections are open");
        thread::sleep(Duration::from_millis(5));
    }
    clients.into_iter().for_each(|client| client.join().expect("each request was answered"));
    assert_eq!(upstream.requests(), 16 * 60);
    assert_eq!(most.load(SeqCst), CAP, "the cap was used, and never exceeded");
    assert_all_returned(&switchback);
}

#[test]
fn who_waits_is_served_in_turn() {
    let (upstream, held) = holding();
    let order = Arc::new(Mutex::new(Vec::new()));
    let switchback = Setup::new().pool("max_connections = 1\npending_timeout = \"15s\"").start(&upstream);
    let first = asking(&switchback);
    wait_until("the only connection is in use", || held.count() == 1);
    let waiting: Vec<_> = (0..5)
        .map(|number| {
            let (address, order) = (switchback.address, Arc::clone(&order));
            let asking = thread::spawn(move || {
                let answer = Client::connect(address).exchange(GET).whole();
                order.lock().unwrap().push(number);
                answer
            });
            wait_until("it waits", || pending(&switchback) == f64::from(number + 1));
            asking
        })
        .collect();
    for done in 0..5 {
        held.let_go(1);
        wait_until("one more is answered", || order.lock().unwrap().len() == done);
        wait_until("the next has come", || held.count() == 1);
    }
    held.let_go(1);
    assert_eq!(first.join().unwrap().status, 200);
    waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap().status, 200));
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(upstream.connections().len(), 1, "the connection was handed on");
    assert_all_returned(&switchback);
}

#[test]
fn the_queue_is_bounded_and_so_is_the_wait() {
    let (upstream, held) = holding();
    let pool = "max_connections = 1\nmax_pending = 1\npending_timeout = \"400ms\"";
    let switchback = Setup::new().global("workers = 2").pool(pool).start(&upstream);
    let first = asking(&switchback);
    wait_until("the only connection is in use", || held.count() == 1);
    let since = Instant::now();
    let second = asking(&switchback);
    wait_until("it waits", || pending(&switchback) == 1.0);
    let third = Instant::now();
    assert_shed(&asking(&switchback).join().unwrap(), "max_pending");
    assert!(third.elapsed() < Duration::from_millis(300), "not at once: {:?}", third.elapsed());
    assert_shed(&second.join().unwrap(), "pending_timeout");
    assert!((Duration::from_millis(350)..Duration::from_secs(5)).contains(&since.elapsed()));
    assert_eq!(["max_pending", "pending_timeout"].map(|limit| shed(&switchback, limit)), [1, 1]);
    held.let_go(1);
    assert_eq!(first.join().unwrap().status, 200);
    assert_eq!(upstream.requests(), 1);
    assert_all_returned(&switchback);
}

#[test]
fn a_connection_stays_usable_after_its_request_was_turned_away() {
    let (upstream, held) = holding();
    let switchback = Setup::new().pool("max_connections = 1\nmax_pending = 0").start(&upstream);
    let first = asking(&switchback);
    wait_until("the only connection is in use", || held.count() == 1);
    let mut client = switchback.client();
    for _ in 0..3 {
        assert_shed(&client.exchange(GET).whole(), "max_pending");
    }
    held.let_go(4);
    assert_eq!(first.join().unwrap().status, 200);
    client.expect_alive("after it was turned away");
}

#[test]
fn a_client_that_leaves_the_queue_frees_its_place() {
    let (upstream, held) = holding();
    let pool = "max_connections = 1\nmax_pending = 1\npending_timeout = \"15s\"";
    let switchback = Setup::new().pool(pool).start(&upstream);
    let first = asking(&switchback);
    wait_until("the only connection is in use", || held.count() == 1);
    let mut leaving = switchback.client();
    leaving.send(GET);
    wait_until("it waits", || pending(&switchback) == 1.0);
    leaving.reset();
    wait_until("its place is free", || pending(&switchback) == 0.0);
    let next = asking(&switchback);
    wait_until("another waits", || pending(&switchback) == 1.0);
    held.let_go(2);
    assert_eq!((first.join().unwrap().status, next.join().unwrap().status), (200, 200));
    assert_eq!(upstream.requests(), 2, "nothing was sent for the one that left");
    assert_all_returned(&switchback);
}

/// The kernel shares connections out over the workers, so with enough clients each worker has some.
#[test]
fn a_worker_at_the_cap_obtains_the_idle_connection_of_another() {
    let upstream = Upstream::ok();
    let pool = "max_connections = 1\nidle_timeout = \"60s\"\npending_timeout = \"10s\"";
    let switchback = Setup::new().global("workers = 2").pool(pool).start(&upstream);
    let mut clients: Vec<_> = (0..16).map(|_| switchback.client()).collect();
    let since = Instant::now();
    // One after the other: whenever the next client is another worker's, the only connection is idle elsewhere.
    for _ in 0..4 {
        for client in &mut clients {
            assert_eq!(client.exchange(GET).whole().status, 200);
        }
    }
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "it waited for a connection to age: {:?}",
        since.elapsed()
    );
    assert!(upstream.connections().len() > 1, "all clients were one worker's: chance 1 in 32,768");
    wait_until("one is left", || upstream.open() == 1);
    assert_eq!(shed(&switchback, "pending_timeout"), 0);
}

/// A worker that is always busy does not keep another out for ever.
#[test]
fn a_busy_worker_lets_another_have_its_turn() {
    let upstream = Upstream::ok();
    let pool = "max_connections = 1\npending_timeout = \"10s\"";
    let switchback = Setup::new().global("workers = 2").pool(pool).start(&upstream);
    let over = Arc::new(AtomicBool::new(false));
    let address = switchback.address;
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut answered = 0;
                while !over.load(SeqCst) {
                    assert_eq!(client.exchange(GET).whole().status, 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    wait_until("there were some turns", || upstream.requests() > 1_500);
    over.store(true, SeqCst);
    let answered: Vec<u32> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(answered.iter().all(|count| *count >= 10), "{answered:?}");
    assert_all_returned(&switchback);
}

/// A place is held for as long as the connection lives, whatever it carries.
#[test]
fn a_tunnel_holds_its_place_until_it_ends() {
    let upstream = Upstream::start(|exchange| match exchange.head.one("upgrade") {
        Some(_) => exchange.tunnel_echo("websocket"),
        None => exchange.send(OK),
    });
    let switchback = Setup::new().pool("max_connections = 1\npending_timeout = \"15s\"").start(&upstream);
    let mut tunnel = switchback.client();
    tunnel.send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.any_response("GET").status, 101);
    let waiting = asking(&switchback);
    wait_until("it waits", || pending(&switchback) == 1.0);
    tunnel.half_close();
    assert_eq!(waiting.join().expect("it was answered").status, 200);
    assert_all_returned(&switchback);
}

/// Where an idle connection turns out to be dead, the new one has its place.
#[test]
fn a_repeated_request_finds_a_place_at_the_cap() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        if exchange.on_connection == 1 { exchange.close() } else { exchange.send(OK) }
    });
    let switchback = Setup::new().pool("max_connections = 1\nmax_pending = 0").start(&upstream);
    let mut client = switchback.client();
    for _ in 0..8 {
        assert_eq!(client.exchange(GET).whole().status, 200);
    }
    assert_eq!(switchback.metric("switchback_endpoint_connections_open"), 1.0);
}

#[test]
fn connections_that_are_closed_are_not_counted() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().pool("max_connections = 4\nidle_timeout = \"100ms\"").start(&upstream);
    assert_eq!(switchback.client().exchange(GET).whole().status, 200);
    wait_until("its idle time is over", || switchback.metric("switchback_endpoint_connections_open") == 0.0);
    upstream.wait_all_ended();
    upstream.stop();
    let address = upstream.address;
    wait_until("nobody listens", || std::net::TcpStream::connect(address).is_err());
    assert_eq!(switchback.client().exchange(GET).whole().status, 502);
    assert_eq!(switchback.metric("switchback_endpoint_connections_open"), 0.0, "none could be opened");
}

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
fn a_connection_is_not_used_for_longer_than_its_age() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().pool("max_age = \"200ms\"").start(&upstream);
    let mut client = switchback.client();
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(client.exchange(GET).whole().status, 200);
        thread::sleep(Duration::from_millis(5));
    }
    let connections = upstream.connections().len();
    assert!((5..=12).contains(&connections), "{connections} connections in 1.5 s");
    assert!(upstream.requests() > 5 * connections, "connections are used again within their age");
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
