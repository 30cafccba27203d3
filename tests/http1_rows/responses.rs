//! Rows 25-30: what an upstream or a client may do to a response.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    row::{HOST, Row, assert_problem, get, is_cut, post},
    support::{
        Broken, Setup, Upstream,
        message::Framing,
        upstream::{OK, response},
        wait_until,
    },
};

/// Answers with these bytes and leaves the connection open.
fn raw(bytes: impl Into<Vec<u8>>) -> Upstream {
    Upstream::answering(bytes)
}

fn bad_heads() -> Vec<String> {
    let mut bad: Vec<String> = [
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok.",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok.",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nok",
        "SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "ok",
        "<html></html>\r\n\r\n",
    ]
    .map(str::to_owned)
    .into();
    bad.push(format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "y".repeat(80 << 10)));
    bad.push(format!("HTTP/1.1 200 {}\r\nContent-Length: 2\r\n\r\nok", "y".repeat(80 << 10)));
    bad.push(format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "X: y\r\n".repeat(2000)));
    bad
}

#[test]
fn row_25_a_malformed_head_is_502_and_that_connection_is_closed() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let heads = bad_heads();
    let upstream = Upstream::start(move |exchange| {
        exchange.body();
        let head = &heads[NEXT.load(Ordering::SeqCst)];
        exchange.send(head.as_bytes());
        // One without an end can only be told by the end of the connection.
        if !head.contains("\r\n\r\n") && !head.contains('\n') {
            exchange.close();
        }
    });
    let row = Row::with(Setup::new(), upstream);
    let heads = bad_heads();
    for (index, head) in heads.iter().enumerate() {
        NEXT.store(index, Ordering::SeqCst);
        let context = crate::support::shown(&head.as_bytes()[..head.len().min(120)]);
        let mut client = row.client();
        let before = row.upstream.requests();
        let answer = client.exchange(post("Content-Length: 2\r\n", "hi"));
        assert_problem(&answer, &[502], &context);
        wait_until(&format!("the upstream connection of {context} has ended"), || row.upstream.open() == 0);
        assert_eq!(row.upstream.requests(), before + 1, "a POST was repeated after {context}");
    }
    row.finish();
}

#[test]
fn row_26_a_body_that_is_cut_short_never_ends_cleanly() {
    for (start, whole_client_may_see) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", 5),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", 0),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 5),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", 3),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", 5),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", 5),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n", 5),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0x1\r\na\r\n0\r\n\r\n", 5),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", 5),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0),
    ] {
        for resets in [false, true] {
            let bytes = start.as_bytes().to_vec();
            let upstream = Upstream::start(move |exchange| {
                exchange.body();
                exchange.send(&bytes);
                if resets {
                    // So that the bytes are read before the reset discards them.
                    std::thread::sleep(Duration::from_millis(20));
                    exchange.reset();
                } else {
                    exchange.close();
                }
            });
            let row = Row::with(Setup::new(), upstream);
            let mut client = row.client();
            client.send(post("Content-Length: 2\r\n", "hi"));
            let answer = client.try_response("POST").unwrap_or_else(|end| {
                panic!("{end:?} and no answer at all, after {start:?}, reset: {resets}")
            });
            if answer.status == 502 {
                // Nothing had been sent yet, so an honest error is better than a cut answer.
                assert_problem(&answer, &[502], start);
                continue;
            }
            assert_eq!(answer.status, 200, "{start:?}");
            assert!(is_cut(answer.broken.as_ref()), "{start:?} ended cleanly: {answer:?}");
            assert!(b"hello".starts_with(&answer.body.bytes), "{start:?}: {answer:?}");
            assert!(answer.body.bytes.len() <= whole_client_may_see, "{start:?}: {answer:?}");
            assert_eq!(row.upstream.requests(), 1, "{start:?}");
            // Nothing may come behind a cut body, not even a well-meant error.
            assert!(client.wire.rest().0.is_empty(), "{start:?}");
            row.finish();
        }
    }
}

#[test]
fn row_27_bytes_behind_a_response_are_dropped_with_their_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 Evil\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 Evil\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 None\r\n\r\nevil",
        "HTTP/1.1 204 None\r\n\r\nHTTP/1.1 200 Evil\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 304 Same\r\nETag: \"a\"\r\n\r\nevil",
        "HTTP/1.1 304 Same\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let row = Row::with(Setup::new(), raw(answer));
        let mut client = row.client();
        for number in 1..=3 {
            let got = client.exchange(get("")).whole();
            assert!(!got.text().contains("evil") && !got.head.start.contains("Evil"), "{answer:?}: {got:?}");
            assert!(["", "ok"].contains(&got.text().as_str()), "{answer:?}: {got:?}");
            let messages = row.upstream.messages();
            assert_eq!(messages.len(), number, "{answer:?}");
            assert_eq!(
                messages[number - 1].connection,
                number - 1,
                "the connection was used again after {answer:?}"
            );
        }
        row.finish();
    }
}

