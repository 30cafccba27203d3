//! Requests over TLS: what upstreams are told, bodies both ways, tunnels, and how connections end.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    authority::{Authority, Kind, listener},
    peer::Trust,
    support::{Setup, Upstream, pattern, wait_until},
};

#[test]
fn upstreams_and_redirects_know_that_the_client_came_over_tls() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let redirect = "[[route]]\nname = \"old\"\npath = \"/old\"\nredirect = { host = \"b.example\" }";
    let setup = Setup::new().listener(&listener(&pairs, "")).route("forwarded = true").tables(redirect);
    let switchback = setup.start(&upstream);
    let mut peer = Trust::of(&authority).connect(switchback.address, "a.example").expect("a handshake");
    // What a client says of itself is not believed.
    peer.send("GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Proto: http\r\n\r\n");
    assert_eq!(peer.response().expect("a response").0, 200);
    let head = upstream.last().head;
    assert_eq!(head.one("x-forwarded-proto"), Some("https"));
    let forwarded = head.one("forwarded").expect("the route asks for it");
    assert!(forwarded.ends_with(";proto=https"), "{forwarded}");
    peer.send("GET /old?x=1 HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let (status, text) = peer.response().expect("a response");
    assert_eq!(status, 302);
    assert!(text.contains("https://b.example/old?x=1"), "{text}");
}

#[test]
fn a_trusted_proxy_may_say_that_its_client_came_without_tls() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let keys = format!("trusted_proxies = [\"127.0.0.1\"]\n{}", listener(&pairs, ""));
    let redirect = "[[route]]\nname = \"old\"\npath = \"/old\"\nredirect = { host = \"b.example\" }";
    let switchback = Setup::new().listener(&keys).tables(redirect).start(&upstream);
    let mut peer = Trust::of(&authority).connect(switchback.address, "a.example").expect("a handshake");
    for (said, scheme) in [("X-Forwarded-Proto: http\r\n", "http://"), ("", "https://")] {
        peer.send(format!("GET /old HTTP/1.1\r\nHost: a.example\r\n{said}\r\n"));
        let (_, text) = peer.response().expect("a response");
        assert!(text.contains(&format!("{scheme}b.example/old")), "{said:?}: {text}");
    }
}

#[test]
fn large_bodies_pass_both_ways_whoever_is_slow() {
    const LENGTH: usize = 6 << 20;
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::echo();
    let switchback = Setup::new().listener(&listener(&pairs, "")).start(&upstream);
    let trust = Trust::of(&authority);
    let sent = pattern(LENGTH, 7);
    for slow in ["nobody", "writer", "reader"] {
        let mut peer = trust.connect(switchback.address, "a.example").expect("a handshake");
        peer.send(format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {LENGTH}\r\n\r\n"));
        let pause = |who: &str, at: usize| {
            if slow == who && at.is_multiple_of(1 << 20) {
                thread::sleep(Duration::from_millis(20));
            }
        };
        for (number, piece) in sent.chunks(1 << 16).enumerate() {
            peer.send(piece);
            pause("writer", number << 16);
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            peer.stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        let mut received = vec![0; LENGTH];
        for (number, piece) in received.chunks_mut(1 << 16).enumerate() {
            pause("reader", number << 16);
            peer.stream.read_exact(piece).expect("the whole body");
        }
        assert!(received == sent, "the body differs, slow is {slow}");
        assert_eq!(peer.get("a.example").0, 200, "the connection serves on");
    }
}

#[test]
fn a_client_that_stops_reading_is_cut_off_and_holds_no_more_than_a_window() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 1 << 16];
        // Until it is cut.
        while exchange.try_send(&piece).is_ok() {}
    });
    let keys = format!("{}\nwrite_timeout = \"300ms\"", listener(&pairs, ""));
    let switchback = Setup::new().listener(&keys).start(&upstream);
    let mut peer = Trust::of(&authority).connect(switchback.address, "a.example").expect("a handshake");
    let before = switchback.memory("VmRSS");
    peer.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    wait_until("the client is cut off", || switchback.metric("switchback_connections_open") == 0.0);
    assert!(switchback.memory("VmRSS") < before + (8 << 20), "it took in what nobody reads");
    let (_, announced) = peer.rest();
    assert!(!announced, "a cut response has no orderly end");
}

#[test]
fn the_end_is_announced_after_a_whole_response_and_never_within_one() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::start(|exchange| match exchange.head.target() {
        "/cut" => {
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            exchange.close();
        }
        _ => exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    });
    let switchback = Setup::new().listener(&listener(&pairs, "")).start(&upstream);
    let trust = Trust::of(&authority);
    for (path, is_whole) in [("/", true), ("/cut", false)] {
        let mut peer = trust.connect(switchback.address, "a.example").expect("a handshake");
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"));
        let (text, announced) = peer.rest();
        assert_eq!(announced, is_whole, "{path}: {}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_tunnel_carries_bytes_both_ways_and_each_end_passes_through() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::start(|exchange| exchange.tunnel_echo("websocket"));
    let switchback = Setup::new().listener(&listener(&pairs, "")).start(&upstream);
    let mut peer = Trust::of(&authority).connect(switchback.address, "a.example").expect("a handshake");
    peer.send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbehind");
    assert_eq!(peer.response().expect("a head").0, 101);
    let mut piece = [0; 6];
    peer.stream.read_exact(&mut piece).expect("what was sent");
    assert_eq!(&piece, b"behind");
    for number in 0..100_u8 {
        let sent = vec![number; 1 + usize::from(number) * 700];
        let mut received = vec![0; sent.len()];
        peer.send(&sent);
        peer.stream.read_exact(&mut received).expect("its echo");
        assert!(sent == received, "{number}");
    }
    // The client ends its side; what is on its way back still comes, and then the other end.
    peer.send("last");
    peer.stream.conn.send_close_notify();
    peer.stream.flush().expect("it takes the end");
    let (rest, announced) = peer.rest();
    assert_eq!((&rest[..], announced), (&b"last"[..], true));
}

#[test]
fn sessions_are_resumed_in_both_versions_on_every_worker() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let setup = Setup::new().global("workers = 4").listener(&listener(&pairs, ""));
    let switchback = setup.start(&upstream);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let trust = Trust::speaking(&authority, versions, rustls::crypto::aws_lc_rs::default_provider());
        let mut kinds = Vec::new();
        for _ in 0..16 {
            let mut peer = trust.connect(switchback.address, "a.example").expect("a handshake");
            assert_eq!(peer.get("a.example").0, 200);
            kinds.push(peer.stream.conn.handshake_kind().expect("it is done"));
        }
        let resumed = kinds.iter().filter(|kind| **kind == rustls::HandshakeKind::Resumed).count();
        assert_eq!(resumed, 15, "{kinds:?}");
    }
}

#[test]
fn openssl_is_served_and_prefers_what_is_safe() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let switchback = Setup::new().listener(&listener(&pairs, "")).start(&upstream);
    let mut client = Command::new("openssl")
        .args(["s_client", "-servername", "a.example", "-verify_return_error", "-ign_eof", "-connect"])
        .arg(switchback.address.to_string())
        .arg("-CAfile")
        .arg(authority.file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed by tests/install");
    let mut input = client.stdin.take().expect("piped");
    input
        .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        .expect("it takes the request");
    let output = client.wait_with_output().expect("our own child");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    for part in ["Verify return code: 0 (ok)", "TLSv1.3", "HTTP/1.1 200 OK", "Early data was not sent"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}
