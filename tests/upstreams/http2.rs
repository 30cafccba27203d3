//! HTTP/2 with endpoints: messages of every form, how streams are shared out over connections, and what becomes of requests as
//! connections end.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::Ordering,
    thread,
};

use super::{
    authority::{Authority, Kind},
    endpoint::Terms,
    server::Server,
    support::{Setup, Switchback, Upstream, pattern, wait_until},
};

/// A file with one pool whose endpoints speak HTTP/2 in cleartext.
fn file(endpoints: &[SocketAddr], more: &str) -> String {
    with(endpoints, &format!("protocol = \"h2\"\neject = {{ enabled = false }}\n{more}"))
}

pub fn with(endpoints: &[SocketAddr], keys: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    let toml = Setup::new().pool(keys).toml(&[]);
    toml.replace("endpoints = []", &format!("endpoints = [{}]", endpoints.join(", ")))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example:80\r\n\r\n")
}

#[test]
fn messages_of_every_form_pass_and_are_canonical_there() {
    let server = Server::start(100);
    let switchback = Switchback::start(&file(&[server.address], ""));
    let mut client = switchback.client();
    let response = client.exchange(
        "POST /length?q=1 HTTP/1.1\r\nHost: a.example:80\r\nCookie: a=1\r\nContent-Length: 5\r\nConnection: X-Mine\r\nX-Mine: 1\r\n\r\nhello",
    );
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(response.head.one("content-length"), Some("5"));
    let chunked = "POST / HTTP/1.1\r\nHost: a.example:80\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n";
    let response = client.exchange(chunked);
    assert_eq!((response.status, response.text().as_str()), (200, "abcdefg"));
    assert_eq!(response.body.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].uri.as_str()), ("POST", "http://a.example:80/length?q=1"));
    assert_eq!(asked[0].fields["cookie"], "a=1");
    assert_eq!(asked[0].fields["content-length"], "5");
    for gone in ["host", "connection", "x-mine", "transfer-encoding", "te"] {
        assert!(!asked[0].fields.contains_key(gone), "{gone}: {:?}", asked[0].fields);
    }
    assert_eq!((asked[1].fields["te"].as_bytes(), &asked[1].body[..]), (&b"trailers"[..], &b"abcdefg"[..]));
    assert_eq!(asked[1].trailers["x-sum"], "7");
    for (path, status) in [("/none", 204), ("/same", 304)] {
        let response = client.exchange(get(path));
        assert_eq!((response.status, response.body.bytes.len()), (status, 0), "{path}");
    }
    let head = "HEAD / HTTP/1.1\r\nHost: a.example:80\r\n\r\n";
    client.send(head);
    let response = client.response("HEAD");
    assert_eq!((response.status, response.head.one("content-length")), (200, Some("7")));
    client.send(get("/hints"));
    let hints = client.any_response("GET");
    assert_eq!((hints.status, hints.head.one("link")), (103, Some("</a.css>")));
    let response = client.response("GET");
    assert_eq!((response.status, response.head.one("content-length")), (200, Some("0")));
    assert_eq!(server.count(|seen| &seen.connections), 1, "one connection carries them all");
    assert!(switchback.metric("switchback_endpoint_connection_reuses_total") >= 5.0);
}

#[test]
fn what_http2_has_no_form_for_is_refused_and_held_against_nobody() {
    let server = Server::start(100);
    let text =
        file(&[server.address], "").replace("eject = { enabled = false }", "eject = { consecutive_5xx = 2 }");
    let switchback = Switchback::start(&text);
    for _ in 0..5 {
        assert_eq!(switchback.client().exchange(get("/a<b>")).status, 400);
    }
    assert_eq!(switchback.client().exchange(get("/")).status, 200);
    assert_eq!(server.asked().len(), 1);
    assert_eq!(switchback.metric("switchback_endpoint_attempt_failures_total"), 0.0);
}

