//! Requests and their responses, as both sides see them.

use std::{
    fs,
    sync::{Barrier, Mutex, mpsc},
    time::Duration,
};

use http::Request;

use super::{
    peer::{Peer, get, post, run},
    raw::{END_STREAM, GET, HEADERS, Raw},
    support::{Reserved, Setup, Switchback, Upstream, upstream::response, wait_until},
};

#[test]
fn an_upstream_gets_the_canonical_message() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().route("forwarded = true").start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let request = Request::get("http://a.example:81/x/../a?b=c")
            .header("cookie", "a=1")
            .header("x-own", "v")
            .header("cookie", "b=2; c=3")
            .header("te", "trailers")
            .header("x-forwarded-for", "6.6.6.6")
            .header("forwarded", "for=6.6.6.6")
            .header("via", "1.1 before")
            .body(())
            .expect("a good request");
        let answer = peer.exchange(request, None, None).await.whole();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert!(answer.fields.contains_key("date"));
        assert_eq!(answer.fields["content-length"], "2");
    });
    upstream.assert_canonical();
    let head = upstream.last().head;
    assert_eq!(head.start, "GET /a?b=c HTTP/1.1");
    assert_eq!(head.all("host"), ["a.example:81"]);
    assert_eq!(head.all("cookie"), ["a=1; b=2; c=3"]);
    assert_eq!(head.all("x-own"), ["v"]);
    assert_eq!(head.all("te"), ["trailers"]);
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(head.all("x-forwarded-host"), ["a.example:81"]);
    assert_eq!(head.all("forwarded"), ["for=127.0.0.1;host=\"a.example:81\";proto=http"]);
    assert_eq!(head.all("via"), ["1.1 before", "2 switchback"]);
    assert!(head.all("transfer-encoding").is_empty() && head.all("content-length").is_empty());
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let upstream = Upstream::start(|exchange| {
        let status = exchange.head.target()[1..4].to_owned();
        let fields = if status == "200" { "Content-Length: 5\r\n" } else { "" };
        exchange.send(format!("HTTP/1.1 {status} Text\r\n{fields}\r\n").as_bytes());
    });
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        for status in [204, 304] {
            let answer = peer.get(&format!("/{status}")).await.whole();
            assert_eq!((answer.status, answer.body.len()), (status, 0));
        }
        let request = Request::head("http://a.example/200").body(()).expect("a good request");
        let answer = peer.exchange(request, None, None).await.whole();
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(answer.fields["content-length"], "5");
    });
}

#[test]
fn fields_of_an_upstreams_connection_stay_there() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: a\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-End: \xe9\r\nContent-Length: 2\r\n\r\nok"
            .to_vec(),
    );
    let switchback = Setup::new().start(&upstream);
    run(async {
        let answer = Peer::connect(switchback.address).await.get("/").await.whole();
        let cookies: Vec<_> = answer.fields.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(answer.fields["x-end"].as_bytes(), b"\xe9");
        for gone in ["connection", "x-hop", "keep-alive", "proxy-connection"] {
            assert!(!answer.fields.contains_key(gone), "{gone}: {answer:?}");
        }
    });
}

#[test]
fn interim_responses_come_before_the_final_one() {
    let upstream = Upstream::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let switchback = Setup::new().start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    raw.request(1, GET, END_STREAM);
    let interim = raw.until("the hints", |frame| frame.kind == HEADERS);
    assert_eq!(interim.flags & END_STREAM, 0);
    let fin = raw.until("the response", |frame| frame.kind == HEADERS);
    // 200 is the eighth entry of the static table (RFC 7541 A).
    assert_eq!((fin.payload[0], interim.payload[0] == 0x88), (0x88, false));
}

#[test]
fn a_client_that_waits_for_a_100_gets_it() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        let body = exchange.body().bytes.clone();
        exchange.send(&response(200, &body));
    });
    let switchback = Setup::new().start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    let fields = [&[(":method", "POST")], &GET[1..], &[("content-length", "2"), ("expect", "100-continue")]];
    raw.request(1, &fields.concat(), 0);
    raw.until("the 100", |frame| frame.kind == HEADERS);
    raw.send(0, END_STREAM, 1, b"hi");
    let body = raw.until("the body", |frame| frame.kind == 0);
    assert_eq!(body.payload, b"hi");
    assert_eq!(upstream.last().head.all("expect"), ["100-continue"]);
}

