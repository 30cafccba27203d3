//! Keep-alive, pipelining, HTTP/1.0, half-close and the reuse of upstream connections.

use std::time::Duration;

use crate::{
    get,
    support::{Setup, Upstream, message::Framing, seeded, upstream::response, wait_until},
};

/// Answers with the target that was asked for.
fn named() -> Upstream {
    Upstream::start(|exchange| {
        exchange.body();
        let target = exchange.head.target().to_owned();
        exchange.send(&response(200, target.as_bytes()));
    })
}

#[test]
fn a_connection_serves_many_requests_over_one_upstream_connection() {
    let upstream = named();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    for number in 0..200 {
        let answer = client.exchange(get(&format!("/{number}"), "")).whole();
        assert_eq!((answer.status, answer.text()), (200, format!("/{number}")));
        assert!(!answer.closes());
    }
    assert_eq!(upstream.connections().len(), 1);
    client.half_close().expect_end("after the last request");
}

#[test]
fn a_connection_that_the_client_ends_is_ended() {
    let upstream = named();
    let switchback = Setup::new().start(&upstream);
    for option in ["close", "Close", "keep-alive, close"] {
        let mut client = switchback.client();
        let answer = client.exchange(get("/a", &format!("Connection: {option}\r\n"))).whole();
        assert!(answer.closes(), "{answer:?}");
        client.expect_end(option);
        assert_eq!(upstream.last().head.one("connection"), None);
    }
    assert_eq!(upstream.connections().len(), 1, "the client's close is not the upstream connection's");
}

#[test]
fn a_hundred_pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|exchange| {
        let target = exchange.head.target().to_owned();
        let body = exchange.body().bytes.clone();
        exchange.send(&response(200, &[target.as_bytes(), b" ", &body].concat()));
    });
    let switchback = Setup::new().start(&upstream);
    let mut pipeline = Vec::new();
    for number in 0..100 {
        match number % 3 {
            0 => pipeline.extend_from_slice(get(&format!("/{number}"), "").as_bytes()),
            1 => pipeline.extend_from_slice(
                format!("POST /{number} HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc").as_bytes(),
            ),
            _ => pipeline.extend_from_slice(
                format!("POST /{number} HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n")
                    .as_bytes(),
            ),
        }
    }
    let mut rng = seeded("a_hundred_pipelined_requests_are_answered_in_order");
    let mut cuts: Vec<usize> = (0..50).map(|_| rng.usize(..pipeline.len())).collect();
    cuts.sort_unstable();
    for cuts in [Vec::new(), cuts] {
        let mut client = switchback.client();
        client.send_split(&pipeline, &cuts);
        for number in 0..100 {
            let body = ["", "abc", "de"][number % 3];
            assert_eq!(client.response("GET").whole().text(), format!("/{number} {body}"));
        }
        client.half_close().expect_end("after the pipeline");
    }
    assert_eq!(upstream.requests(), 200);
}

#[test]
fn pipelined_requests_are_not_sent_ahead_of_their_turn() {
    let upstream = Upstream::start(|exchange| {
        std::thread::sleep(Duration::from_millis(5));
        let ahead = exchange.wire().ahead().len();
        exchange.send(&response(200, ahead.to_string().as_bytes()));
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send(get("/", "").repeat(10));
    for _ in 0..10 {
        assert_eq!(client.response("GET").whole().text(), "0");
    }
}

#[test]
fn a_client_that_half_closes_after_its_request_still_gets_its_answer() {
    let upstream = Upstream::start(|exchange| {
        let body = exchange.body().bytes.clone();
        std::thread::sleep(Duration::from_millis(30));
        exchange.send(&response(200, &body));
    });
    let switchback = Setup::new().start(&upstream);
    for request in [
        get("/", ""),
        "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            .to_owned(),
    ] {
        let mut client = switchback.client();
        client.send(&request).half_close();
        let answer = client.response("GET").whole();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), if request.starts_with("GET") { "" } else { "hello" });
        client.expect_end("a half-closed connection");
    }
    let mut client = switchback.client();
    client.send(get("/", "").repeat(3)).half_close();
    for _ in 0..3 {
        assert_eq!(client.response("GET").whole().status, 200);
    }
    client.expect_end("a half-closed pipeline");
}

