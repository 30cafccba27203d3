//! Streams of any length in bounded memory, and back-pressure both ways.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    get,
    support::{Setup, Switchback, Upstream, is_long, message::Framing, pattern, wait_for, wait_until},
};

/// What the process may grow by while it streams; a stream is many times that.
const BOUND: u64 = 8 << 20;
/// What may be under way between two ends that don't read: the kernel's buffers on four sockets and ours.
const UNDER_WAY: u64 = 24 << 20;

fn length() -> u64 {
    if is_long() { 2 << 30 } else { 192 << 20 }
}

/// Sums bytes in a way that order and loss change, cheaply.
#[derive(Default, PartialEq, Eq, Debug)]
struct Digest {
    count: u64,
    sum: u64,
    block: Vec<u8>,
}

impl Digest {
    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min((1 << 20) - self.block.len()));
            self.block.extend_from_slice(piece);
            self.count += piece.len() as u64;
            rest = after;
            if self.block.len() == 1 << 20 {
                self.sum = self.sum.rotate_left(7) ^ xxhash_rust::xxh3::xxh3_64(&self.block);
                self.block.clear();
            }
        }
    }
}

/// Memory does not grow with the stream: measured after a short one of the same kind.
fn assert_bounded(switchback: &Switchback, before: u64) {
    let peak = switchback.memory("VmHWM");
    assert!(peak <= before + BOUND, "the process grew from {before} to {peak} bytes at its peak");
}

#[test]
fn a_long_response_passes_in_bounded_memory() {
    let block = pattern(1 << 20, 1);
    let sent = block.clone();
    let upstream = Upstream::start(move |exchange| {
        let (length, framing) = exchange.head.target()[1..].split_once('/').expect("the client names both");
        let length: u64 = length.parse().expect("a number");
        if framing == "length" {
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes());
            for _ in 0..length >> 20 {
                exchange.send(&sent);
            }
        } else {
            exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..length >> 20 {
                exchange.send(b"100000\r\n");
                exchange.send(&sent);
                exchange.send(b"\r\n");
            }
            exchange.send(b"0\r\n\r\n");
        }
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.exchange(get(&format!("/{}/length", 4 << 20), "")).whole();
    client.exchange(get(&format!("/{}/chunked", 4 << 20), "")).whole();
    let before = switchback.memory("VmRSS");
    for (kind, length) in [("length", length()), ("chunked", length() / 2)] {
        client.send(get(&format!("/{length}/{kind}"), ""));
        let framing = client.wire.head().unwrap().response_framing("GET").unwrap();
        let mut digest = Digest::default();
        client.wire.body(framing, &mut |bytes| digest.feed(bytes)).unwrap();
        let mut expected = Digest::default();
        (0..length >> 20).for_each(|_| expected.feed(&block));
        assert_eq!((digest.count, digest.sum), (expected.count, expected.sum), "{kind}");
    }
    assert_bounded(&switchback, before);
}

#[test]
fn a_long_request_passes_in_bounded_memory() {
    let block = pattern(1 << 20, 2);
    let upstream = Upstream::start(|exchange| {
        let mut digest = Digest::default();
        exchange.stream_body(&mut |bytes| digest.feed(bytes)).expect("a whole body");
        let text = format!("{} {}", digest.count, digest.sum);
        exchange.send(&crate::support::upstream::response(200, text.as_bytes()));
    });
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    let mut send = |length: u64| {
        client.send(format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n"));
        let mut expected = Digest::default();
        for _ in 0..length >> 20 {
            client.wire.send(&block).unwrap();
            expected.feed(&block);
        }
        let answer = client.response("POST").whole();
        assert_eq!(answer.text(), format!("{} {}", expected.count, expected.sum));
    };
    send(4 << 20);
    let before = switchback.memory("VmRSS");
    send(length());
    assert_bounded(&switchback, before);
}

#[test]
fn a_client_that_does_not_read_holds_the_upstream_back() {
    let written = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&written);
    let upstream = Upstream::start(move |exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 536870912\r\n\r\n");
        let block = [b'x'; 1 << 16];
        for _ in 0..8192 {
            if exchange.try_send(&block).is_err() {
                return exchange.reset();
            }
            counting.fetch_add(block.len() as u64, Ordering::SeqCst);
        }
    });
    let switchback = Setup::new().start(&upstream);
    let before = switchback.memory("VmRSS");
    let mut client = switchback.client();
    client.send(get("/", ""));
    let stalled = until_stalled(&written);
    assert!(stalled < UNDER_WAY, "the upstream wrote {stalled} bytes to a client that takes none");
    assert_bounded(&switchback, before);
    // It was held, not lost: all of it comes when the client reads.
    assert_eq!(client.wire.head().unwrap().response_framing("GET"), Ok(Framing::Length(536_870_912)));
    client
        .wire
        .body(Framing::Length(64 << 20), &mut |bytes| assert!(bytes.iter().all(|byte| *byte == b'x')))
        .unwrap();
    assert!(written.load(Ordering::SeqCst) > 64 << 20);
    client.reset();
    wait_until("the upstream request is cancelled", || upstream.open() == 0);
}

#[test]
fn an_upstream_that_does_not_read_holds_the_client_back() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |exchange| {
        wait.lock().expect("one exchange").recv().expect("the test says when");
        exchange.stream_body(&mut |_| {}).expect("a whole body");
        exchange.send(crate::support::upstream::OK);
    });
    let switchback = Setup::new().start(&upstream);
    let before = switchback.memory("VmRSS");
    let mut client = switchback.client();
    client.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 67108864\r\n\r\n");
    let written = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&written);
    let stream = client.wire.stream().try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let block = [b'y'; 1 << 16];
        for _ in 0..1024 {
            std::io::Write::write_all(&mut &stream, &block).expect("Switchback takes it in the end");
            counting.fetch_add(block.len() as u64, Ordering::SeqCst);
        }
    });
    let stalled = until_stalled(&written);
    assert!(stalled < UNDER_WAY, "the client wrote {stalled} bytes to an upstream that takes none");
    assert_bounded(&switchback, before);
    go.send(()).unwrap();
    assert_eq!(client.response("POST").whole().text(), "ok");
    writer.join().unwrap();
    assert_eq!(written.load(Ordering::SeqCst), 64 << 20);
}

/// Waits until a count has moved and then stands still.
fn until_stalled(count: &AtomicU64) -> u64 {
    let mut last = 0;
    let mut still = 0;
    wait_for("the writer is held back", || {
        std::thread::sleep(Duration::from_millis(20));
        let now = count.load(Ordering::SeqCst);
        still = if now == last && now > 0 { still + 1 } else { 0 };
        last = now;
        (still == 15).then_some(now)
    })
}
