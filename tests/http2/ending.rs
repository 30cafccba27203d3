//! Connections end by GOAWAY, and what is in flight on them ends first: at a stop, when a listener goes, and when the
//! binary is replaced.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use super::{
    peer::{Peer, get, run},
    raw::{DATA, END_STREAM, Frame, GET, GO_AWAY, HEADERS, PING, Raw, frame, number},
    support::{Setup, Switchback, Upstream, successors::Successors, upstream::response, wait_until},
};

/// So late that a test which waits for it fails.
const SHUTDOWN: &str = "[shutdown]\ndeadline = \"120s\"";

/// An upstream that answers `/held` when it is released, and the rest at once.
fn holding() -> (Upstream, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |exchange| {
        exchange.body();
        if exchange.head.target() == "/held" {
            released.lock().expect("no panic holds it").recv().ok();
        }
        exchange.send(&response(200, b"ok"));
    });
    (upstream, release)
}

fn held() -> Vec<(&'static str, &'static str)> {
    [&GET[..2], &[(":path", "/held"), GET[3]]].concat()
}

/// The last stream that a GOAWAY says was taken, and its reason.
fn told(frame: &Frame) -> (u32, u32) {
    (number(&frame.payload), number(&frame.payload[4..]))
}

#[test]
fn a_stop_says_go_away_and_waits_for_what_is_in_flight() {
    let (upstream, release) = holding();
    let mut switchback = Setup::new().tables(SHUTDOWN).start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    raw.request(1, &held(), END_STREAM);
    wait_until("it has come", || upstream.requests() == 1);
    switchback.signal("TERM");
    // First that the connection ends, with no stream refused.
    let first = raw.until("GOAWAY", |frame| frame.kind == GO_AWAY);
    assert_eq!(told(&first), (0x7fff_ffff, 0));
    // A request that was on the way is served.
    raw.request(3, GET, END_STREAM);
    assert_eq!(raw.until("an answer", |frame| frame.kind == DATA).stream, 3);
    assert!(switchback.is_running());
    release.send(()).expect("the upstream waits");
    let body = raw.until("the answer", |frame| frame.kind == DATA);
    assert_eq!((body.stream, body.payload.as_slice(), body.flags & END_STREAM), (1, &b"ok"[..], END_STREAM));
    // A ping finds out what is on the way still; then it is said which stream was the last.
    let ping = raw.until("a ping", |frame| frame.kind == PING && frame.flags == 0);
    raw.request(5, GET, END_STREAM);
    raw.send(PING, 1, 0, &ping.payload);
    let seen = raw.rest();
    assert!(seen.has(DATA, 5), "{seen:?}");
    let last = seen.frames.iter().rev().find(|frame| frame.kind == GO_AWAY).expect("a GOAWAY");
    assert_eq!(told(last), (5, 0));
    assert_eq!(switchback.wait().code(), Some(0), "{}", switchback.stderr());
}

#[test]
fn a_stop_does_not_wait_for_idle_connections_though_they_answer_nothing() {
    let upstream = Upstream::ok();
    let mut switchback = Setup::new().tables(SHUTDOWN).start(&upstream);
    let mut used = Raw::connect(switchback.address);
    used.request(1, GET, END_STREAM);
    used.until("an answer", |frame| frame.kind == DATA);
    // One that has not had a request yet.
    let mut fresh = Raw::connect(switchback.address);
    assert!(!fresh.settle().is_over);
    switchback.signal("TERM");
    for raw in [&mut used, &mut fresh] {
        assert_eq!(raw.rest().go_away(), Some(0));
    }
    assert_eq!(switchback.wait().code(), Some(0), "{}", switchback.stderr());
}

#[test]
fn a_first_request_that_is_on_the_way_at_a_stop_is_served() {
    let upstream = Upstream::ok();
    let mut switchback = Setup::new().tables(SHUTDOWN).start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    assert!(!raw.settle().is_over);
    switchback.signal("TERM");
    wait_until("it drains", || std::net::TcpStream::connect(switchback.address).is_err());
    raw.request(1, GET, END_STREAM);
    let seen = raw.rest();
    assert!(seen.has(DATA, 1) && seen.go_away() == Some(0), "{seen:?}");
    assert_eq!(switchback.wait().code(), Some(0), "{}", switchback.stderr());
}