#[test]
fn a_hundred_requests_are_in_flight_at_once_on_a_connection() {
    const STREAMS: usize = 100;
    // None is answered before all have come.
    let barrier = Barrier::new(STREAMS);
    let upstream = Upstream::start(move |exchange| {
        barrier.wait();
        let target = exchange.head.target().to_owned();
        exchange.send(&response(200, target.as_bytes()));
    });
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let mut answers = Vec::new();
        for number in 0..STREAMS {
            answers.push((number, peer.begin(get(&format!("/{number}")), None, None).await));
        }
        for (number, answer) in answers {
            let answer = answer.await.expect("no panic").expect("an answer").whole();
            assert_eq!(answer.text(), format!("/{number}"));
        }
    });
    assert_eq!(switchback.metric("switchback_http2_streams_total"), 100.0);
    wait_until("no stream is open", || switchback.metric("switchback_http2_streams_open") == 0.0);
    wait_until("none is in flight", || switchback.metric("switchback_route_requests_in_flight") == 0.0);
}

#[test]
fn a_connection_takes_no_more_streams_than_the_listener_says() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |exchange| {
        released.lock().expect("no panic holds it").recv().ok();
        exchange.send(&response(200, b"ok"));
    });
    let switchback = Setup::new().listener("http2_max_streams = 2").start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    for stream in [1, 3, 5] {
        raw.request(stream, GET, END_STREAM);
    }
    // REFUSED_STREAM: it may be sent again.
    assert_eq!(raw.outcome(5).reset(5), Some(7));
    (0..2).for_each(|_| release.send(()).expect("the upstream waits"));
    let mut ended = Vec::new();
    while ended.len() < 2 {
        ended.push(raw.until("a body", |frame| frame.kind == 0).stream);
    }
    ended.sort_unstable();
    assert_eq!(ended, [1, 3]);
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn a_connection_that_an_upstream_closes_meanwhile_costs_no_request() {
    // Each connection is closed, without a word, at its second request; so few that the budget for retries has room.
    let upstream = Upstream::start(|exchange| {
        if exchange.on_connection > 0 {
            return exchange.reset();
        }
        exchange.body();
        exchange.send(&response(200, b"ok"));
    });
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        for number in 0..8 {
            assert_eq!(peer.get(&format!("/{number}")).await.whole().status, 200);
        }
    });
    assert!(switchback.metric("switchback_route_retries_total") > 0.0);
}

#[test]
fn the_access_log_and_the_metrics_know_http2() {
    let folder = std::env::temp_dir().join(format!("switchback-http2-log-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder of our own");
    let log = folder.join("access.log");
    let table = format!(
        "[access_log]\npath = {log:?}\nformat = \"{{version}} {{method}} {{status}} {{bytes_received}}\""
    );
    let upstream = Upstream::echo();
    let switchback = Setup::new().tables(&table).start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        peer.exchange(post("/"), Some(b"hello".to_vec()), None).await.whole();
        assert_eq!(switchback.metric("switchback_http2_connections_open"), 1.0);
    });
    switchback.client().exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").whole();
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    wait_until("both are logged", || lines().lines().count() == 2);
    assert_eq!(lines(), "2 POST 200 5\n1.1 GET 200 0\n");
    wait_until("the connection has ended", || switchback.metric("switchback_http2_connections_open") == 0.0);
    assert_eq!(switchback.metric("switchback_http2_connections_total"), 1.0);
    fs::remove_dir_all(&folder).ok();
}

#[test]
fn a_request_waits_for_an_endpoint_as_any_other() {
    let port = Reserved::any();
    let probes = "health = { tcp = true, interval = \"50ms\", down_interval = \"50ms\", healthy_after = 1 }";
    let nobody = Upstream::ok();
    let file = Setup::new().pool(probes).pool("unavailable_wait = \"60s\"").toml(&[&nobody]);
    let switchback = Switchback::start(&file.replace(&nobody.address.to_string(), &port.address.to_string()));
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let answer = peer.begin(get("/"), None, None).await;
        while switchback.metric("switchback_pool_requests_pending") < 1.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let app = Upstream::start_on(port, |exchange| exchange.send(&response(200, b"ok")));
        assert_eq!(answer.await.expect("no panic").expect("an answer").whole().status, 200);
        assert_eq!(app.requests(), 1);
    });
    wait_until("no stream is open", || switchback.metric("switchback_http2_streams_open") == 0.0);
}
