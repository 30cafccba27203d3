//! What clumsy and hostile clients get, and what they can't keep others from.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    authority::{Authority, Kind, listener},
    peer::Trust,
    support::{PATIENCE, Setup, Switchback, Upstream, pattern, seeded, wait_until},
};

fn started(authority: &Authority, more: &str, upstream: &Upstream) -> Switchback {
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    Setup::new().listener(&listener(&pairs, more)).start(upstream)
}

/// How often handshakes came to a result.
fn count(switchback: &Switchback, result: &str) -> f64 {
    switchback.metric(&format!("switchback_tls_handshakes_total{{result=\"{result}\"}}"))
}

fn connect(switchback: &Switchback) -> TcpStream {
    let stream = TcpStream::connect(switchback.address).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    stream
}

/// What comes until the end, or until a reset.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).ok();
    rest
}

#[test]
fn plain_http_is_told_so_and_tls_on_a_plain_port_is_refused_as_any_garbage() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    let switchback = started(&authority, "", &upstream);
    let mut stream = connect(&switchback);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").expect("it takes bytes");
    let answer = String::from_utf8_lossy(&rest(stream)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("plain HTTP") && answer.contains("HTTPS"), "{answer}");
    wait_until("it is counted", || count(&switchback, "plain_http") == 1.0);

    let plain = Setup::new().start(&upstream);
    Trust::of(&authority).connect(plain.address, "a.example").map(|_| ()).expect_err("it speaks no TLS");
    assert_eq!(plain.client().exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").status, 200);
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn garbage_ends_its_own_connection_alone() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    let switchback = started(&authority, "", &upstream);
    let trust = Trust::of(&authority);
    let mut before = trust.connect(switchback.address, "a.example").expect("a handshake");
    let mut rng = seeded("garbage");
    const TRIES: usize = 200;
    for number in 0..TRIES {
        let mut bytes = pattern(rng.usize(1..4000), rng.u64(..));
        match number % 3 {
            // What begins as a record of a handshake, with a length that may be anything.
            0 => bytes.splice(0..1, [22, 3, 1]).for_each(drop),
            // A record whose length fits.
            1 => {
                let length = (bytes.len() as u16).to_be_bytes();
                bytes.splice(0..0, [22, 3, 3, length[0], length[1]]).for_each(drop);
            }
            _ => bytes[0] = rng.u8(..64),
        }
        let mut stream = connect(&switchback);
        stream.write_all(&bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let answer = rest(stream);
        // An alert, if anything.
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
    wait_until("each was counted", || {
        count(&switchback, "malformed") + count(&switchback, "gone") + count(&switchback, "incompatible")
            >= TRIES as f64
    });
    assert_eq!(before.get("a.example").0, 200, "who was connected is served");
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn a_handshake_that_is_slow_ends() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    let switchback = started(&authority, "handshake_timeout = \"300ms\"", &upstream);
    // One says nothing, one begins and falls silent.
    let silent = connect(&switchback);
    let mut begun = connect(&switchback);
    begun.write_all(&[22, 3, 1, 2, 0, 1]).expect("it takes bytes");
    assert_eq!((rest(silent), rest(begun)), (vec![], vec![]));
    wait_until("both were counted", || count(&switchback, "timed_out") == 2.0);
    wait_until("nothing is left of them", || switchback.metric("switchback_connections_open") == 0.0);
}

#[test]
fn a_handshake_that_is_cut_ends_and_one_in_single_bytes_does_not() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    // So long that the machine's load decides nothing.
    let switchback = started(&authority, "handshake_timeout = \"1m\"", &upstream);
    let mut cut = connect(&switchback);
    cut.write_all(&[22, 3, 1, 2, 0, 1]).expect("it takes bytes");
    drop(cut);
    wait_until("it was counted", || count(&switchback, "gone") == 1.0);
    wait_until("nothing is left of it", || switchback.metric("switchback_connections_open") == 0.0);
    let whole = Trust::of(&authority).connect_in_single_bytes(switchback.address, "a.example");
    assert_eq!(whole.expect("a handshake like any other").get("a.example").0, 200);
}

#[test]
fn a_thousand_idle_handshakes_and_a_storm_of_whole_ones_keep_nobody_out() {
    const IDLE: usize = 1_000;
    let authority = Authority::new();
    let upstream = Upstream::ok();
    let switchback = started(&authority, "handshake_timeout = \"1m\"", &upstream);
    let trust = Trust::of(&authority);
    let mut known = trust.connect(switchback.address, "a.example").expect("a handshake");
    let before = switchback.memory("VmRSS");
    let idle: Vec<_> = (0..IDLE).map(|_| connect(&switchback)).collect();
    wait_until("all are connected", || switchback.metric("switchback_connections_open") > IDLE as f64);
    let each = switchback.memory("VmRSS").saturating_sub(before) / IDLE as u64;
    assert!(each < 16 << 10, "{each} bytes for each that has sent nothing");
    let ended = Arc::new(AtomicBool::new(false));
    let storm: Vec<_> = (0..2)
        .map(|_| {
            let (ended, trust, address) = (Arc::clone(&ended), trust.clone(), switchback.address);
            // None of them resumes a session: each costs what a handshake can cost.
            let trust = trust.with(|config| config.resumption = rustls::client::Resumption::disabled());
            thread::spawn(move || {
                let mut made = 0;
                while !ended.load(Ordering::Relaxed) {
                    trust.connect(address, "a.example").expect("a handshake");
                    made += 1;
                }
                made
            })
        })
        .collect();
    for _ in 0..200 {
        assert_eq!(known.get("a.example").0, 200);
    }
    ended.store(true, Ordering::Relaxed);
    let made: usize = storm.into_iter().map(|thread| thread.join().expect("no handshake failed")).sum();
    assert!(made > 0, "there was no storm");
    drop(idle);
    wait_until("all of them have gone", || switchback.metric("switchback_connections_open") == 1.0);
}

#[test]
fn protocols_that_are_not_spoken_are_refused_by_name() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    for (key, refused, agreed) in [
        (
            "http2 = true",
            &["h3", "spdy/3"],
            [(&["h2", "http/1.1"][..], Some("h2")), (&["h2"][..], Some("h2"))],
        ),
        ("http2 = false", &["h2", "spdy/3"], [(&["h2", "http/1.1"][..], Some("http/1.1")), (&[][..], None)]),
    ] {
        let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
        let switchback = Setup::new().listener(&format!("{}\n{key}", listener(&pairs, ""))).start(&upstream);
        let trust = Trust::of(&authority);
        let offering = |protocols: &[&str]| {
            let trust = trust.with(|config| {
                config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            });
            trust.connect(switchback.address, "a.example")
        };
        let said = offering(refused).map(|_| ()).expect_err("neither is spoken").to_string();
        assert!(said.contains("NoApplicationProtocol"), "{key}: {said}");
        wait_until("it was counted", || count(&switchback, "no_protocol") == 1.0);
        for (protocols, agreed) in agreed {
            let mut peer = offering(protocols).expect("a handshake");
            assert_eq!(peer.stream.conn.alpn_protocol(), agreed.map(str::as_bytes), "{key} {protocols:?}");
            if agreed != Some("h2") {
                assert_eq!(peer.get("a.example").0, 200);
            }
        }
    }
}

