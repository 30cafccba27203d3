//! Bodies in both directions: every framing, any size, any split, byte for byte.

use std::time::Duration;

use crate::{
    get,
    support::{Setup, Upstream, message::Framing, pattern, seeded, upstream::response},
};

/// A body in chunks of random sizes.
fn chunked(rng: &mut fastrand::Rng, body: &[u8], trailers: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let most = if rng.bool() { 20 } else { 70_000 };
        let (piece, after) = rest.split_at(rng.usize(1..=rest.len().min(most)));
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}

fn random_size(rng: &mut fastrand::Rng) -> usize {
    match rng.u8(..4) {
        0 => rng.usize(..4),
        1 => rng.usize(..2000),
        2 => [8191, 8192, 8193, 16384, 65535, 65536, 65537][rng.usize(..7)],
        _ => rng.usize(..300_000),
    }
}

fn random_cuts(rng: &mut fastrand::Rng, length: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..rng.usize(..12)).map(|_| rng.usize(..=length)).collect();
    cuts.sort_unstable();
    cuts
}

#[test]
fn bodies_pass_byte_for_byte_in_both_directions_however_they_are_split() {
    // The upstream answers a body with the same body, framed as a field of the request says.
    let upstream = Upstream::start(|exchange| {
        let body = exchange.body().bytes.clone();
        let seed: u64 = exchange.head.one("x-seed").expect("the client sends it").parse().expect("a number");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (head, bytes) = match exchange.head.one("x-answer") {
            Some("length") => (format!("Content-Length: {}", body.len()), body),
            Some("chunked") => ("Transfer-Encoding: chunked".to_owned(), chunked(&mut rng, &body, "")),
            _ => ("Connection: close".to_owned(), body),
        };
        let whole = [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), &bytes].concat();
        let mut from = 0;
        for to in random_cuts(&mut rng, whole.len()).into_iter().chain([whole.len()]) {
            exchange.send(&whole[from..to]);
            std::thread::sleep(Duration::from_micros(200));
            from = to;
        }
        if exchange.head.one("x-answer") == Some("close") {
            exchange.close();
        }
    });
    let switchback = Setup::new().start(&upstream);
    let mut rng = seeded("bodies_pass_byte_for_byte_in_both_directions_however_they_are_split");
    let mut client = switchback.client();
    let rounds = if crate::support::is_long() { 20_000 } else { 150 };
    for round in 0..rounds {
        let body = pattern(random_size(&mut rng), rng.u64(..));
        let answer = ["length", "chunked", "close"][rng.usize(..3)];
        let (framing, bytes) = if rng.bool() {
            (format!("Content-Length: {}", body.len()), body.clone())
        } else {
            ("Transfer-Encoding: chunked".to_owned(), chunked(&mut rng, &body, ""))
        };
        let head = format!(
            "POST /{round} HTTP/1.1\r\nHost: a.example\r\nX-Answer: {answer}\r\nX-Seed: {}\r\n{framing}\r\n\r\n",
            rng.u64(..)
        );
        let whole = [head.as_bytes(), &bytes].concat();
        client.send_split(&whole, &random_cuts(&mut rng, whole.len()));
        let response = client.response("POST").whole();
        assert_eq!(response.status, 200, "round {round}");
        assert!(response.body.bytes == body, "round {round}: {} bytes of {answer} differ", body.len());
        if response.closes() {
            client.expect_end("a response that closes");
            client = switchback.client();
        }
        assert_ne!(response.framing, Framing::None);
    }
    assert_eq!(upstream.requests(), rounds);
}

#[test]
fn a_heads_every_split_is_understood() {
    let upstream = Upstream::echo();
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    let request = b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n";
    for cut in 1..request.len() {
        client.send_split(request, &[cut]);
        assert_eq!(client.response("POST").whole().text(), "abc", "cut at {cut}");
    }
    client.send_split(request, &(1..request.len()).collect::<Vec<_>>());
    assert_eq!(client.response("POST").whole().text(), "abc", "byte by byte");
}

#[test]
fn a_response_heads_every_split_is_understood() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n";
    let upstream = Upstream::start(|exchange| {
        let cut: usize = exchange.head.target()[1..].parse().expect("the client sends it");
        exchange.send(&ANSWER[..cut]);
        std::thread::sleep(Duration::from_millis(1));
        exchange.send(&ANSWER[cut..]);
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    for cut in 1..ANSWER.len() {
        assert_eq!(client.exchange(get(&format!("/{cut}"), "")).whole().text(), "abc", "cut at {cut}");
    }
    assert_eq!(upstream.connections().len(), 1);
}

#[test]
fn trailers_pass_in_both_directions() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        exchange.send(
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 12\r\nSet-Cookie: a=b\r\nContent-Length: 7\r\n\r\n",
        );
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send("POST / HTTP/1.1\r\nHost: a.example\r\nConnection: TE\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Check: 3\r\n\r\n");
    let answer = client.response("POST").whole();
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.body.trailers, [("X-Sum".to_owned(), "12".to_owned())]);
    assert_eq!(upstream.last().body.trailers, [("X-Check".to_owned(), "3".to_owned())]);
}

