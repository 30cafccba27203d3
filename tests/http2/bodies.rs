//! Bodies and trailers, both ways, within the windows of both sides.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use h2::client::Builder;
use http::{HeaderMap, HeaderValue, Request};

use super::{
    peer::{Peer, get, post, run},
    support::{Setup, Upstream, pattern, wait_until},
};

const LARGE: usize = 5 << 20;

#[test]
fn large_bodies_pass_both_ways_through_the_smallest_windows() {
    let upstream = Upstream::echo();
    let switchback = Setup::new().start(&upstream);
    let sent = pattern(LARGE, 3);
    run(async {
        // The protocol's default is 64 KiB for a stream and for a connection.
        let mut peer = Peer::with(switchback.address, Builder::new().initial_window_size(1000)).await;
        for length in [None, Some(LARGE)] {
            let mut request = post("/");
            if let Some(length) = length {
                request.headers_mut().insert("content-length", HeaderValue::from(length));
            }
            let answer = peer.exchange(request, Some(sent.clone()), None).await.whole();
            assert!(answer.body == sent, "{} bytes came back", answer.body.len());
        }
    });
    upstream.assert_canonical();
}

#[test]
fn many_bodies_share_a_connection_and_none_gets_anothers_bytes() {
    let upstream = Upstream::echo();
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let mut answers = Vec::new();
        for seed in 0..30 {
            let body = pattern(200_000 + seed as usize * 777, seed);
            answers.push((body.clone(), peer.begin(post("/"), Some(body), None).await));
        }
        for (body, answer) in answers {
            assert!(answer.await.expect("no panic").expect("an answer").whole().body == body);
        }
    });
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        exchange.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
              3\r\nabc\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=1\r\nGrpc-Status: 0\r\n\r\n",
        );
    });
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-check", HeaderValue::from_static("5"));
        trailers.insert("authorization", HeaderValue::from_static("no"));
        let answer = peer.exchange(post("/"), Some(b"hello".to_vec()), Some(trailers)).await.whole();
        assert_eq!(answer.text(), "abc");
        let trailers = answer.trailers.expect("trailers");
        assert_eq!(trailers["x-sum"], "7");
        assert_eq!(trailers["grpc-status"], "0");
        assert!(!trailers.contains_key("set-cookie"), "{trailers:?}");
    });
    upstream.assert_canonical();
    let body = upstream.last().body;
    assert_eq!(body.bytes, b"hello");
    assert_eq!(body.trailers, [("x-check".to_owned(), "5".to_owned())]);
}

#[test]
fn bodies_of_every_framing_end_with_the_stream() {
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        match exchange.head.target() {
            "/length" => exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
            "/empty" => exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            "/chunks" => {
                exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n");
                exchange.send(b"3;ext=1\r\nllo\r\n0\r\n\r\n");
            }
            "/none" => exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            _ => {
                exchange.send(b"HTTP/1.1 200 OK\r\n\r\nhello");
                exchange.close();
            }
        }
    });
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        for (path, body) in
            [("/length", "hello"), ("/empty", ""), ("/chunks", "hello"), ("/none", ""), ("/close", "hello")]
        {
            let answer = peer.get(path).await.whole();
            assert_eq!((answer.status, answer.text().as_str()), (200, body), "{path}");
            for field in ["transfer-encoding", "connection"] {
                assert!(!answer.fields.contains_key(field), "{path}: {answer:?}");
            }
        }
    });
}

#[test]
fn requests_without_a_body_have_none_and_one_of_length_0_says_so() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        peer.get("/").await.whole();
        assert!(upstream.last().head.all("content-length").is_empty());
        let request =
            Request::post("http://a.example/").header("content-length", "0").body(()).expect("good");
        peer.exchange(request, None, None).await.whole();
        assert_eq!(upstream.last().head.all("content-length"), ["0"]);
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_upstream_back_and_little_memory() {
    let taken = Arc::new(AtomicU64::new(0));
    let upstream = {
        let taken = Arc::clone(&taken);
        Upstream::start(move |exchange| {
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n");
            let piece = vec![7; 1 << 16];
            for _ in 0..4096 {
                if exchange.try_send(&piece).is_err() {
                    return;
                }
                taken.fetch_add(1 << 16, Ordering::Relaxed);
            }
        })
    };
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        peer.sender = peer.sender.clone().ready().await.expect("ready");
        let before = switchback.memory("VmRSS");
        // Ten responses of 256 MiB, whose heads are read and nothing else.
        let mut held = Vec::new();
        for _ in 0..10 {
            let (response, _) = peer.sender.send_request(get("/"), true).expect("it is sent");
            held.push(response.await.expect("a head"));
        }
        let mut last = u64::MAX;
        while last != taken.load(Ordering::Relaxed) {
            last = taken.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let grown = switchback.memory("VmRSS").saturating_sub(before);
        assert!(grown < 16 << 20, "it holds {grown} bytes for a client that does not read");
    });
    wait_until("the upstream's connections have ended", || upstream.open() == 0);
}

#[test]
fn a_slow_upload_is_held_back_to_what_the_upstream_takes() {
    let (seen, reader) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let upstream = {
        let (seen, reader) = (Arc::clone(&seen), Arc::clone(&reader));
        Upstream::start(move |exchange| {
            // Nothing of the body is read before the test says so.
            while reader.load(Ordering::Relaxed) == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            exchange
                .stream_body(&mut |piece| {
                    seen.fetch_add(piece.len() as u64, Ordering::Relaxed);
                })
                .expect("the whole body");
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        })
    };
    const UPLOAD: usize = 64 << 20;
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let before = switchback.memory("VmRSS");
        let answer = peer.begin(post("/"), Some(vec![1; UPLOAD]), None).await;
        while upstream.open() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let grown = switchback.memory("VmRSS").saturating_sub(before);
        assert!(grown < 16 << 20, "it holds {grown} bytes for an upstream that does not read");
        reader.store(1, Ordering::Relaxed);
        assert_eq!(answer.await.expect("no panic").expect("an answer").whole().status, 200);
    });
    assert_eq!(seen.load(Ordering::Relaxed), UPLOAD as u64);
}
