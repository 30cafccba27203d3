//! Rows 22, 24: too long, too many, and the grammar of the head's first line and names.

use std::time::Duration;

use crate::{
    row::{HOST, Row, assert_problem, client_fields, get, is_cut, post},
    support::{Broken, Setup, Upstream, upstream::response},
};

#[test]
fn row_22_a_target_over_8_kib() {
    let row = Row::new();
    let longest = format!("/{}", "a".repeat(8191));
    assert_eq!(
        row.forwards(format!("GET {longest} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).head.target(),
        longest
    );
    for target in
        [format!("{longest}a"), format!("/?{}", "a".repeat(8191)), format!("/{}", "a".repeat(30 << 10))]
    {
        row.refuses(&[414], format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    }
    row.finish();
}

#[test]
fn row_22_a_target_without_end_is_refused_before_its_end() {
    let row = Row::new();
    for start in ["GET /", "GET /?"] {
        let mut client = row.client();
        client.send(start).send(vec![b'a'; 9 << 10]);
        let response = client.response("GET");
        assert_problem(&response, &[414], "a target without end");
        client.expect_end("a target without end");
    }
    assert_eq!(row.finish().total(), 0);
}

#[test]
fn row_22_a_head_over_64_kib_or_100_fields() {
    let row = Row::new();
    let large = format!("X: {}\r\n", "y".repeat(60 << 10));
    assert_eq!(row.forwards(get(&large)).head.one("x").map(str::len), Some(60 << 10));
    row.refuses(&[431], get(&format!("X: {}\r\n", "y".repeat(64 << 10))));
    row.refuses(&[431], get(&format!("X: {}\r\n", "y".repeat(1000)).repeat(66)));
    row.refuses(&[431], get(&format!("{}: y\r\n", "x".repeat(64 << 10))));

    let many = |count: usize| (0..count).map(|index| format!("X-{index}: {index}\r\n")).collect::<String>();
    let message = row.forwards(get(&many(99)));
    assert_eq!(client_fields(&message.head).len(), 100, "all fields with Host");
    row.refuses(&[431], get(&many(100)));
    row.refuses(&[431], get(&many(2000)));
    row.finish();
}

#[test]
fn row_22_a_head_without_end_is_refused_at_the_limit() {
    let row = Row::new();
    let mut client = row.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: "));
    for _ in 0..66 {
        client.send([b'a'; 1024]);
    }
    let response = client.response("GET");
    assert_problem(&response, &[431], "a head without end");
    client.expect_end("a head without end");
    assert_eq!(row.finish().total(), 0);
}

#[test]
fn row_22_a_body_over_the_routes_limit() {
    let row = Row::with(Setup::new().route("max_body = 10"), Upstream::echo());
    let message = row.forwards(post("Content-Length: 10\r\n", "0123456789"));
    assert_eq!(message.body.bytes.len(), 10);
    let message =
        row.forwards(post("Transfer-Encoding: chunked\r\n", "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"));
    assert_eq!(message.body.bytes.len(), 10);

    let before = row.upstream.total();
    for (declared, body) in
        [("11", "01234567890"), ("11", "01234"), ("1000000", "01234"), ("18446744073709551615", "01234")]
    {
        let mut client = row.client();
        client.send(post(&format!("Content-Length: {declared}\r\n"), body));
        assert_problem(&client.response("POST"), &[413], declared);
        client.expect_end(declared);
    }
    assert_eq!(row.upstream.total(), before, "a declared length over the limit reaches nobody");

    for body in [
        "b\r\n01234567890\r\n0\r\n\r\n",
        "5\r\n01234\r\n6\r\n567890\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n01234567890",
    ] {
        let whole = row.upstream.messages().iter().filter(|message| message.broken.is_none()).count();
        let mut client = row.client();
        client.send(post("Transfer-Encoding: chunked\r\n", body));
        assert_problem(&client.response("POST"), &[413], body);
        client.expect_end(body);
        let now = row.upstream.messages().iter().filter(|message| message.broken.is_none()).count();
        assert_eq!(now, whole, "{body:?} reached the upstream whole");
    }
    let upstream = row.finish();
    assert!(
        upstream.messages().iter().all(|message| message.broken.is_none() || is_cut(message.broken.as_ref()))
    );
}

#[test]
fn row_22_methods_and_names_that_are_no_tokens() {
    let row = Row::new();
    for method in [
        "G(T", "G\"T", "G,T", "G/T", "G:T", "G;T", "G[T", "G{T", "G@T", "G=T", "G?T", "G\u{e9}T", "", "G\\T",
        "<GET>",
    ] {
        row.refuses(&[400], format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    }
    for name in [
        "", "X(Y)", "X/Y", "X\"", "X,Y", "X;Y", "X=Y", "X@Y", "X[Y]", "X\\Y", "X{Y}", "X\u{e9}", "\u{e9}",
        "X?", "<X>", "X\u{a0}",
    ] {
        row.refuses(&[400], get(&format!("{name}: z\r\n")));
    }
    // Found by the fuzzer: a long method was refused in pieces, but not at once.
    row.refuses(&[400], format!("{} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n", "M".repeat(65)));
    row.forwards(format!("{} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n", "M".repeat(64)));
    for method in ["get", "PURGE", "M-SEARCH", "!#$%&'*+.^`|~09AZaz", "X"] {
        let message = row.forwards(format!("{method} /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(message.head.method(), method);
    }
    let message = row.forwards(get("!#$%&'*+.^`|~-09AZaz: z\r\n"));
    assert_eq!(message.head.one("!#$%&'*+.^`|~-09AZaz"), Some("z"));
    row.finish();
}

#[test]
fn row_22_white_space_in_the_request_line() {
    let row = Row::new();
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1\t",
        "\tGET / HTTP/1.1",
        "GET / / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET\u{a0}/ HTTP/1.1",
    ] {
        row.refuses(&[400, 505], format!("{line}\r\nHost: {HOST}\r\n\r\n"));
    }
    for before in ["\r\n", "\r\n\r\n"] {
        row.refuses_or_forwards(format!("{before}{}", get("")));
    }
    row.finish();
}

#[test]
fn row_22_a_line_without_a_version_is_refused_at_once() {
    let row = Row::new();
    for line in ["GET /\r\n", "GET\r\n", "GET / \r\n", "hello\r\n", "\u{16}\u{3}\u{1}\u{2}\r\n", "GET  /\r\n"]
    {
        // No empty line follows: the answer must not wait for it.
        let mut client = row.client();
        client.send(line);
        let response = client.response("GET");
        assert_problem(&response, &[400], line);
        client.expect_end(line);
    }
    assert_eq!(row.finish().total(), 0);
}

#[test]
fn row_24_at_the_cap_accepting_pauses_and_the_admin_api_still_answers() {
    let row = Row::with(Setup::new().listener("max_connections = 2"), Upstream::ok());
    let mut first = row.client();
    first.expect_alive("the first connection");
    let mut second = row.client();
    second.expect_alive("the second connection");
    let mut third = row.client().patience(Duration::from_millis(300));
    third.send(get(""));
    assert_eq!(third.try_response("GET"), Err(Broken::Timeout), "the third connection had to wait");
    assert_eq!(row.switchback.admin("GET", "/livez", "").status, 200);
    assert_eq!(row.switchback.admin("GET", "/v1/status", "").status, 200);
    first.expect_alive("a connection under the cap");
    drop(first);
    let mut third = third.patience(crate::support::PATIENCE);
    assert_eq!(third.response("GET").status, 200);
    second.expect_alive("the other connection");
    row.finish();
}

#[test]
fn row_24_over_the_cap_of_requests_the_answer_is_a_fast_503() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |exchange| {
        wait.lock().expect("one exchange at a time").recv().expect("the test says when");
        exchange.send(&response(200, b"ok"));
    });
    let row = Row::with(Setup::new().listener("max_requests = 1"), upstream);
    let mut first = row.client();
    first.send(get(""));
    crate::support::wait_until("the first request has come", || row.upstream.requests() == 1);
    let mut second = row.client();
    let refused = second.exchange(get("")).whole();
    assert_problem(&refused, &[503], "over the cap");
    assert!(refused.head.one("retry-after").is_some(), "{refused:?}");
    assert_eq!(row.switchback.admin("GET", "/livez", "").status, 200);
    go.send(()).expect("the upstream waits");
    assert_eq!(first.response("GET").whole().status, 200);
    go.send(()).expect("the upstream waits");
    assert_eq!(
        second.exchange(get("")).whole().status,
        200,
        "the connection goes on, and its next request is served"
    );
    assert_eq!(row.finish().requests(), 2, "what was refused reached nobody");
}

#[test]
fn row_24_a_listener_s_cap_counts_its_own_requests_alone() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |exchange| {
        if exchange.head.target() == "/held" {
            wait.lock().expect("one exchange at a time").recv().expect("the test says when");
        }
        exchange.send(&response(200, b"ok"));
    });
    let second = "[[listener]]\nname = \"second\"\nlisten = \"127.0.0.1:0\"\nmax_requests = 1";
    let row = Row::with(Setup::new().tables(second), upstream);
    let mut held = row.client();
    held.send("GET /held HTTP/1.1\r\nHost: a.example\r\n\r\n");
    crate::support::wait_until("the first request has come", || row.upstream.requests() == 1);
    let mut other = crate::support::Client::connect(row.switchback.listener("second"));
    assert_eq!(other.exchange(get("")).whole().status, 200, "its own listener has no request in flight");
    assert_eq!(other.exchange(get("")).whole().status, 200, "and none is left of the last");
    go.send(()).expect("the upstream waits");
    assert_eq!(held.response("GET").whole().status, 200);
    row.finish();
}

#[test]
fn row_24_a_burst_over_the_cap_is_served_in_the_end() {
    let upstream = Upstream::start(|exchange| {
        std::thread::sleep(Duration::from_millis(5));
        exchange.send(&response(200, b"ok"));
    });
    let row = Row::with(Setup::new().listener("max_connections = 4"), upstream);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..40)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = row.client();
                    client.send(get("Connection: close\r\n"));
                    client.response("GET").whole().status
                })
            })
            .collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
    });
    assert_eq!(row.finish().requests(), 40);
}