#[test]
fn row_27_a_response_to_head_has_no_body_whatever_the_upstream_sends() {
    let row = Row::with(Setup::new(), raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
    let mut client = row.client();
    for connection in 0..3 {
        let got = client.exchange(format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!((got.status, got.head.one("content-length")), (200, Some("4")));
        assert_eq!(row.upstream.last().connection, connection);
    }
    client.half_close().expect_end("after answers to HEAD");
    row.finish();
}

#[test]
fn row_27_bytes_on_an_idle_connection_end_it() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(OK);
        std::thread::sleep(Duration::from_millis(50));
        exchange.send(b"HTTP/1.1 200 Evil\r\nContent-Length: 4\r\n\r\nevil");
    });
    let row = Row::with(Setup::new(), upstream);
    let mut client = row.client();
    for connection in 0..2 {
        assert_eq!(client.exchange(get("")).whole().text(), "ok");
        wait_until("the idle connection has ended", || row.upstream.open() == 0);
        assert_eq!(row.upstream.connections().len(), connection + 1);
    }
    row.finish();
}

#[test]
fn row_28_103_is_forwarded_but_never_to_http_1_0() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
        exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n");
        exchange.send(OK);
    });
    let row = Row::with(Setup::new(), upstream);
    let mut client = row.client();
    for _ in 0..2 {
        client.send(get(""));
        for link in ["</a.css>; rel=preload", "</b.css>; rel=preload"] {
            let hint = client.any_response("GET");
            assert_eq!((hint.status, hint.head.one("link")), (103, Some(link)));
        }
        assert_eq!(client.response("GET").text(), "ok");
    }
    let mut old = row.client();
    let answer = old.exchange(format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    row.finish();
}

/// Those that wait to be sent when the one too many comes are left out, and do not stand between the client and its
/// answer.
#[test]
fn row_28_a_flood_of_interim_responses_behind_some_that_were_passed_on_is_answered_with_502() {
    const HINT: &[u8] = b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n";
    let upstream = Upstream::start(|exchange| {
        exchange.send(HINT);
        exchange.body();
        exchange.try_send(&HINT.repeat(40)).ok();
        exchange.wire().fill().ok();
        exchange.close();
    });
    let row = Row::with(Setup::new(), upstream);
    let mut client = row.client();
    client.send(post("Content-Length: 2\r\n", ""));
    assert_eq!(client.any_response("POST").status, 103);
    client.send("hi");
    assert_problem(&client.any_response("POST"), &[502], "a flood of interim responses");
    row.upstream.wait_all_ended();
    drop(row.switchback);
}

#[test]
fn row_28_the_number_of_interim_responses_is_capped() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        while exchange.try_send(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n").is_ok() {}
        exchange.reset();
    });
    let row = Row::with(Setup::new(), upstream);
    let mut client = row.client();
    client.send(post("Content-Length: 2\r\n", "hi"));
    let mut hints = 0;
    loop {
        match client.try_response("POST") {
            Ok(hint) if hint.status == 103 => hints += 1,
            Ok(answer) => {
                assert_problem(&answer, &[502], "a flood of interim responses");
                break;
            }
            Err(end) => {
                assert!(is_cut(Some(&end)), "{end:?}");
                break;
            }
        }
        assert!(hints <= 1000, "no cap in sight");
    }
    row.upstream.wait_all_ended();
    assert_eq!(row.upstream.requests(), 1);
    drop(row.switchback);
}

#[test]
fn row_29_a_final_response_before_the_bodys_end_is_delivered_and_that_connection_is_not_used_again() {
    for closes in [false, true] {
        for fields in ["Content-Length: 1000000\r\n", "Transfer-Encoding: chunked\r\n"] {
            let row = Row::with(
                Setup::new(),
                Upstream::start(move |exchange| {
                    if exchange.framing == Framing::None {
                        return exchange.send(OK);
                    }
                    exchange.send(&response(413, b"too much"));
                    if closes {
                        exchange.close();
                    }
                }),
            );
            let mut client = row.client();
            client.send(post(fields, "5\r\nhello\r\n"));
            let answer = client.response("POST").whole();
            assert_eq!((answer.status, answer.text().as_str()), (413, "too much"), "{fields:?}");
            // The rest of the body is read for a bounded while, or not at all: it is never a request.
            client.send(vec![b'z'; 1000]).half_close();
            client.expect_end("an early final response");
            wait_until("the connection of the early answer has ended", || row.upstream.open() == 0);
            row.forwards(get(""));
            assert_eq!(row.upstream.connections().len(), 2, "the connection was used again");
            drop(row.switchback);
        }
    }
}

