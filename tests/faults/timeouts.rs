//! Each time that can run out: who is told what, and what it does not bound.

use std::{
    io::Read,
    thread,
    time::{Duration, Instant},
};

use crate::{
    counted, get,
    support::{
        Broken, Setup, Upstream, pattern,
        upstream::{OK, response},
        wait_until,
    },
    with_body,
};

/// What is configured, before which it must not happen, and by when it must have on a slow machine.
const SHORT: &str = "300ms";
const NOT_BEFORE: Duration = Duration::from_millis(250);
const SOON: Duration = Duration::from_secs(8);
/// Twice what is configured: pauses of this length are what is tested.
const LONG: Duration = Duration::from_millis(600);

/// Takes requests whole and never answers.
fn silent() -> Upstream {
    Upstream::start(|exchange| {
        exchange.body();
        exchange.wire().fill().ok();
        exchange.close();
    })
}

#[test]
fn no_first_byte_in_time_is_504_and_is_named_everywhere() {
    let upstream = silent();
    let folder = std::env::temp_dir().join(format!("switchback-timeouts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of our own");
    let log = folder.join("access.log");
    let switchback = Setup::new()
        .route(&format!("first_byte_timeout = \"{SHORT}\""))
        .tables(&format!("[access_log]\npath = {:?}\nformat = \"json\"\n", log.display().to_string()))
        .start(&upstream);
    let since = Instant::now();
    let answer = switchback.client().exchange(get("/", "")).whole();
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!((NOT_BEFORE..SOON).contains(&since.elapsed()), "{:?}", since.elapsed());
    assert!(answer.text().contains("first_byte_timeout"), "{}", answer.text());
    assert_eq!(answer.head.one("x-switchback-attempt"), None, "there was one attempt");
    wait_until("the upstream request is cancelled", || upstream.open() == 0);
    assert_eq!(upstream.requests(), 1, "the route's patience is over: it is not repeated");
    for scope in ["route", "pool", "endpoint"] {
        let metric = format!("switchback_{scope}_timeouts_total");
        assert_eq!(counted(&switchback, &metric, &["kind=\"first_byte\""]), 1, "{scope}");
        assert_eq!(counted(&switchback, &metric, &[]), 1, "{scope}");
    }
    let mut line = String::new();
    wait_until("the access log has its line", || {
        line = std::fs::read_to_string(&log).unwrap_or_default();
        line.ends_with('\n')
    });
    std::fs::remove_dir_all(&folder).ok();
    assert!(line.contains("\"timeout\":\"first_byte\""), "{line}");
    let sent = format!("\"bytes_sent\":{}", answer.body.bytes.len());
    assert!(line.contains(&sent), "the answer of our own has a length: {line}");
}

#[test]
fn the_first_byte_is_awaited_from_the_requests_end_to_the_responses_head_alone() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        thread::sleep(LONG);
        exchange.send(b"ok");
    });
    let switchback = Setup::new().route(&format!("first_byte_timeout = \"{SHORT}\"")).start(&upstream);
    let mut client = switchback.client();
    client.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\na");
    thread::sleep(LONG);
    client.send("bc");
    assert_eq!(client.response("POST").whole().text(), "ok");
    assert_eq!(counted(&switchback, "switchback_route_timeouts_total", &[]), 0);
}

