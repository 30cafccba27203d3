//! After which answers a request is sent again, where to, and what the client gets when nothing helps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    counted, get,
    support::{
        Reserved, Setup, Switchback, Upstream,
        config::split_over,
        pattern,
        upstream::{OK, response},
    },
    with_body,
};

const STATUSES: &str = "retries = { statuses = [503, 504] }";

#[test]
fn an_answer_with_a_status_of_the_route_is_given_up_for_another_endpoints() {
    let busy = Upstream::answering(response(503, b"busy"));
    let well = Upstream::ok();
    let switchback =
        Setup::new().pool("balance = \"round_robin\"").route(STATUSES).start_all(&[&busy, &well]);
    let mut client = switchback.client();
    for _ in 0..4 {
        assert_eq!(client.exchange(get("/", "")).whole().text(), "ok");
    }
    assert_eq!(well.requests(), 4);
    let given_up = busy.requests() as u64;
    assert!(given_up >= 1);
    assert_eq!(counted(&switchback, "switchback_route_retries_total", &["reason=\"status\""]), given_up);
    let answer = (0..2).map(|_| client.exchange(with_body("POST", "/", "", b"x"))).find(|a| a.status != 200);
    let answer = answer.expect("one of two POSTs in turn meets the busy endpoint").whole();
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"), "a POST takes what it gets");
    assert_eq!(answer.head.one("x-switchback-attempt"), None);
}

#[test]
fn other_statuses_stand() {
    let upstream = Upstream::answering(response(500, b"broken"));
    let switchback = Setup::new().route(STATUSES).start(&upstream);
    assert_eq!(switchback.client().exchange(get("/", "")).whole().text(), "broken");
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn when_no_attempt_is_left_the_last_answer_is_passed_on_whole() {
    let body = pattern(300_000, 3);
    let all = Arc::new(AtomicUsize::new(0));
    let upstreams: Vec<_> = (0..2)
        .map(|_| {
            let (body, all) = (body.clone(), Arc::clone(&all));
            Upstream::start(move |exchange| {
                all.fetch_add(1, Ordering::SeqCst);
                exchange.send(&response(503, &body));
            })
        })
        .collect();
    let switchback = Setup::new().route(STATUSES).start_all(&[&upstreams[0], &upstreams[1]]);
    let mut client = switchback.client();
    let answer = client.exchange(get("/", "")).whole();
    assert_eq!((answer.status, answer.body.bytes == body), (503, true));
    assert_eq!(all.load(Ordering::SeqCst), 3, "both were tried, then one of them again");
    assert!(upstreams.iter().all(|upstream| upstream.requests() >= 1));
    assert_eq!(answer.head.one("x-switchback-attempt"), Some("3"));
    client.expect_alive_or_503();
}

impl crate::support::Client {
    /// The connection still serves, whatever the upstream says.
    fn expect_alive_or_503(&mut self) {
        assert_eq!(self.exchange(get("/", "")).status, 503);
    }
}

#[test]
fn an_answer_is_not_given_up_without_a_retry_in_the_budget() {
    let upstream = Upstream::answering(response(503, b"busy"));
    let switchback =
        Setup::new().route("retries = { statuses = [503], budget = 0.0, attempts = 10 }").start(&upstream);
    let mut client = switchback.client();
    for _ in 0..40 {
        let answer = client.exchange(get("/", "")).whole();
        assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    }
    let retries = counted(&switchback, "switchback_route_retries_total", &[]);
    assert_eq!(upstream.requests() as u64, 40 + retries);
    assert!(retries >= 10, "the reserve alone is 10");
}

#[test]
fn a_single_endpoint_is_tried_again_after_a_pause() {
    let upstream = Upstream::start(|exchange| match exchange.number % 2 {
        0 => exchange.close(),
        _ => exchange.send(OK),
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    for _ in 0..3 {
        assert_eq!(client.exchange(get("/", "")).whole().text(), "ok");
        // The next request would reuse the connection, and the retry would be another one's story.
        client = switchback.client();
    }
    assert!(counted(&switchback, "switchback_endpoint_retries_total", &[]) >= 1);
}

#[test]
fn a_keyed_request_goes_to_its_keys_next_best() {
    let (green, red) =
        (Upstream::answering(response(200, b"green")), Upstream::answering(response(200, b"red")));
    // The first pool can't be reached.
    let blue = Reserved::any();
    let pools = [("blue", 80, blue.address), ("green", 10, green.address), ("red", 10, red.address)];
    let file = split_over(1, &pools, "key = { header = \"user\" }");
    let mut homes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // Two instances, so that no memory of one explains it; few enough requests for the reserve of retries.
    for _ in 0..2 {
        let switchback = Switchback::start(&file);
        for user in 0..12 {
            let answer = switchback.client().exchange(get("/", &format!("User: u{user}\r\n"))).whole();
            assert_eq!(answer.status, 200, "{answer:?}");
            homes.entry(format!("u{user}")).or_default().insert(answer.text());
        }
        assert!(counted(&switchback, "switchback_split_retries_total", &["reason=\"connect\""]) >= 5);
    }
    assert!(homes.values().all(|pools| pools.len() == 1), "a key has one next best: {homes:?}");
    let pools: BTreeSet<_> = homes.values().flatten().collect();
    assert_eq!(pools.len(), 2, "the keys of a pool spread over the others: {homes:?}");
}