#[test]
fn a_host_of_another_certificate_is_answered_with_421() {
    let authority = Authority::new();
    let pairs = [
        authority.issue("one", &["a.example", "*.shared.example"], Kind::Ecdsa),
        authority.issue("other", &["b.example"], Kind::Ecdsa),
    ];
    let upstream = Upstream::ok();
    let switchback = Setup::new().listener(&listener(&pairs, "")).start(&upstream);
    let trust = Trust::of(&authority);
    for (host, status) in [
        ("a.example", 200),
        ("A.Example:443", 200),
        ("x.shared.example", 200),
        ("nobodys.example", 200),
        ("b.example", 421),
        ("B.EXAMPLE:443", 421),
    ] {
        let mut peer = trust.connect(switchback.address, "a.example").expect("a handshake");
        let (answered, text) = peer.get(host);
        assert_eq!(answered, status, "{host}: {text}");
    }
    assert_eq!(upstream.requests(), 4, "what is misdirected reaches nobody");
}

#[test]
fn a_client_that_cuts_its_connection_within_a_request_has_gone_away() {
    let authority = Authority::new();
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let switchback = started(&authority, "", &upstream);
    let mut peer = Trust::of(&authority).connect(switchback.address, "a.example").expect("a handshake");
    peer.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhalf");
    upstream.wait_connected();
    wait_until("the upstream has what there is", || upstream.total() > 100);
    peer.stream.sock.shutdown(std::net::Shutdown::Both).expect("our own socket");
    upstream.wait_all_ended();
    wait_until("it is gone", || switchback.metric("switchback_connections_open") == 0.0);
    let message = upstream.last();
    assert!(message.broken.is_some(), "what the upstream has is no whole request");
}