#[test]
fn a_client_that_half_closes_inside_a_request_gets_nothing_forwarded_whole() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    for start in [
        "GET / HTTP/1.1\r\nHost: a.exam",
        "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhel",
        "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        let mut client = switchback.client();
        client.send(start).half_close();
        if let Ok(answer) = client.try_response("POST") {
            assert_eq!(answer.status, 400, "{start:?}");
        }
        wait_until("the upstream connection has ended", || upstream.open() == 0);
    }
    assert!(upstream.messages().iter().all(|message| message.broken.is_some()));
}

#[test]
fn an_http_1_0_client_gets_what_it_can_read() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        match exchange.head.target() {
            "/chunked" => exchange.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
            ),
            _ => exchange.send(&response(200, b"hello world")),
        }
    });
    let switchback = Setup::new().start(&upstream);
    for target in ["/length", "/chunked"] {
        let mut client = switchback.client();
        let answer = client.exchange(format!("GET {target} HTTP/1.0\r\nHost: a.example\r\n\r\n")).whole();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello world"));
        assert_ne!(answer.framing, Framing::Chunked, "an HTTP/1.0 client can't read chunks");
        client.expect_end(target);
        assert!(upstream.last().head.start.ends_with("HTTP/1.1"));
    }
}

#[test]
fn an_http_1_0_client_may_keep_its_connection() {
    let upstream = named();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    for number in 0..3 {
        let request = format!("GET /{number} HTTP/1.0\r\nHost: a.example\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = client.exchange(request).whole();
        assert_eq!(answer.text(), format!("/{number}"));
        assert_eq!(answer.head.list("connection"), ["keep-alive"]);
    }
    let answer = client.exchange("GET /last HTTP/1.0\r\nHost: a.example\r\n\r\n").whole();
    assert_eq!(answer.text(), "/last");
    client.expect_end("without keep-alive");
}

#[test]
fn idle_upstream_connections_are_closed_after_their_time() {
    let upstream = named();
    let switchback = Setup::new().pool("idle_timeout = \"200ms\"").start(&upstream);
    let mut client = switchback.client();
    assert_eq!(client.exchange(get("/a", "")).status, 200);
    wait_until("the idle upstream connection is closed", || upstream.open() == 0);
    assert_eq!(client.exchange(get("/b", "")).status, 200);
    assert_eq!(upstream.connections().len(), 2);
}

#[test]
fn an_upstream_that_closes_after_its_answer_is_not_used_again() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    for number in 1..=5 {
        let answer = client.exchange(get("/", "")).whole();
        assert!(!answer.closes(), "the upstream's close is not the client's");
        assert_eq!(upstream.connections().len(), number);
    }
}

#[test]
fn an_answer_is_only_ever_to_its_own_client() {
    // Many clients over few upstream connections, some of which give up halfway: nobody may get another's answer.
    let upstream = Upstream::start(|exchange| {
        let target = exchange.head.target().to_owned();
        let body = target.repeat(2000);
        exchange.send(&response(200, body.as_bytes()));
    });
    let switchback = Setup::new().global("workers = 2").start(&upstream);
    let mut rng = seeded("an_answer_is_only_ever_to_its_own_client");
    let seeds: Vec<u64> = (0..6).map(|_| rng.u64(..)).collect();
    std::thread::scope(|scope| {
        for (thread, seed) in seeds.into_iter().enumerate() {
            let switchback = &switchback;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut client = switchback.client();
                for number in 0..200 {
                    let target = format!("/{thread}-{number}");
                    client.send(get(&target, ""));
                    match rng.u8(..8) {
                        0 => std::mem::replace(&mut client, switchback.client()).reset(),
                        1 => {
                            client.wire.head().unwrap();
                            client = switchback.client();
                        }
                        _ => {
                            assert!(client.response("GET").whole().text() == target.repeat(2000), "{target}")
                        }
                    }
                }
            });
        }
    });
    drop(switchback);
    upstream.assert_canonical();
}