#[test]
fn a_response_that_falls_silent_is_cut_and_never_looks_whole() {
    let upstream = Upstream::start(|exchange| {
        let start: &[u8] = match exchange.head.target() {
            "/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        };
        exchange.send(start);
        exchange.wire().fill().ok();
        exchange.close();
    });
    let switchback = Setup::new().route(&format!("stream_idle_timeout = \"{SHORT}\"")).start(&upstream);
    for (target, version, ends) in [
        ("/length", "1.1", &[Broken::Eof, Broken::Reset][..]),
        ("/chunked", "1.1", &[Broken::Eof, Broken::Reset]),
        // Here the connection's end would complete the body.
        ("/chunked", "1.0", &[Broken::Reset]),
    ] {
        let mut client = switchback.client();
        let since = Instant::now();
        client.send(format!("GET {target} HTTP/{version}\r\nHost: a.example\r\n\r\n"));
        let answer = client.any_response("GET");
        assert_eq!(answer.status, 200);
        let end = answer.broken.as_ref();
        assert!(end.is_some_and(|end| ends.contains(end)), "{target} {version}: {answer:?}");
        assert!((NOT_BEFORE..SOON).contains(&since.elapsed()), "{:?}", since.elapsed());
        wait_until("the upstream connection is given up", || upstream.open() == 0);
    }
    assert_eq!(upstream.requests(), 3, "an answer that has begun is not repeated");
    assert_eq!(counted(&switchback, "switchback_route_timeouts_total", &["kind=\"stream_idle\""]), 3);
}

#[test]
fn a_response_that_trickles_is_not_silent() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
        exchange.send_pieces(b"trickled", 1, Duration::from_millis(100));
    });
    let switchback = Setup::new().route("stream_idle_timeout = \"500ms\"").start(&upstream);
    assert_eq!(switchback.client().exchange(get("/", "")).whole().text(), "trickled");
}

#[test]
fn an_upstream_that_is_not_asked_is_not_silent() {
    // Far more than the sockets between them hold.
    let body = pattern(48 << 20, 1);
    let sent = body.clone();
    let upstream = Upstream::start(move |exchange| exchange.send(&response(200, &sent)));
    let switchback = Setup::new().route(&format!("stream_idle_timeout = \"{SHORT}\"")).start(&upstream);
    let mut client = switchback.client();
    client.send(get("/", "Connection: close\r\n"));
    // The client reads nothing for a while.
    thread::sleep(LONG);
    let mut received = Vec::new();
    client.wire.stream().read_to_end(&mut received).expect("an orderly end");
    assert!(received.ends_with(&body[body.len() - 1000..]) && received.len() > body.len());
    assert_eq!(counted(&switchback, "switchback_route_timeouts_total", &[]), 0);
}

/// An upstream that hangs on its first request, and one that answers.
fn hanging_and_well(route: &str) -> (Upstream, Upstream, crate::support::Switchback) {
    let hanging = silent();
    let well = Upstream::ok();
    // In turn, so that the first request meets each of them by the second at the latest.
    let switchback =
        Setup::new().pool("balance = \"round_robin\"").route(route).start_all(&[&hanging, &well]);
    (hanging, well, switchback)
}

#[test]
fn an_attempt_that_takes_too_long_is_made_elsewhere() {
    let (hanging, well, switchback) =
        hanging_and_well(&format!("retries = {{ per_try_timeout = \"{SHORT}\" }}"));
    let mut client = switchback.client();
    for _ in 0..4 {
        assert_eq!(client.exchange(get("/", "")).whole().text(), "ok");
    }
    let waited = hanging.requests() as u64;
    // Other attempts take turns, too: each request may meet it first.
    assert!((1..=4).contains(&waited), "{waited} of 4 met the endpoint that hangs");
    assert_eq!(well.requests(), 4);
    let labels = ["reason=\"per_try_timeout\""];
    assert_eq!(counted(&switchback, "switchback_route_retries_total", &labels), waited);
    assert_eq!(counted(&switchback, "switchback_route_timeouts_total", &["kind=\"per_try\""]), waited);
    let repeated = well.messages().iter().filter(|m| m.head.one("x-switchback-attempt") == Some("2")).count();
    assert_eq!(repeated as u64, waited);
    wait_until("the attempts that were given up are cancelled", || hanging.open() == 0);
}

