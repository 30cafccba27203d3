//! Row 23: who is too slow.

use std::time::{Duration, Instant};

use crate::{
    row::{HOST, Row, assert_problem, get, is_cut, post},
    support::{Broken, Client, Setup, Upstream, message::Framing, wait_until},
};

/// What is configured, and by when it must have happened on a slow machine.
const SHORT: &str = "300ms";
const SOON: Duration = Duration::from_secs(5);
const NOT_BEFORE: Duration = Duration::from_millis(200);

/// Either a 408 or just the end, and in time.
fn assert_given_up(mut client: Client, since: Instant, context: &str) {
    match client.try_response("GET") {
        Ok(response) => {
            assert_problem(&response, &[408], context);
            client.expect_end(context);
        }
        Err(end) => assert_eq!(end, Broken::Eof, "{context}"),
    }
    let took = since.elapsed();
    assert!((NOT_BEFORE..SOON).contains(&took), "{context}: given up after {took:?}");
}

#[test]
fn row_23_a_slow_head() {
    let row = Row::with(Setup::new().listener(&format!("head_timeout = \"{SHORT}\"")), Upstream::ok());
    for start in [
        "G",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\n\r",
    ] {
        let mut client = row.client();
        let since = Instant::now();
        client.send(start);
        assert_given_up(client, since, start);
    }
    let mut client = row.client();
    client.expect_alive("the first request");
    let since = Instant::now();
    client.send("GET / HT");
    assert_given_up(client, since, "the second request's head");
    let upstream = row.finish();
    assert_eq!(upstream.requests(), 1, "only the whole request came through");
}

#[test]
fn row_23_an_empty_line_before_a_slow_head_gives_it_no_more_time() {
    let times = format!("head_timeout = \"{SHORT}\"\nkeep_alive_timeout = \"60s\"");
    let row = Row::with(Setup::new().listener(&times), Upstream::ok());
    for pieces in [&["\r\n", "G"][..], &["\r\nGET / HT"], &["\r", "\nGET / HTTP/1.1\r\nHost: a"]] {
        let mut client = row.client();
        client.expect_alive("the first request");
        for piece in pieces {
            client.send(piece);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_given_up(client, Instant::now() - Duration::from_millis(20), &pieces.concat());
    }
    row.finish();
}

#[test]
fn row_23_a_head_that_trickles_is_bounded_from_its_first_byte() {
    let row = Row::with(Setup::new().listener(&format!("head_timeout = \"{SHORT}\"")), Upstream::ok());
    let mut client = row.client().patience(Duration::from_millis(40));
    let since = Instant::now();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: "));
    let ended = loop {
        client.send("a");
        match client.try_response("GET") {
            Err(Broken::Timeout) => assert!(since.elapsed() < SOON, "a trickle keeps a connection forever"),
            other => break other,
        }
    };
    match ended {
        Ok(response) => assert_problem(&response, &[408], "a trickle"),
        Err(end) => assert!(is_cut(Some(&end)), "{end:?}"),
    }
    assert!(since.elapsed() > NOT_BEFORE);
    assert_eq!(row.finish().total(), 0);
}

#[test]
fn row_23_an_idle_connection_is_closed_without_a_word() {
    let row = Row::with(Setup::new().listener(&format!("keep_alive_timeout = \"{SHORT}\"")), Upstream::ok());
    let mut used = row.client();
    used.expect_alive("the first request");
    let since = Instant::now();
    used.expect_end("an idle connection");
    assert!((NOT_BEFORE..SOON).contains(&since.elapsed()), "{:?}", since.elapsed());
    row.finish();
}

#[test]
fn row_23_a_connection_that_never_says_anything_is_closed() {
    let setup =
        Setup::new().listener(&format!("head_timeout = \"{SHORT}\"\nkeep_alive_timeout = \"{SHORT}\""));
    let row = Row::with(setup, Upstream::ok());
    let since = Instant::now();
    assert_given_up(row.client(), since, "silence");
    row.finish();
}

#[test]
fn row_23_a_silent_body() {
    let row = Row::with(Setup::new().listener(&format!("body_timeout = \"{SHORT}\"")), Upstream::ok());
    for (fields, start) in [
        ("Content-Length: 10\r\n", "hello"),
        ("Content-Length: 10\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhel"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked\r\n", ""),
    ] {
        let mut client = row.client();
        let since = Instant::now();
        client.send(post(fields, start));
        assert_given_up(client, since, &format!("{fields:?} {start:?}"));
        wait_until("the upstream connection was given up", || row.upstream.open() == 0);
    }
    let upstream = row.finish();
    assert!(upstream.messages().iter().all(|message| is_cut(message.broken.as_ref())));
}

#[test]
fn row_23_a_body_that_keeps_coming_is_not_silent() {
    let row = Row::with(Setup::new().listener("body_timeout = \"600ms\""), Upstream::echo());
    let mut client = row.client();
    client.send(post("Content-Length: 10\r\n", ""));
    for _ in 0..10 {
        // Longer in all than the timeout, shorter each: this pause is what is tested.
        std::thread::sleep(Duration::from_millis(100));
        client.send("x");
    }
    assert_eq!(client.response("POST").whole().text(), "xxxxxxxxxx");
    row.finish();
}

#[test]
fn row_23_a_client_that_takes_no_byte_of_the_response() {
    let endless = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        while exchange.try_send(&chunk).is_ok() {}
        exchange.reset();
    });
    let row = Row::with(Setup::new().listener(&format!("write_timeout = \"{SHORT}\"")), endless);
    let mut client = row.client();
    let since = Instant::now();
    client.send(get(""));
    wait_until("the upstream connection was given up", || {
        row.upstream.requests() == 1 && row.upstream.open() == 0
    });
    assert!((NOT_BEFORE..SOON).contains(&since.elapsed()), "{:?}", since.elapsed());
    let head = client.wire.head().unwrap();
    assert_eq!(head.response_framing("GET"), Ok(Framing::Chunked));
    let (_, broken) = client.wire.whole_body(Framing::Chunked);
    assert!(is_cut(broken.as_ref()), "a stalled response must not end cleanly: {broken:?}");
    drop(row.switchback);
}
