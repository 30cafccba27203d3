//! The cap of connections to an endpoint, and who waits for one.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    GET, asking, assert_all_returned, assert_shed, holding, pending, shed,
    support::{
        Client, Setup, Upstream,
        upstream::{OK, response},
        wait_until,
    },
};

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

/// The cap is ours: an endpoint that was not even asked is not the worse for it.
#[test]
fn a_routes_time_that_ends_within_the_wait_is_not_held_against_the_endpoint() {
    let (upstream, held) = holding();
    let failing = Upstream::answering(response(500, b""));
    let switchback = Setup::new()
        .pool("max_connections = 1\npending_timeout = \"15s\"\neject = { consecutive_gateway_failures = 2 }")
        .tables(&format!(
            "[[route]]\nname = \"hasty\"\npath = \"/hasty\"\npool = \"app\"\ntimeout = \"100ms\"\n\
             [pool.failing]\nendpoints = [\"{}\"]\neject = {{ consecutive_5xx = 1 }}\n\
             [[route]]\nname = \"failing\"\npath = \"/failing\"\npool = \"failing\"\n",
            failing.address
        ))
        .start(&upstream);
    let first = asking(&switchback);
    wait_until("the only connection is in use", || held.count() == 1);
    let mut client = switchback.client();
    for _ in 0..5 {
        let answer = client.exchange("GET /hasty HTTP/1.1\r\nHost: a.example\r\n\r\n").whole();
        assert!(answer.status == 504 && answer.text().contains("timeout: the request"), "{answer:?}");
    }
    let metrics = switchback.metrics();
    let timeouts = "switchback_route_timeouts_total{route=\"hasty\",kind=\"request\"} 5\n";
    assert!(metrics.contains(timeouts), "{metrics}");
    // Whoever decides on ejections has looked at everything before when it ejects this one.
    assert_eq!(client.exchange("GET /failing HTTP/1.1\r\nHost: a.example\r\n\r\n").whole().status, 500);
    let ejections = |pool: &str| {
        let shown = switchback.admin("GET", &format!("/v1/pools/{pool}"), "").text();
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        shown["endpoints"][0]["ejections"].as_u64().expect("a count")
    };
    wait_until("the failing endpoint is ejected", || ejections("failing") == 1);
    assert_eq!((ejections("app"), upstream.requests()), (0, 1));
    held.let_go(2);
    assert_eq!(first.join().unwrap().status, 200);
    assert_eq!(client.exchange(GET).whole().status, 200);
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