#[test]
fn large_bodies_pass_both_ways_at_once() {
    const LENGTH: usize = 4 << 20;
    let server = Server::start(100);
    let switchback = Switchback::start(&file(&[server.address], ""));
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let mut client = switchback.client();
            thread::spawn(move || {
                let body = pattern(LENGTH, seed);
                let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
                let response = client.exchange([head.as_bytes(), &body].concat());
                assert_eq!(response.status, 200);
                assert!(response.body.bytes == body, "the body came back changed");
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a good exchange"));
}

#[test]
fn a_crowd_is_carried_by_as_few_connections_as_the_endpoint_allows() {
    for (most, connections) in [(100, 1), (3, 4)] {
        let server = Server::start(most);
        server.hold(true);
        let switchback = Switchback::start(&file(&[server.address], ""));
        let mut clients: Vec<_> = (0..12).map(|_| switchback.client()).collect();
        for client in &mut clients {
            client.send(get("/wait"));
        }
        wait_until("all are there", || server.count(|seen| &seen.waiting) == 12);
        assert_eq!(server.count(|seen| &seen.connections), connections, "at {most} each");
        server.hold(false);
        for client in &mut clients {
            assert_eq!(client.response("GET").status, 200);
        }
    }
}

#[test]
fn a_cap_of_connections_has_requests_wait_for_a_stream() {
    let server = Server::start(1);
    let switchback =
        Switchback::start(&file(&[server.address], "max_connections = 1\npending_timeout = \"20s\""));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let mut client = switchback.client();
            thread::spawn(move || (0..5).all(|_| client.exchange(get("/")).status == 200))
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().expect("no panic")));
    assert_eq!((server.count(|seen| &seen.connections), server.asked().len()), (1, 40));
}

#[test]
fn an_endpoint_that_allows_no_stream_is_not_waited_for_and_its_connections_are_not_kept() {
    let server = Server::start(0);
    let switchback = Switchback::start(&file(&[server.address], "idle_timeout = \"60s\""));
    assert_eq!(switchback.client().exchange(get("/")).status, 502);
    wait_until("its connections have ended", || server.count(|seen| &seen.open) == 0);
    assert!(server.asked().is_empty());
}

/// A server that writes frames of its own: on each connection in turn it reads until so many streams were opened, and then
/// sends these bytes.
pub fn raw(connections: Vec<(usize, Vec<u8>)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let serving: Vec<_> = connections
            .into_iter()
            .map(|(requests, answer)| {
                let (mut socket, _) = listener.accept().expect("a client");
                thread::spawn(move || serve_raw(&mut socket, requests, &answer))
            })
            .collect();
        serving.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
    address
}

fn serve_raw(socket: &mut TcpStream, requests: usize, answer: &[u8]) {
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).expect("our settings");
    let (mut buffer, mut seen) = ([0; 4096], Vec::new());
    loop {
        let read = socket.read(&mut buffer).unwrap_or(0);
        if read == 0 {
            return;
        }
        let before = heads(&seen);
        seen.extend_from_slice(&buffer[..read]);
        if before < requests && heads(&seen) >= requests {
            socket.write_all(answer).expect("it reads");
        }
    }
}

/// How many HEADERS frames there are behind the preface.
fn heads(bytes: &[u8]) -> usize {
    let (mut at, mut count) = (24, 0);
    while let Some(head) = bytes.get(at..at + 9) {
        count += usize::from(head[3] == 1);
        at += 9 + (usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]));
    }
    count
}

pub fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn what_is_behind_a_goaway_is_sent_again_whatever_it_is_and_what_is_not_is_answered() {
    // 0x88 is the status 200 in HPACK.
    let answered = frame(1, 5, 1, &[0x88]);
    let going = [frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), answered.clone()].concat();
    let address = raw(vec![(2, going), (1, answered)]);
    // What an endpoint has not processed costs none of a request's attempts.
    let text = file(&[address], "").replace("path = \"/\"", "path = \"/\"\nretries = { attempts = 0 }");
    let switchback = Switchback::start(&text);
    let post = || {
        let mut client = switchback.client();
        thread::spawn(move || {
            client.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").status
        })
    };
    let statuses: Vec<_> =
        [post(), post()].into_iter().map(|thread| thread.join().expect("an answer")).collect();
    assert_eq!(statuses, [200, 200]);
    let metrics = switchback.metrics();
    let is_retry = |line: &&str| {
        line.starts_with("switchback_route_retries_total") && line.contains("reason=\"goaway\"")
    };
    let line = metrics.lines().find(is_retry).expect("it is counted");
    assert!(line.ends_with(" 1"), "{line}");
}