#[test]
fn the_deadline_of_a_stop_resets_what_is_left() {
    let (upstream, _release) = holding();
    let mut switchback = Setup::new().tables("[shutdown]\ndeadline = \"500ms\"").start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    raw.request(1, &held(), END_STREAM);
    wait_until("it has come", || upstream.requests() == 1);
    switchback.signal("TERM");
    let seen = raw.rest();
    assert!(!seen.has(HEADERS, 1) && !seen.has(DATA, 1), "nothing that looks like an answer: {seen:?}");
    switchback.wait();
}

/// What clients that keep to the rules of GOAWAY have seen.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answered: AtomicU64,
    connections: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Keeps some connections busy, with some streams each, until told to stop.
    fn run(&self, address: SocketAddr) {
        run(async {
            let clients = (0..4).map(|number| self.client(address, number));
            futures_util::future::join_all(clients).await;
        });
    }

    async fn client(&self, address: SocketAddr, number: u32) {
        let mut round = 0;
        while !self.stop.load(Relaxed) {
            let mut peer = Peer::connect(address).await;
            self.connections.fetch_add(1, Relaxed);
            // A connection that was told to go takes no new streams; those that it has end.
            while let Ok(sender) = peer.sender.clone().ready().await {
                peer.sender = sender;
                if self.stop.load(Relaxed) {
                    break;
                }
                let mut answers = Vec::new();
                for stream in 0..8 {
                    let path = format!("/{number}/{round}/{stream}");
                    if peer.sender.clone().ready().await.is_err() {
                        break;
                    }
                    let answer = peer.begin(get(&path), None, None).await;
                    answers.push((path, answer));
                }
                round += 1;
                for (path, answer) in answers {
                    match answer.await.expect("no panic") {
                        Ok(answer) if answer.broken.is_none() && answer.body == path.as_bytes() => {
                            self.answered.fetch_add(1, Relaxed);
                        }
                        other => self
                            .failures
                            .lock()
                            .expect("no panic holds it")
                            .push(format!("{path}: {other:?}")),
                    }
                }
            }
        }
    }
}

fn echoing() -> Upstream {
    Upstream::start(|exchange| {
        exchange.body();
        let target = exchange.head.target().to_owned();
        exchange.send(&response(200, target.as_bytes()));
    })
}

#[test]
fn replacing_the_binary_under_load_fails_no_request() {
    let upstream = echoing();
    let switchback = Setup::new().tables("[shutdown]\ndeadline = \"10s\"").start(&upstream);
    let load = Arc::new(Load::default());
    let mut successors = Successors::default();
    let running = {
        let (load, address) = (Arc::clone(&load), switchback.address);
        thread::spawn(move || load.run(address))
    };
    for round in 1..=3 {
        let so_far = load.answered.load(Relaxed);
        wait_until("the load runs", || load.answered.load(Relaxed) > so_far + 300);
        successors.replace(&switchback);
        // Every client has gone over to the successor.
        wait_until("all have connected anew", || load.connections.load(Relaxed) >= 4 * (round + 1));
    }
    load.stop.store(true, Relaxed);
    running.join().expect("the load does not panic");
    assert_eq!(*load.failures.lock().expect("no panic holds it"), Vec::<String>::new());
    println!("{} requests", load.answered.load(Relaxed));
}

#[test]
fn a_listener_that_goes_takes_its_connections_with_it_in_order() {
    let upstream = echoing();
    let second = "[[listener]]\nname = \"other\"\nlisten = \"127.0.0.1:0\"";
    let whole = Setup::new().tables(second).toml(&[&upstream]);
    let switchback = Switchback::start(&whole);
    let load = Arc::new(Load::default());
    let mut raw = Raw::connect(switchback.listener("other"));
    raw.request(1, GET, END_STREAM);
    raw.until("an answer", |frame| frame.kind == DATA);
    let running = {
        let (load, address) = (Arc::clone(&load), switchback.address);
        thread::spawn(move || load.run(address))
    };
    wait_until("the load runs", || load.answered.load(Relaxed) > 100);
    switchback.write(&whole.replace(second, ""));
    let ping = raw.until("a ping", |frame| frame.kind == PING && frame.flags == 0);
    raw.write(&frame(PING, 1, 0, &ping.payload)).expect("it takes bytes");
    assert_eq!(raw.rest().go_away(), Some(0));
    load.stop.store(true, Relaxed);
    running.join().expect("the load does not panic");
    // The other listener's clients have noticed nothing.
    assert_eq!(load.connections.load(Relaxed), 4);
    assert_eq!(*load.failures.lock().expect("no panic holds it"), Vec::<String>::new());
}