/// A part of its head is a byte of its answer.
#[test]
fn an_attempt_is_not_given_up_once_a_byte_of_its_answer_has_come() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Le");
        thread::sleep(LONG);
        exchange.send(b"ngth: 2\r\n\r\nok");
    });
    let switchback =
        Setup::new().route(&format!("retries = {{ per_try_timeout = \"{SHORT}\" }}")).start(&upstream);
    assert_eq!(switchback.client().exchange(get("/", "")).whole().text(), "ok");
    assert_eq!(upstream.requests(), 1);
    assert_eq!(counted(&switchback, "switchback_route_timeouts_total", &[]), 0);
}

#[test]
fn an_attempt_is_not_given_up_for_a_client_that_is_slow_to_send() {
    let upstream = Upstream::echo();
    let switchback =
        Setup::new().route(&format!("retries = {{ per_try_timeout = \"{SHORT}\" }}")).start(&upstream);
    let mut client = switchback.client();
    client.send("PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nsl");
    thread::sleep(2 * LONG);
    // Before the rest is sent: from then on the upstream has its time, and a stalled machine may take longer.
    assert_eq!(upstream.requests(), 1);
    assert_eq!(counted(&switchback, "switchback_route_timeouts_total", &[]), 0);
    client.send("ow");
    assert_eq!(client.response("PUT").whole().text(), "slow");
}

#[test]
fn an_attempt_without_another_after_it_has_the_time_of_the_route() {
    let slow = Upstream::start(|exchange| {
        exchange.body();
        thread::sleep(LONG);
        exchange.send(OK);
    });
    let switchback = Setup::new()
        .route(&format!("retries = {{ per_try_timeout = \"{SHORT}\", attempts = 0 }}"))
        .start(&slow);
    assert_eq!(switchback.client().exchange(get("/", "")).whole().text(), "ok");
    drop(switchback);
    let switchback =
        Setup::new().route(&format!("retries = {{ per_try_timeout = \"{SHORT}\" }}")).start(&slow);
    let answer = switchback.client().exchange(with_body("POST", "/", "", b"once"));
    assert_eq!(answer.whole().text(), "ok", "a POST is not made elsewhere, so it is waited for");
    assert_eq!(slow.requests(), 2);
}

#[test]
fn the_routes_time_is_for_all_attempts_together() {
    let upstream = silent();
    let switchback = Setup::new()
        .route(&format!("timeout = \"700ms\"\nretries = {{ attempts = 10, per_try_timeout = \"{SHORT}\" }}"))
        .start(&upstream);
    let since = Instant::now();
    let answer = switchback.client().exchange(get("/", ""));
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(since.elapsed() < SOON && since.elapsed() >= Duration::from_millis(650), "{:?}", since.elapsed());
    assert!(answer.text().contains("timeout: the request took longer"), "{}", answer.text());
    assert!((2..=4).contains(&upstream.requests()), "{} attempts", upstream.requests());
    let attempts = answer.head.one("x-switchback-attempt").and_then(|number| number.parse::<usize>().ok());
    // The last may have been over before it had a connection.
    let seen = upstream.requests();
    assert!(
        attempts.is_some_and(|attempts| attempts == seen || attempts == seen + 1),
        "{attempts:?}, {seen}"
    );
}

#[test]
fn a_client_that_resets_while_it_waits_is_noticed_at_once_after_a_first_look() {
    let upstream = silent();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send(get("/", ""));
    wait_until("the request is at the upstream", || upstream.requests() == 1);
    // The look is after half a second; from then on the runtime watches.
    thread::sleep(Duration::from_secs(1));
    client.reset();
    let since = Instant::now();
    wait_until("the upstream request is cancelled", || upstream.open() == 0);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    wait_until("it is counted", || switchback.metric("switchback_route_requests_aborted_total") == 1.0);
}

#[test]
fn a_client_with_a_next_request_waiting_is_looked_at_again_and_again() {
    let upstream = silent();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send(get("/", "") + &get("/next", ""));
    wait_until("the request is at the upstream", || upstream.requests() == 1);
    thread::sleep(Duration::from_secs(1));
    client.reset();
    wait_until("the upstream request is cancelled", || upstream.open() == 0);
}
