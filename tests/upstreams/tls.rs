//! TLS with endpoints: whom they have to prove to be, what they are shown, and what comes of it when they can't.

use std::net::SocketAddr;

use super::{
    authority::{Authority, Kind},
    endpoint::Terms,
    support::{Setup, Switchback, Upstream, pattern, wait_until},
};

/// A file with one pool whose endpoints speak TLS.
fn file(endpoints: &[SocketAddr], tls: &str, more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    let setup = Setup::new().pool(&format!("tls = {{ {tls} }}\n{more}"));
    setup.toml(&[]).replace("endpoints = []", &format!("endpoints = [{}]", endpoints.join(", ")))
}

fn get(switchback: &Switchback) -> (u16, String) {
    let mut client = switchback.client();
    let response = client.exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    (response.status, response.text())
}

#[test]
fn an_endpoint_that_proves_its_address_is_served_and_its_connections_and_sessions_are_used_again() {
    let authority = Authority::new();
    authority.issue("app", &["127.0.0.1"], Kind::Ecdsa);
    let upstream = Upstream::ok();
    let endpoint = Terms::new(&authority, "app").start(upstream.address);
    let ca = format!("ca = {:?}", authority.file());
    let switchback = Switchback::start(&file(&[endpoint.address], &ca, "idle_timeout = \"200ms\""));
    for _ in 0..3 {
        assert_eq!(get(&switchback).0, 200);
    }
    let seen = endpoint.seen();
    assert_eq!(
        seen.len(),
        1,
        "one connection serves them all, tickets behind its handshake or not: {seen:?}"
    );
    // An address is no name that is asked for (RFC 6066 3).
    assert_eq!((seen[0].name.as_deref(), seen[0].is_resumed), (None, false));
    wait_until("the idle connection is closed", || upstream.open() == 0);
    assert_eq!(get(&switchback).0, 200);
    assert!(endpoint.seen()[1].is_resumed, "{:?}", endpoint.seen());
    upstream.assert_canonical();
}

#[test]
fn bodies_pass_both_ways_and_a_tunnel_is_one() {
    const LENGTH: usize = 3 << 20;
    let authority = Authority::new();
    authority.issue("app", &["app.internal"], Kind::Rsa);
    let upstream = Upstream::start(|exchange| {
        if exchange.head.target() == "/tunnel" {
            exchange.tunnel_echo("websocket");
            return;
        }
        let body = exchange.body().bytes.clone();
        exchange.send(&super::support::upstream::response(200, &body));
    });
    let endpoint = Terms::new(&authority, "app").start(upstream.address);
    let tls = format!("ca = {:?}, name = \"app.internal\"", authority.file());
    let switchback = Switchback::start(&file(&[endpoint.address], &tls, ""));
    let sent = pattern(LENGTH, 3);
    let mut client = switchback.client();
    let mut request =
        format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes();
    request.extend_from_slice(&sent);
    let response = client.exchange(request);
    assert_eq!(response.status, 200);
    assert!(response.body.bytes == sent, "the body came back changed");
    assert_eq!(endpoint.seen()[0].name.as_deref(), Some("app.internal"));
    let mut client = switchback.client();
    client
        .send("GET /tunnel HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.any_response("GET").status, 101);
    client.send("through TLS");
    assert_eq!(client.wire.exactly(11).expect("an echo"), b"through TLS");
}

#[test]
fn who_can_not_prove_to_be_the_one_that_is_meant_is_sent_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("elsewhere", &["elsewhere.internal"], Kind::Ecdsa);
    authority.issue_until("late", &["127.0.0.1"], Kind::Ecdsa, 2021);
    other.issue("forged", &["127.0.0.1"], Kind::Ecdsa);
    for (of, pair, words) in [
        (&authority, "elsewhere", "not valid for name"),
        (&authority, "late", "expired"),
        (&other, "forged", "BadSignature"),
    ] {
        let upstream = Upstream::ok();
        let endpoint = Terms::new(of, pair).start(upstream.address);
        let ca = format!("ca = {:?}", authority.file());
        let switchback = Switchback::start(&file(&[endpoint.address], &ca, "eject = { enabled = false }"));
        let (status, text) = get(&switchback);
        assert_eq!(status, 502, "{pair}: {text}");
        assert!(text.contains("certificate does not count"), "{pair}: {text}");
        assert_eq!(upstream.total(), 0, "{pair}: it was sent something");
        assert!(switchback.metric("switchback_endpoint_tls_failures_total") >= 1.0);
        let said = switchback.stderr();
        assert!(said.contains("no TLS with an endpoint") && said.contains(words), "{pair}: {said}");
    }
}

