//! When an attempt is repeated, and when it must not be.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    get,
    support::{Reserved, Setup, Switchback, Upstream, upstream::OK, wait_until},
};

const POST: &str = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn a_refused_connection_goes_to_the_other_endpoint() {
    let (upstream, refusing) = (Upstream::ok(), Reserved::any());
    let config = Setup::new().toml(&[&upstream]).replace(
        "endpoints = [",
        &format!("balance = \"round_robin\"\nendpoints = [\"{}\", ", refusing.address),
    );
    let switchback = Switchback::start(&config);
    let mut client = switchback.client();
    // Few enough to stay within the budget of retries.
    for number in 0..10 {
        let request = if number % 2 == 0 { get("/", "") } else { POST.to_owned() };
        assert_eq!(client.exchange(request).whole().text(), "ok", "request {number}");
    }
    assert_eq!(upstream.requests(), 10, "each came once");
}

#[test]
fn a_connection_refused_by_all_is_502() {
    let (upstream, refusing) = (Upstream::ok(), Reserved::any());
    let config =
        Setup::new().toml(&[&upstream]).replace(&upstream.address.to_string(), &refusing.address.to_string());
    let switchback = Switchback::start(&config);
    let mut client = switchback.client();
    for request in [get("/", ""), POST.to_owned()] {
        let answer = client.exchange(request).whole();
        assert!([502, 503].contains(&answer.status), "{answer:?}");
        assert_eq!(answer.head.one("content-type"), Some("application/problem+json"));
        if answer.closes() {
            client = switchback.client();
        }
    }
}

/// Closes a connection when the second request of it has come, with no byte of an answer.
fn stale() -> Upstream {
    Upstream::start(|exchange| {
        exchange.body();
        if exchange.on_connection == 0 {
            exchange.send(OK);
        } else {
            exchange.close();
        }
    })
}

#[test]
fn a_get_on_a_connection_that_just_closed_is_repeated() {
    let upstream = stale();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    for _ in 0..5 {
        assert_eq!(client.exchange(get("/", "")).whole().text(), "ok");
    }
}

#[test]
fn a_post_on_a_connection_that_just_closed_is_not_repeated() {
    let upstream = stale();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    assert_eq!(client.exchange(get("/", "")).whole().text(), "ok");
    let answer = client.exchange(POST);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(upstream.requests(), 2, "the POST came once");
}

#[test]
fn a_connection_that_the_upstream_closed_while_it_was_idle_costs_no_request() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        exchange.send(OK);
        exchange.close();
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    for number in 1..=20 {
        assert_eq!(client.exchange(POST).whole().text(), "ok");
        assert_eq!(upstream.requests(), number, "a POST came twice");
        wait_until("the upstream's close has arrived", || upstream.open() == 0);
    }
}

#[test]
fn a_get_is_not_repeated_once_a_byte_of_its_answer_has_come() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Le");
        exchange.close();
    });
    let switchback = Setup::new().start(&upstream);
    let answer = switchback.client().exchange(get("/", ""));
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn retries_end() {
    let upstream = Upstream::start(|exchange| exchange.close());
    let switchback = Setup::new().route("retries = { attempts = 2, budget = 0.2 }").start(&upstream);
    let answer = switchback.client().exchange(get("/", ""));
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!((1..=3).contains(&upstream.requests()), "{} attempts", upstream.requests());
}

#[test]
fn retries_can_be_turned_off() {
    let upstream = stale();
    let switchback = Setup::new().route("retries = { attempts = 0 }").start(&upstream);
    let mut client = switchback.client();
    assert_eq!(client.exchange(get("/", "")).status, 200);
    assert_eq!(client.exchange(get("/", "")).status, 502);
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn retries_stay_within_their_budget() {
    static FAIL: AtomicBool = AtomicBool::new(true);
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        if FAIL.load(Ordering::SeqCst) { exchange.close() } else { exchange.send(OK) }
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    let since = Instant::now();
    let mut sent = 0;
    while sent < 300 {
        let answer = client.exchange(get("/", ""));
        assert_eq!(answer.status, 502);
        if answer.closes() {
            client = switchback.client();
        }
        sent += 1;
    }
    // 20 % of the requests, at least 10 a second; two seconds more for windows that overlap.
    let most = sent as f64 * 1.2 + 10.0 * (since.elapsed().as_secs_f64() + 2.0);
    assert!((upstream.requests() as f64) <= most, "{} attempts for {sent} requests", upstream.requests());
    FAIL.store(false, Ordering::SeqCst);
    assert_eq!(client.exchange(get("/", "")).status, 200);
}

#[test]
fn a_request_that_takes_too_long_is_504_and_not_repeated() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        exchange.wire().fill().ok();
        exchange.close();
    });
    let switchback = Setup::new().route("timeout = \"300ms\"").start(&upstream);
    let mut client = switchback.client();
    let since = Instant::now();
    let answer = client.exchange(get("/", ""));
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&since.elapsed()));
    wait_until("the upstream request is cancelled", || upstream.open() == 0);
    assert_eq!(upstream.requests(), 1);
}
