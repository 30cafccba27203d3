//! A route's time that is over: whether the endpoint has used it up, or somebody else has.

use std::{thread, time::Duration};

use crate::{
    endpoint, get,
    support::{Client, Setup, Switchback, Upstream, pattern, upstream::response, wait_until},
    wait_state,
};

/// How many endings are no matter: far more than would eject.
const MANY: usize = 12;

/// Times of requests that were over.
fn timeouts(switchback: &Switchback) -> usize {
    let metrics = switchback.metrics();
    let start = "switchback_route_timeouts_total{route=\"all\",kind=\"request\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(start));
    value.expect("the route's counter").parse().expect("a count")
}

/// Sends requests at once, and waits until the time of each was over.
fn run_over(switchback: &Switchback, request: &str, count: usize) {
    let goal = timeouts(switchback) + count;
    let _clients: Vec<Client> = (0..count)
        .map(|_| {
            let mut client = switchback.client();
            client.send(request);
            client
        })
        .collect();
    wait_until("the time of all is over", || timeouts(switchback) == goal);
}

/// Asserts that none of what came before is held against an endpoint: four failures that are its own leave it in, and
/// the fifth takes it out.
fn assert_clean(switchback: &Switchback, upstream: &Upstream, failing: &str) {
    run_over(switchback, failing, 4);
    assert_eq!(endpoint(switchback, upstream.address)["ejections"], 0);
    run_over(switchback, failing, 1);
    wait_until("it is ejected", || endpoint(switchback, upstream.address)["ejections"] == 1);
}

/// An upstream that answers in all the ways in which a response can last.
fn lasting() -> Upstream {
    let large = response(200, &pattern(48 << 20, 1));
    Upstream::start(move |exchange| {
        let piece: &[u8] = match exchange.head.target() {
            "/large" => return exchange.send(&large),
            "/events" => b"9\r\ndata: x\n\n\r\n",
            "/flow" => b"4\r\nflow\r\n",
            _ => b"",
        };
        let kind = if exchange.head.target() == "/flow" { "text/plain" } else { "text/event-stream" };
        let kind = if exchange.head.target() == "/stall" { "text/plain" } else { kind };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
        exchange.send(head.as_bytes());
        exchange.send(b"5\r\nstart\r\n");
        while !piece.is_empty() && exchange.try_send(piece).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
        exchange.wire().rest();
        exchange.close();
    })
}

#[test]
fn what_flows_until_the_routes_time_is_over_is_not_held_against_the_endpoint() {
    let upstream = lasting();
    let switchback = Setup::new().route("timeout = \"400ms\"").start(&upstream);
    for (target, why) in [
        ("/large", "its clients read nothing"),
        ("/events", "events come"),
        ("/quiet", "an event stream with nothing to tell"),
        ("/flow", "the body comes, slowly"),
    ] {
        run_over(&switchback, &get(target), MANY);
        assert_eq!(endpoint(&switchback, upstream.address)["ejections"], 0, "{target}: {why}");
    }
    assert_clean(&switchback, &upstream, &get("/stall"));
}

#[test]
fn a_request_that_comes_slowly_is_not_held_against_the_endpoint_that_waits_for_it() {
    let upstream = Upstream::start(|exchange| {
        exchange.wire().rest();
        exchange.close();
    });
    let switchback = Setup::new().route("timeout = \"400ms\"").start(&upstream);
    run_over(&switchback, "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nslow", MANY);
    assert_clean(&switchback, &upstream, &get("/"));
}

/// The first endpoint has used up most of the route's time; the second gets what is left of it.
#[test]
fn an_attempt_that_begins_late_is_not_held_against_its_endpoint() {
    let first = Upstream::start(|exchange| {
        let status = match exchange.head.target() {
            "/find" => 200,
            "/late" => {
                thread::sleep(Duration::from_millis(600));
                500
            }
            _ => 500,
        };
        exchange.send(&response(status, b"first"));
    });
    let second = Upstream::start(|exchange| match exchange.head.target() {
        "/find" => exchange.send(&response(200, b"second")),
        _ => {
            exchange.wire().rest();
            exchange.close();
        }
    });
    // A 500 is no gateway failure, so the first one stays in.
    let pool = "balance = \"hash\"\nhash = { header = \"X-User\" }\neject = { consecutive_5xx = 0 }";
    let route = "timeout = \"800ms\"\nretries = { attempts = 1, statuses = [500] }";
    let switchback = Setup::new().pool(pool).route(route).start_all(&[&first, &second]);
    let ask = |user: usize, target: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: a.example\r\nX-User: {user}\r\n\r\n")
    };
    let mut client = switchback.client();
    let is_firsts = |user: &usize| client.exchange(ask(*user, "/find")).whole().text() == "first";
    let user = (0..1_000).find(is_firsts).expect("half of them are the first one's");
    for _ in 0..6 {
        run_over(&switchback, &ask(user, "/late"), 1);
    }
    assert_eq!(endpoint(&switchback, second.address)["ejections"], 0);
    for failures in 0..5 {
        assert_eq!(endpoint(&switchback, second.address)["ejections"], 0, "after {failures} failures");
        run_over(&switchback, &ask(user, "/at-once"), 1);
    }
    wait_state(&switchback, second.address, "ejected");
}