#[test]
fn a_refused_stream_goes_to_another_endpoint_whatever_its_method() {
    let refusing = raw(vec![(1, frame(3, 0, 1, &[0, 0, 0, 7]))]);
    let server = Server::start(100);
    let switchback = Switchback::start(&file(&[refusing, server.address], "balance = \"round_robin\""));
    // Either of them may be the first; the one that refuses says so once.
    for count in 1..=2 {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(switchback.client().exchange(request).status, 200);
        assert_eq!(server.asked().len(), count);
        if switchback.metrics().contains("reason=\"refused\"} 1") {
            return;
        }
    }
    panic!("nobody has asked the one that refuses: {}", switchback.metrics());
}

#[test]
fn a_client_that_goes_has_its_stream_reset_and_the_connection_goes_on() {
    let server = Server::start(100);
    server.hold(true);
    let switchback = Switchback::start(&file(&[server.address], ""));
    let mut client = switchback.client();
    client.send(get("/wait"));
    wait_until("it is there", || server.count(|seen| &seen.waiting) == 1);
    client.reset();
    wait_until("it is reset", || server.count(|seen| &seen.resets) == 1);
    wait_until("nothing is in flight", || switchback.metric("switchback_endpoint_requests_in_flight") < 0.5);
    server.hold(false);
    assert_eq!(switchback.client().exchange(get("/")).status, 200);
    assert_eq!(server.count(|seen| &seen.connections), 1);
}

#[test]
fn a_client_that_does_not_read_holds_up_its_own_stream_alone() {
    let server = Server::start(100);
    let switchback = Switchback::start(&file(&[server.address], ""));
    let mut slow = switchback.client();
    slow.send(get("/endless"));
    let mut before = 0;
    wait_until("its windows are closed", || {
        let now = server.count(|seen| &seen.sent);
        thread::sleep(std::time::Duration::from_millis(100));
        now > 0 && std::mem::replace(&mut before, now) == now
    });
    // What waits is in sockets, of a few MiB each at most, and in one stream's window.
    assert!(before < 16 << 20, "{before} bytes were let out for a client that reads none");
    let mut client = switchback.client();
    for _ in 0..20 {
        assert_eq!(client.exchange(get("/")).status, 200);
    }
    assert_eq!(server.count(|seen| &seen.connections), 1);
}

#[test]
fn a_drain_a_removal_and_a_stop_end_connections_by_goaway_behind_their_last_stream() {
    let server = Server::start(100);
    server.hold(true);
    let mut switchback = Switchback::start(&file(&[server.address], ""));
    let mut client = switchback.client();
    client.send(get("/wait"));
    wait_until("it is there", || server.count(|seen| &seen.waiting) == 1);
    let drain = format!("/v1/pools/app/endpoints/{}/drain", server.address);
    assert_eq!(switchback.admin("POST", &drain, "{\"deadline\": \"20s\"}").status, 200);
    assert_eq!(server.count(|seen| &seen.open), 1, "its stream is open");
    server.hold(false);
    assert_eq!(client.response("GET").status, 200);
    wait_until("the connection ends", || server.count(|seen| &seen.open) == 0);
    let undrain = format!("/v1/pools/app/endpoints/{}/undrain", server.address);
    assert_eq!(switchback.admin("POST", &undrain, "").status, 200);
    assert_eq!(client.exchange(get("/")).status, 200);
    assert_eq!(server.count(|seen| &seen.connections), 2);
    switchback.signal("TERM");
    assert!(switchback.wait().success());
    wait_until("the connection ends", || server.count(|seen| &seen.open) == 0);
}

