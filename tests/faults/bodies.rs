//! Bodies that are sent again: whole, in order, and only where that is right.

use std::{thread, time::Duration};

use crate::{
    counted,
    support::{Reserved, Setup, Switchback, Upstream, pattern, upstream::response},
    with_body,
};

/// Reads the first request whole and closes without a word; then echoes.
fn fails_once() -> Upstream {
    Upstream::start(|exchange| {
        let body = exchange.body().bytes.clone();
        match exchange.number {
            0 => exchange.close(),
            _ => exchange.send(&response(200, &body)),
        }
    })
}

#[test]
fn a_body_that_streamed_is_sent_again_whole() {
    let body = pattern(60_000, 7);
    let upstream = fails_once();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    let request = with_body("PUT", "/", "", &body);
    for piece in request.chunks(7_000) {
        client.send(piece);
        // Each piece is a read of its own.
        thread::sleep(Duration::from_millis(5));
    }
    let answer = client.response("PUT").whole();
    assert_eq!((answer.status, &answer.body.bytes), (200, &body));
    let messages = upstream.messages();
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|message| message.body.bytes == body));
    assert_eq!(messages[0].head.one("x-switchback-attempt"), None);
    assert_eq!(messages[1].head.one("x-switchback-attempt"), Some("2"));
    assert_eq!(counted(&switchback, "switchback_route_retries_total", &["reason=\"closed\""]), 1);
    drop(switchback);
    upstream.assert_canonical();
}

#[test]
fn chunks_and_trailers_are_sent_again_as_they_were() {
    let upstream = fails_once();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send("PUT / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["5\r\nhel", "lo\r\n", "7\r\n, world\r\n", "0\r\nT: v\r\n\r\n"] {
        thread::sleep(Duration::from_millis(20));
        client.send(piece);
    }
    assert_eq!(client.response("PUT").whole().text(), "hello, world");
    for message in upstream.messages() {
        assert_eq!(message.body.trailers, [("T".to_owned(), "v".to_owned())], "{message:?}");
    }
    assert_eq!(upstream.requests(), 2);
}

/// Fails in the middle of the first body: what was read of it by then must not be lost for the second attempt, nor the
/// rest that the client sends only afterwards.
#[test]
fn an_attempt_that_fails_within_the_body_is_followed_by_one_with_all_of_it() {
    let body = pattern(50_000, 8);
    let upstream = Upstream::start(|exchange| {
        if exchange.number == 0 {
            exchange.read_raw(10_000);
            return exchange.reset();
        }
        let body = exchange.body().bytes.clone();
        exchange.send(&response(200, &body));
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    let request = with_body("PUT", "/", "", &body);
    client.send(&request[..20_000]);
    crate::support::wait_until("the first attempt is over", || {
        upstream.connections().first().is_some_and(|connection| connection.ended.is_some())
    });
    client.send(&request[20_000..]);
    let answer = client.response("PUT").whole();
    assert_eq!((answer.status, answer.body.bytes == body), (200, true), "{:?}", answer.head);
}

#[test]
fn a_body_over_the_limit_is_not_sent_twice() {
    let upstream = fails_once();
    let switchback = Setup::new().route("retries = { max_body = \"1KiB\" }").start(&upstream);
    for (length, requests, status) in [(1_025, 1, 502), (1_024, 2, 200)] {
        // The second request is the upstream's second, which is answered.
        let answer = switchback.client().exchange(with_body("PUT", "/", "", &pattern(length, 9)));
        assert_eq!((answer.status, upstream.requests()), (status, requests), "{length}: {answer:?}");
    }
    // Chunked, its length shows as it comes.
    let upstream = fails_once();
    let switchback = Setup::new().route("retries = { max_body = \"1KiB\" }").start(&upstream);
    let mut client = switchback.client();
    client.send("PUT / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        client.send(format!("190\r\n{}\r\n", "x".repeat(400)));
        thread::sleep(Duration::from_millis(20));
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response("PUT").status, 502);
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn a_refused_connection_costs_no_body_however_long() {
    let body = pattern(3 << 20, 10);
    let (upstream, refusing) = (Upstream::echo(), Reserved::any());
    let config = Setup::new().toml(&[&upstream]).replace(
        "endpoints = [",
        &format!("balance = \"round_robin\"\nendpoints = [\"{}\", ", refusing.address),
    );
    let switchback = Switchback::start(&config);
    for _ in 0..2 {
        let mut client = switchback.client();
        let request = with_body("POST", "/", "", &body);
        thread::scope(|scope| {
            let mut sending = client.wire.stream().try_clone().expect("another handle");
            scope.spawn(move || std::io::Write::write_all(&mut sending, &request).expect("it is taken"));
            let answer = client.response("POST").whole();
            assert_eq!((answer.status, answer.body.bytes == body), (200, true));
        });
    }
    assert!(counted(&switchback, "switchback_route_retries_total", &["reason=\"connect\""]) >= 1);
    assert_eq!(upstream.requests(), 2, "each came once");
}

#[test]
fn a_post_is_sent_twice_only_where_the_route_says_so() {
    for (route, status, requests) in [
        ("", 502, 1),
        ("retries = { non_idempotent = true }", 200, 2),
        ("retries = { attempts = 0 }", 502, 1),
    ] {
        let upstream = fails_once();
        let switchback = Setup::new().route(route).start(&upstream);
        let mut client = switchback.client();
        let request = with_body("POST", "/", "", b"hello");
        client.send(&request[..request.len() - 2]);
        thread::sleep(Duration::from_millis(20));
        client.send(&request[request.len() - 2..]);
        assert_eq!(client.response("POST").status, status, "{route}");
        assert_eq!(upstream.requests(), requests, "{route}");
        assert!(upstream.messages().iter().all(|message| message.body.bytes == b"hello"));
    }
}
