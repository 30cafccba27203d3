//! Streams that do not come to their end, from either side.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use h2::Reason;

use super::{
    peer::{Peer, get, post, run},
    raw::{DATA, END_STREAM, GET, HEADERS, INTERNAL_ERROR, NO_ERROR, RESET, Raw},
    support::{Setup, Switchback, Upstream, upstream::response, wait_until},
};

fn wait_idle(switchback: &Switchback) {
    wait_until("no stream is open", || switchback.metric("switchback_http2_streams_open") == 0.0);
    wait_until("none is in flight", || switchback.metric("switchback_route_requests_in_flight") == 0.0);
}

#[test]
fn row_30_a_reset_by_the_client_cancels_the_request() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        match exchange.head.target() {
            "/begun" => exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"),
            "/ok" => exchange.send(&response(200, b"ok")),
            _ => {}
        }
        // The rest never comes: the connection's end is waited for.
        if exchange.head.target() != "/ok" {
            while exchange.wire().fill().is_ok() {}
        }
    });
    let switchback = Setup::new().start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    for (stream, path) in [(1, "/silent"), (3, "/begun")] {
        raw.request(stream, &[&GET[..2], &[(":path", path), GET[3]]].concat(), END_STREAM);
        wait_until("it has come", || upstream.requests() == (stream as usize).div_ceil(2));
        if path == "/begun" {
            raw.until("the beginning", |frame| frame.kind == DATA);
        }
        raw.send(RESET, 0, stream, &8u32.to_be_bytes());
        upstream.wait_all_ended();
        wait_idle(&switchback);
    }
    // An upload that is given up.
    raw.request(5, &[&[(":method", "POST")], &GET[1..]].concat(), 0).send(DATA, 0, 5, b"a part");
    wait_until("it has come", || upstream.requests() == 3);
    raw.send(RESET, 0, 5, &8u32.to_be_bytes());
    upstream.wait_all_ended();
    wait_idle(&switchback);
    assert_eq!(switchback.metric("switchback_http2_resets_total{by=\"client\"}"), 3.0);
    assert_eq!(switchback.metric("switchback_route_retries_total"), 0.0);
    // The connection serves others.
    raw.request(7, &[&GET[..2], &[(":path", "/ok"), GET[3]]].concat(), END_STREAM);
    assert_eq!(raw.until("an answer", |frame| frame.kind == DATA && frame.stream == 7).payload, b"ok");
}

#[test]
fn row_26_a_response_that_is_cut_short_is_reset_and_never_ended() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        match exchange.head.target() {
            "/ok" => return exchange.send(&response(200, b"ok")),
            "/length" => exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
            _ => exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        }
        exchange.close();
    });
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        for path in ["/length", "/chunks"] {
            let answer = peer.get(path).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "abc"), "{path}");
            let broken = answer.broken.expect("it was cut");
            assert_eq!(broken.reason(), Some(Reason::INTERNAL_ERROR), "{path}: {broken}");
            assert_eq!(peer.get("/ok").await.whole().text(), "ok");
        }
    });
    assert_eq!(switchback.metric("switchback_http2_resets_total{by=\"switchback\"}"), 2.0);
    wait_idle(&switchback);
}

#[test]
fn a_failed_upstream_is_answered_and_the_connection_goes_on() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        if exchange.head.target() == "/ok" {
            return exchange.send(&response(200, b"ok"));
        }
        exchange.send(b"no HTTP at all\r\n\r\n");
        exchange.close();
    });
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let answer = peer.exchange(post("/bad"), Some(b"x".to_vec()), None).await.whole();
        assert_eq!(answer.status, 502);
        assert_eq!(answer.fields["content-type"], "application/problem+json");
        assert!(!answer.fields.contains_key("connection"));
        assert_eq!(peer.get("/ok").await.whole().status, 200);
    });
}

#[test]
fn row_29_an_answer_before_the_requests_end_is_whole_and_asks_for_no_more() {
    let upstream = Upstream::start(|exchange| {
        exchange.read_raw(1);
        exchange.send(&response(200, b"enough"));
        exchange.close();
    });
    let switchback = Setup::new().start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    raw.request(1, &[&[(":method", "POST")], &GET[1..], &[("content-length", "1000000")]].concat(), 0);
    raw.send(DATA, 0, 1, b"a part");
    let head = raw.until("the head", |frame| frame.kind == HEADERS);
    assert_eq!(head.payload[0], 0x88);
    let body = raw.until("the body", |frame| frame.kind == DATA);
    assert_eq!((body.payload.as_slice(), body.flags & END_STREAM), (&b"enough"[..], END_STREAM));
    let reset = raw.until("the reset", |frame| frame.kind == RESET);
    assert_eq!((reset.stream, super::raw::number(&reset.payload)), (1, NO_ERROR));
    wait_idle(&switchback);
    // Refused by the engine itself, before a body: the same.
    raw.request(3, &[&[(":method", "TRACE")], &GET[1..]].concat(), 0);
    let head = raw.until("the head", |frame| frame.kind == HEADERS);
    assert_eq!(head.stream, 3);
    let reset = raw.until("the reset", |frame| frame.kind == RESET);
    assert_eq!((reset.stream, super::raw::number(&reset.payload)), (3, NO_ERROR));
}

#[test]
fn a_client_that_goes_takes_all_its_requests_with_it() {
    let over = Arc::new(AtomicBool::new(false));
    let upstream = {
        let over = Arc::clone(&over);
        Upstream::start(move |exchange| {
            exchange.body();
            while !over.load(Ordering::Relaxed) && exchange.wire().fill().is_ok() {}
        })
    };
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let mut waiting = Vec::new();
        for _ in 0..50 {
            waiting.push(peer.begin(get("/"), None, None).await);
        }
        while upstream.requests() < 50 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        peer.ended.abort();
    });
    upstream.wait_all_ended();
    wait_idle(&switchback);
    wait_until("the connection has ended", || switchback.metric("switchback_connections_open") == 0.0);
    over.store(true, Ordering::Relaxed);
}

#[test]
fn a_request_that_is_out_of_time_is_answered_or_reset() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        if exchange.head.target() == "/begun" {
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
        }
        while exchange.wire().fill().is_ok() {}
    });
    let switchback = Setup::new().route("timeout = \"300ms\"").start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        assert_eq!(peer.get("/silent").await.whole().status, 504);
        let answer = peer.get("/begun").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ab"));
        assert_eq!(answer.broken.and_then(|error| error.reason()), Some(Reason::INTERNAL_ERROR));
    });
    let mut raw = Raw::connect(switchback.address);
    raw.request(1, &[&GET[..2], &[(":path", "/begun"), GET[3]]].concat(), END_STREAM);
    let reset = raw.until("the reset", |frame| frame.kind == RESET);
    assert_eq!(super::raw::number(&reset.payload), INTERNAL_ERROR);
}

#[test]
fn resets_of_half_of_all_streams_under_load_leave_nothing_behind() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        thread::sleep(Duration::from_millis(1));
        exchange.send(&response(200, b"ok"));
    });
    let switchback = Setup::new().start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    let mut answered = 0;
    for pair in 0..150u32 {
        let (kept, reset) = (4 * pair + 1, 4 * pair + 3);
        raw.request(kept, GET, END_STREAM).request(reset, GET, END_STREAM);
        raw.send(RESET, 0, reset, &8u32.to_be_bytes());
        let body = raw.until("an answer", |frame| frame.kind == DATA && frame.stream == kept);
        answered += usize::from(body.payload == b"ok");
    }
    assert_eq!(answered, 150);
    wait_idle(&switchback);
}