#[test]
fn row_29_a_connection_that_answered_early_is_not_used_again_though_the_request_was_sent_to_its_end() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let row = Row::with(
        Setup::new(),
        Upstream::start(move |exchange| {
            if exchange.framing == Framing::None {
                return exchange.send(OK);
            }
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nea");
            exchange.body();
            wait.lock().expect("one exchange").recv().expect("the test says when");
            exchange.send(b"rl");
        }),
    );
    let mut client = row.client();
    client.send(post("Content-Length: 100000\r\n", "begin"));
    assert_eq!(client.wire.head().expect("an early head").status(), Ok(200));
    client.send(vec![b'x'; 100_000 - 5]);
    wait_until("the request has come to its end", || {
        row.upstream.messages().iter().any(|message| message.body.bytes.len() == 100_000)
    });
    go.send(()).expect("the upstream waits");
    assert_eq!(client.wire.rest().0, b"earl");
    row.forwards(get(""));
    assert_eq!(row.upstream.connections().len(), 2, "the connection was used again");
}

#[test]
fn row_29_a_client_that_stops_sending_still_gets_all_of_an_early_response() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        // Longer than the client has for the next bytes of its body.
        std::thread::sleep(Duration::from_millis(1500));
        exchange.send(b"world");
        exchange.close();
    });
    let row = Row::with(Setup::new().listener("body_timeout = \"300ms\""), upstream);
    let mut client = row.client();
    client.send(post("Content-Length: 1000\r\n", "never more than this"));
    let answer = client.response("POST").whole();
    assert_eq!((answer.status, answer.text().as_str()), (200, "helloworld"));
    drop(row.switchback);
}

#[test]
fn row_29_a_client_that_sends_on_still_gets_the_early_response() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(&response(413, b"too much"));
        exchange.reset();
    });
    let row = Row::with(Setup::new(), upstream);
    for _ in 0..5 {
        let mut client = row.client();
        client.send(post("Content-Length: 2000000\r\n", "")).send(vec![b'x'; 200_000]);
        let answer = client.response("POST").whole();
        // The upstream's reset may have eaten its own answer; then there is nothing better than a 502.
        assert!([413, 502].contains(&answer.status), "{answer:?}");
    }
    drop(row.switchback);
}

/// Streams for ever, until the connection breaks.
fn endless() -> Upstream {
    Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while exchange.try_send(b"5\r\nhello\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        exchange.reset();
    })
}

#[test]
fn row_30_a_client_that_resets_cancels_the_upstream_request_within_a_second() {
    let row = Row::with(Setup::new(), endless());
    let mut client = row.client();
    client.send(get(""));
    assert_eq!(client.wire.head().unwrap().status(), Ok(200));
    wait_until("the request is counted in flight", || in_flight(&row) == [1.0; 3]);
    let since = Instant::now();
    client.reset();
    wait_until("the upstream request is cancelled", || row.upstream.open() == 0);
    assert!(since.elapsed() < Duration::from_secs(1), "it took {:?}", since.elapsed());
    wait_until("the gauges are back at 0", || in_flight(&row) == [0.0; 3]);
    assert_eq!(row.upstream.requests(), 1, "nothing is retried");
    drop(row.switchback);
}

#[test]
fn row_30_a_client_that_resets_before_any_answer_cancels_too() {
    let row = Row::with(
        Setup::new(),
        Upstream::start(|exchange| {
            // Answers nothing: waits for the connection to end.
            exchange.body();
            let end = exchange.wire().fill();
            assert!(matches!(end, Err(Broken::Eof | Broken::Reset)), "{end:?}");
            exchange.reset();
        }),
    );
    for request in [get(""), post("Content-Length: 5\r\n", "hello"), post("Content-Length: 5\r\n", "he")] {
        let before = row.upstream.requests();
        let mut client = row.client();
        client.send(&request);
        wait_until("the request has come", || row.upstream.requests() > before);
        let since = Instant::now();
        client.reset();
        wait_until(&format!("{request:?} is cancelled upstream"), || row.upstream.open() == 0);
        assert!(since.elapsed() < Duration::from_secs(1), "it took {:?}", since.elapsed());
        wait_until("the gauges are back at 0", || in_flight(&row) == [0.0; 3]);
        assert_eq!(row.upstream.requests(), before + 1, "nothing is retried");
    }
    drop(row.switchback);
}

/// The gauges of requests in flight of the route, the pool and the endpoint, which agree while nothing is retried.
fn in_flight(row: &Row) -> [f64; 3] {
    let metrics = row.switchback.metrics();
    ["route", "pool", "endpoint"].map(|scope| {
        let name = format!("switchback_{scope}_requests_in_flight");
        let series = metrics.lines().filter(|line| line.starts_with(&name));
        let values: Vec<f64> = series.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(!values.is_empty(), "no gauge {name} in\n{metrics}");
        values.iter().sum()
    })
}