#[test]
fn a_handshake_that_fails_is_tried_elsewhere_whatever_the_method() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("app", &["127.0.0.1"], Kind::Ecdsa);
    other.issue("forged", &["127.0.0.1"], Kind::Ecdsa);
    let (good, bad) = (Upstream::ok(), Upstream::ok());
    let good_endpoint = Terms::new(&authority, "app").start(good.address);
    let bad_endpoint = Terms::new(&other, "forged").start(bad.address);
    let ca = format!("ca = {:?}", authority.file());
    let more = "eject = { enabled = false }\nbalance = \"round_robin\"";
    let endpoints = [good_endpoint.address, bad_endpoint.address];
    let switchback = Switchback::start(&file(&endpoints, &ca, more));
    for _ in 0..4 {
        let mut client = switchback.client();
        let request = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(client.exchange(request).status, 200);
    }
    assert_eq!((good.requests(), bad.total()), (4, 0));
    assert!(bad_endpoint.failed() > 0);
    let metrics = switchback.metrics();
    let retried =
        |line: &&str| line.starts_with("switchback_route_retries_total") && line.contains("reason=\"tls\"");
    let line = metrics.lines().find(retried).expect("it is counted");
    assert!(!line.ends_with(" 0"), "{line}");
}

#[test]
fn endpoints_are_shown_a_certificate_if_they_ask_and_need_none_if_nobody_verifies() {
    let authority = Authority::new();
    authority.issue("app", &["other.internal"], Kind::Ecdsa);
    authority.client("proxy", 7, 2100);
    let upstream = Upstream::ok();
    let endpoint = Terms { asks: true, ..Terms::new(&authority, "app") }.start(upstream.address);
    let (pair, key) = (authority.path("proxy.pem"), authority.path("proxy.key"));
    for (tls, status) in
        [(format!("verify = false, cert = {pair:?}, key = {key:?}"), 200), ("verify = false".to_owned(), 502)]
    {
        let switchback = Switchback::start(&file(&[endpoint.address], &tls, "eject = { enabled = false }"));
        assert_eq!(get(&switchback).0, status, "{tls}");
        assert!(switchback.stderr().contains("verify = false"), "it is warned of");
    }
    assert!(endpoint.seen().iter().all(|seen| seen.has_certificate), "{:?}", endpoint.seen());
}

#[test]
fn files_are_followed_and_connections_of_before_are_used_no_more() {
    let (authority, next) = (Authority::new(), Authority::new());
    authority.issue("app", &["127.0.0.1"], Kind::Ecdsa);
    next.issue("app", &["127.0.0.1"], Kind::Ecdsa);
    let (old, new) = (Upstream::ok(), Upstream::ok());
    let endpoint = Terms::new(&authority, "app").start(old.address);
    let renewed = Terms::new(&next, "app").start(new.address);
    let file_of = std::fs::read_to_string(authority.file()).expect("it is there");
    authority.write("trusted.pem", &file_of);
    let tls = format!("ca = {:?}", authority.path("trusted.pem"));
    let more = "eject = { enabled = false }";
    let switchback = Switchback::start(&file(&[endpoint.address], &tls, more));
    let renewing = Switchback::start(&file(&[renewed.address], &tls, more));
    assert_eq!((get(&switchback).0, get(&renewing).0), (200, 502));
    authority.write("trusted.pem", "no certificate\n");
    wait_until("the bad file is told of", || switchback.stderr().contains("not reloaded"));
    assert_eq!(get(&switchback).0, 200, "the old one stays in force");
    authority.write("trusted.pem", &std::fs::read_to_string(next.file()).expect("it is there"));
    wait_until("the new authority counts", || get(&renewing).0 == 200);
    wait_until("the old one counts no more", || get(&switchback).0 == 502);
}

#[test]
fn probes_speak_tls_as_requests_do() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("app", &["app.internal"], Kind::Ecdsa);
    other.issue("app", &["app.internal"], Kind::Ecdsa);
    let upstream = Upstream::ok();
    let good = Terms::new(&authority, "app").start(upstream.address);
    let bad = Terms::new(&other, "app").start(upstream.address);
    let tls = format!("ca = {:?}, name = \"app.internal\"", authority.file());
    let more = "health = { http = \"/healthz\", interval = \"50ms\", down_interval = \"50ms\" }";
    let switchback = Switchback::start(&file(&[good.address, bad.address], &tls, more));
    let probed = |result: &str, address: SocketAddr| {
        let pool = switchback.json("GET", "/v1/pools/app", "");
        let endpoints = pool["endpoints"].as_array().expect("a list").clone();
        let address = address.to_string();
        let of = endpoints
            .iter()
            .find(|endpoint| endpoint["address"] == address.as_str())
            .expect("it is declared");
        of.to_string().contains(result)
    };
    wait_until("one is healthy, and the other fails for its certificate", || {
        probed("answered 200", good.address) && probed("certificate does not count", bad.address)
    });
    assert_eq!(get(&switchback).0, 200);
}
