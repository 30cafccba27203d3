//! Drains and the requests that wait for a connection at a cap: they are in flight, so a drain lets them go on, and ends
//! them at its deadline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::json;

use crate::{
    change, endpoint, get,
    support::{Client, Response, Setup, Switchback, Upstream, upstream::OK, wait_until},
};

/// A pool whose endpoints have one connection each, for which anybody waits long enough.
const CAPPED: &str = "max_connections = 1\npending_timeout = \"19s\"";
const POST: &str = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi";

/// An upstream that answers its first `allowed` requests and holds the others.
fn stepped(allowed: &Arc<AtomicUsize>) -> Upstream {
    let allowed = Arc::clone(allowed);
    Upstream::start(move |exchange| {
        exchange.body();
        wait_until("it may answer", || exchange.number < allowed.load(Ordering::SeqCst));
        exchange.send(OK);
    })
}

/// Sends a request whose answer is read later.
fn sent(switchback: &Switchback, request: &str) -> Client {
    let mut client = switchback.client();
    client.send(request);
    client
}

fn wait_pending(switchback: &Switchback, count: usize) {
    let pending = || switchback.metric("switchback_pool_requests_pending") as usize;
    wait_until(&format!("{count} wait"), || pending() == count);
}

fn drain(switchback: &Switchback, upstream: &Upstream, query: &str, deadline: &str) -> serde_json::Value {
    let path = format!("{}/drain{query}", endpoint(upstream));
    change(switchback, "POST", &path, &format!(r#"{{"deadline": "{deadline}"}}"#))
}

fn undrain(switchback: &Switchback, upstream: &Upstream) {
    change(switchback, "POST", &format!("{}/undrain", endpoint(upstream)), "");
}

#[test]
fn at_the_deadline_those_who_wait_go_elsewhere_a_post_too_as_nothing_of_it_was_sent() {
    let never = Arc::new(AtomicUsize::new(0));
    let (stuck, other) = (stepped(&never), Upstream::ok());
    let switchback = Setup::new().pool(CAPPED).start_all(&[&stuck, &other]);
    drain(&switchback, &other, "", "1m");
    let mut in_flight = sent(&switchback, POST);
    wait_until("the only connection is in use", || stuck.requests() == 1);
    let mut waiting = [POST, &get("/", "")].map(|request| sent(&switchback, request));
    wait_pending(&switchback, 2);
    undrain(&switchback, &other);
    let answer = drain(&switchback, &stuck, "?wait=drained", "300ms");
    assert_eq!((&answer["drained"], &answer["cut"]["requests"]), (&json!(true), &json!(1)), "{answer}");
    for (client, method) in waiting.iter_mut().zip(["POST", "GET"]) {
        assert_eq!(client.response(method).whole().status, 200, "{method}");
    }
    assert_eq!(in_flight.response("POST").whole().status, 503, "this one may have been processed");
    assert_eq!((stuck.requests(), other.requests()), (1, 2));
    assert_eq!(switchback.metric("switchback_pool_requests_pending"), 0.0);
    never.store(1, Ordering::SeqCst);
}

/// The deadline is that of the last drain, whatever those before it had said.
#[test]
fn with_nowhere_to_go_those_who_wait_are_told_at_the_deadline_of_the_last_drain() {
    let never = Arc::new(AtomicUsize::new(0));
    let stuck = stepped(&never);
    let switchback = Setup::new().pool(CAPPED).start(&stuck);
    let mut in_flight = sent(&switchback, POST);
    wait_until("the only connection is in use", || stuck.requests() == 1);
    let mut waiting = sent(&switchback, POST);
    wait_pending(&switchback, 1);
    drain(&switchback, &stuck, "", "1h");
    undrain(&switchback, &stuck);
    let answer = drain(&switchback, &stuck, "?wait=drained", "300ms");
    assert_eq!((&answer["drained"], &answer["cut"]["requests"]), (&json!(true), &json!(2)), "{answer}");
    for client in [&mut waiting, &mut in_flight] {
        let told = client.response("POST").whole();
        assert_eq!((told.status, told.head.one("retry-after")), (503, Some("1")), "{told:?}");
    }
    assert_eq!(stuck.requests(), 1, "nothing of what waited was sent");
    never.store(1, Ordering::SeqCst);
}

/// Behind the endpoint's back its process may have been replaced between two drains: what has waited since before them
/// is served, and not on the connection that was there then.
#[test]
fn who_waits_over_drains_is_handed_no_connection_from_before_them() {
    for drains_at_the_end in [true, false] {
        let allowed = Arc::new(AtomicUsize::new(0));
        let upstream = stepped(&allowed);
        let switchback = Setup::new().pool(CAPPED).start(&upstream);
        let first = asking(&switchback);
        wait_until("the only connection is in use", || upstream.requests() == 1);
        let second = asking(&switchback);
        wait_pending(&switchback, 1);
        drain(&switchback, &upstream, "", "1h");
        undrain(&switchback, &upstream);
        if drains_at_the_end {
            drain(&switchback, &upstream, "", "1h");
        }
        allowed.store(2, Ordering::SeqCst);
        for asking in [first, second] {
            assert_eq!(asking.join().expect("it is answered").status, 200);
        }
        let connections: Vec<_> = upstream.messages().iter().map(|message| message.connection).collect();
        assert_eq!(connections, [0, 1], "drains at the end: {drains_at_the_end}");
        if drains_at_the_end {
            let answer = drain(&switchback, &upstream, "?wait=drained", "1h");
            assert_eq!((&answer["drained"], &answer["cut"]["requests"]), (&json!(true), &json!(0)));
            undrain(&switchback, &upstream);
        }
        // What was opened after the last change serves on.
        allowed.store(4, Ordering::SeqCst);
        let mut client = switchback.client();
        for _ in 0..2 {
            assert_eq!(client.exchange(get("/", "")).whole().status, 200);
            let kept = if drains_at_the_end { 2 } else { 1 };
            assert_eq!(upstream.last().connection, kept, "drains at the end: {drains_at_the_end}");
        }
    }
}

/// A client that reads its answer on a thread of its own.
fn asking(switchback: &Switchback) -> thread::JoinHandle<Response> {
    let address = switchback.address;
    thread::spawn(move || Client::connect(address).exchange(get("/", "")).whole())
}