#[test]
fn head_204_and_304_have_no_body_and_keep_the_connection() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        match exchange.head.target() {
            "/204" => exchange.send(b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
            "/304" => {
                exchange.send(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 100\r\n\r\n")
            }
            "/chunked" => exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            _ => exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        }
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    for _ in 0..2 {
        let answer = client.exchange("HEAD /length HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!((answer.status, answer.head.one("content-length")), (200, Some("100")));
        assert_eq!(client.exchange("HEAD /chunked HTTP/1.1\r\nHost: a.example\r\n\r\n").status, 200);
        let answer = client.exchange(get("/204", ""));
        assert_eq!((answer.status, answer.head.one("x")), (204, Some("y")));
        assert!(
            answer.head.one("content-length").is_none() && answer.head.one("transfer-encoding").is_none()
        );
        let answer = client.exchange(get("/304", ""));
        assert_eq!((answer.status, answer.head.one("etag")), (304, Some("\"a\"")));
    }
    client.half_close().expect_end("nothing more may come");
    assert_eq!(upstream.connections().len(), 1, "none of them costs the upstream connection");
}

#[test]
fn a_body_that_ends_with_the_upstreams_connection_is_delivered_whole() {
    let upstream = Upstream::start(|exchange| {
        let version = if exchange.head.target() == "/1.0" { "1.0" } else { "1.1" };
        exchange.send(format!("HTTP/{version} 200 OK\r\nX: y\r\n\r\n").as_bytes());
        exchange.send_pieces(b"hello world", 4, Duration::from_millis(5));
        exchange.close();
    });
    let switchback = Setup::new().start(&upstream);
    for target in ["/1.0", "/1.1"] {
        let mut client = switchback.client();
        for _ in 0..2 {
            let answer = client.exchange(get(target, "")).whole();
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello world"));
            if answer.framing == Framing::UntilClose {
                client = switchback.client();
            }
        }
        let mut old = switchback.client();
        assert_eq!(
            old.exchange(format!("GET {target} HTTP/1.0\r\nHost: a.example\r\n\r\n")).whole().text(),
            "hello world"
        );
    }
}

#[test]
fn pieces_are_passed_on_as_they_come() {
    // The second piece is sent only after the client has the first: a proxy that waits for more would hang here.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..5 {
            exchange.send(b"5\r\nhello\r\n");
            wait.lock().expect("one exchange at a time").recv().expect("the client says when");
        }
        exchange.send(b"0\r\n\r\n");
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send(get("/", ""));
    assert_eq!(client.wire.head().unwrap().response_framing("GET"), Ok(Framing::Chunked));
    for _ in 0..5 {
        assert_eq!(client.wire.exactly(10).unwrap(), b"5\r\nhello\r\n");
        go.send(()).unwrap();
    }
    assert_eq!(client.wire.exactly(5).unwrap(), b"0\r\n\r\n");
}

#[test]
fn a_request_bodys_pieces_are_passed_on_as_they_come() {
    let upstream = Upstream::start(|exchange| {
        let wire = exchange.wire();
        let mut seen = 0;
        while seen < 5 {
            assert_eq!(wire.exactly(10).expect("a chunk"), b"5\r\nhello\r\n");
            wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n").expect("an open connection");
            seen += 1;
        }
        exchange.body();
        exchange.send(&response(200, b"done"));
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        client.send("5\r\nhello\r\n");
        assert_eq!(client.any_response("POST").status, 103);
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response("POST").whole().text(), "done");
}

#[test]
fn a_response_keeps_its_fields_reason_and_order() {
    let upstream = Upstream::answering(
        "HTTP/1.1 299 Quite Odd\r\nset-cookie: a=b\r\nX-One: 1\r\nSet-Cookie: c=d\r\nKeep-Alive: timeout=5\r\nX-Hop: h\r\nConnection: keep-alive, x-hop\r\nContent-Length: 2\r\nX-Last: z\r\n\r\nok",
    );
    let switchback = Setup::new().start(&upstream);
    let answer = switchback.client().exchange(get("/", "")).whole();
    assert_eq!(answer.head.start, "HTTP/1.1 299 Quite Odd");
    assert_eq!(answer.head.all("set-cookie"), ["a=b", "c=d"]);
    assert_eq!(answer.head.fields[0], ("set-cookie".to_owned(), "a=b".to_owned()));
    for gone in ["keep-alive", "x-hop"] {
        assert!(answer.head.all(gone).is_empty(), "{gone} is of the upstream's connection: {answer:?}");
    }
}