#[test]
fn over_tls_the_endpoint_chooses_and_an_upgrade_has_a_connection_of_its_own() {
    let authority = Authority::new();
    authority.issue("app", &["127.0.0.1"], Kind::Ecdsa);
    let (server, old) = (
        Server::start(100),
        Upstream::start(|exchange| {
            if exchange.head.target() == "/tunnel" {
                exchange.tunnel_echo("websocket");
                return;
            }
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold");
        }),
    );
    let terms = |protocols| Terms { protocols, ..Terms::new(&authority, "app") };
    let tls = format!("tls = {{ ca = {:?} }}\neject = {{ enabled = false }}\n", authority.file());
    for (protocol, offered, expected) in [
        ("auto", &["h2", "http/1.1"][..], Some("h2")),
        ("auto", &["http/1.1"], Some("http/1.1")),
        ("h2", &["h2"], Some("h2")),
        ("http/1.1", &["h2", "http/1.1"], Some("http/1.1")),
        ("h2", &["http/1.1"], None),
    ] {
        let to = if expected == Some("h2") { server.address } else { old.address };
        let endpoint = terms(offered).start(to);
        let switchback =
            Switchback::start(&with(&[endpoint.address], &format!("{tls}protocol = \"{protocol}\"")));
        let status = switchback.client().exchange(get("/")).status;
        assert_eq!(status, if expected.is_some() { 200 } else { 502 }, "{protocol} {offered:?}");
        let seen: Vec<_> = endpoint.seen().into_iter().filter_map(|seen| seen.protocol).collect();
        assert!(seen.iter().all(|seen| Some(seen.as_str()) == expected), "{protocol} {offered:?}: {seen:?}");
    }
    assert!(server.asked().iter().all(|asked| asked.uri.starts_with("https://")), "{:?}", server.asked());
    let endpoint = terms(&["h2", "http/1.1"]).start(old.address);
    let switchback = Switchback::start(&with(&[endpoint.address], &format!("{tls}protocol = \"auto\"")));
    let mut client = switchback.client();
    client.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.any_response("GET").status, 101);
    client.send("ping");
    assert_eq!(client.wire.exactly(4).expect("an echo"), b"ping");
}

#[test]
fn who_does_not_speak_http2_is_sent_no_request() {
    let upstream = Upstream::ok();
    let switchback = Switchback::start(&file(&[upstream.address], ""));
    let response = switchback.client().exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(response.status, 502);
    assert!(response.text().contains("does not speak HTTP/2"), "{}", response.text());
    assert!(upstream.messages().iter().all(|message| message.head.method() != "POST"));
    assert_eq!(switchback.metric("switchback_endpoint_requests_in_flight"), 0.0);
}

#[test]
fn counts_are_those_of_requests() {
    let server = Server::start(100);
    let switchback = Switchback::start(&file(&[server.address], ""));
    let mut client = switchback.client();
    for _ in 0..10 {
        assert_eq!(client.exchange(get("/")).status, 200);
    }
    assert_eq!(server.asked().len(), 10);
    assert_eq!(server.seen.resets.load(Ordering::SeqCst), 0);
    wait_until("all are counted", || switchback.metric("switchback_endpoint_requests_total") > 9.5);
    assert_eq!(switchback.metric("switchback_endpoint_connects_total"), 1.0);
    assert_eq!(switchback.metric("switchback_endpoint_attempt_failures_total"), 0.0);
}

#[test]
fn requests_behind_a_goaway_share_the_one_connection_that_there_may_be() {
    let going = frame(7, 0, 0, &[0; 8]);
    let both = [frame(1, 5, 1, &[0x88]), frame(1, 5, 3, &[0x88])].concat();
    let address = raw(vec![(2, going), (2, both)]);
    let switchback = Switchback::start(&file(&[address], "max_connections = 1"));
    let asking: Vec<_> = (0..2)
        .map(|_| {
            let mut client = switchback.client();
            thread::spawn(move || client.exchange(get("/")).status)
        })
        .collect();
    let statuses: Vec<_> = asking.into_iter().map(|thread| thread.join().expect("an answer")).collect();
    assert_eq!(statuses, [200, 200]);
}

#[test]
fn upgrades_that_nobody_has_a_use_for_are_held_against_no_endpoint() {
    let servers = [Server::start(100), Server::start(100)];
    let addresses = servers.each_ref().map(|server| server.address);
    let switchback = Switchback::start(&with(&addresses, "protocol = \"h2\""));
    for _ in 0..20 {
        let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(switchback.client().exchange(upgrade).status, 502);
    }
    assert_eq!(switchback.metric("switchback_endpoint_ejected"), 0.0);
    assert_eq!(switchback.client().exchange(get("/")).status, 200);
}
