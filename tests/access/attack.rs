//! Everything hostile at once, against an instance that serves: each call gets the status that it deserves, the API still
//! answers who may ask, and no request of the data plane fails. What its clients notice is printed, beside what they notice
//! when another instance on the same machine is attacked: the attackers themselves take processors, too.
//!
//! ```sh
//! SWITCHBACK_LONG=1 cargo test --release --test access attack -- --nocapture
//! ```

use std::{
    collections::VecDeque,
    io::Write,
    net::{Ipv4Addr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use super::{
    Ask, Folder, Guarded, connect,
    support::{
        Upstream, is_long,
        latency::{self, Round, Summary},
    },
};

const WEIGHTS: &str = "/v1/splits/main/weights";
/// Clients of the data plane, each with one request after the other.
const CLIENTS: usize = 2;
/// How long each attacker rests between two tries: what is to be seen is what Switchback makes of them, not that they and
/// the clients want the same processors.
const REST: Duration = Duration::from_millis(10);
/// Event streams that are open at once on the attacker's side: more than the API lets in, and than it has connections.
const STREAMS_HELD: usize = 400;

/// The instance under attack, and the tokens that the attackers have got hold of.
struct Target {
    guarded: Guarded,
    admin: String,
    viewer: String,
    calls: AtomicUsize,
    streams: AtomicUsize,
}

impl Target {
    fn start(upstream: &Upstream) -> Self {
        let folder = Folder::new();
        let (admin, viewer) = (folder.make("admin", "root", &[]), folder.make("viewer", "eve", &[]));
        let guarded = Guarded::before(upstream.address, folder);
        let to_blue = Ask { token: Some(&admin), body: "{\"blue\": 1}", ..Ask::default() };
        assert_eq!(guarded.ask("PUT", WEIGHTS, to_blue).status, 200);
        Self { guarded, admin, viewer, calls: AtomicUsize::new(0), streams: AtomicUsize::new(0) }
    }

    /// Calls, and says which status came; none if the connection was closed to make room for others.
    fn call(&self, method: &str, path: &str, ask: Ask<'_>) -> Option<u16> {
        self.calls.fetch_add(1, SeqCst);
        self.guarded.try_ask(method, path, ask).ok().map(|answer| answer.status)
    }
}

/// One call of each kind that is answered at once, and what it deserves.
fn insolence(target: &Target, round: usize) {
    let admin = Some(target.admin.as_str());
    let from = Ipv4Addr::new(127, 0, 1, u8::try_from(round % 200).expect("below 200") + 1);
    let wrong = format!("sbt_{round:064x}");
    let long = "\u{1f4a9}".repeat(2_560);
    let named = format!("{{\"{long}\": 1}}");
    let form = "Origin: http://evil.example\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let put = "PUT";
    for (method, path, ask, deserved) in [
        ("GET", "/v1/status", Ask::default(), &[401][..]),
        ("GET", "/v1/status", Ask { from, token: Some(&wrong), ..Ask::default() }, &[401, 429]),
        (put, WEIGHTS, Ask { token: Some(&target.viewer), body: "{\"green\": 1}", ..Ask::default() }, &[403]),
        ("POST", WEIGHTS, Ask { token: admin, fields: form, body: "green=1", ..Ask::default() }, &[403]),
        (put, WEIGHTS, Ask { token: admin, fields: "Host: evil.example\r\n", ..Ask::default() }, &[403]),
        (
            put,
            WEIGHTS,
            Ask { token: admin, fields: "Content-Length: 104857600\r\n", ..Ask::default() },
            &[413],
        ),
        (put, WEIGHTS, Ask { token: admin, body: "{\"gren\": 1}", ..Ask::default() }, &[422]),
        (put, WEIGHTS, Ask { token: admin, body: "{\"green\": \"1\"}", ..Ask::default() }, &[422]),
        (put, WEIGHTS, Ask { token: admin, body: &named, ..Ask::default() }, &[422]),
        ("GET", "/v1/splits/..%2F..%2Fetc%2Fpasswd", Ask { token: admin, ..Ask::default() }, &[404]),
    ] {
        let status = target.call(method, path, ask);
        assert!(status.is_none_or(|status| deserved.contains(&status)), "{method} {path}: {status:?}");
    }
}

/// Sends a body without an end, for as long as somebody reads it.
fn endless_body(target: &Target) {
    let mut stream = begin(target, "Transfer-Encoding: chunked\r\n");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
    let mut sent = 0;
    while stream.write_all(chunk.as_bytes()).is_ok() {
        sent += chunk.len();
        assert!(sent < 100 << 20, "100 MB were read");
    }
}

/// Begins a body and leaves it so.
fn begin(target: &Target, fields: &str) -> TcpStream {
    target.calls.fetch_add(1, SeqCst);
    let mut stream = connect(Ipv4Addr::LOCALHOST, target.guarded.switchback.admin);
    let head = format!(
        "PUT {WEIGHTS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\n{fields}\r\n",
        target.admin
    );
    stream.write_all(head.as_bytes()).ok();
    stream
}

/// Opens event streams and reads nothing, again and again, until there have been so many.
fn hoard_streams(target: &Target, over: &AtomicBool, most: usize) {
    let mut held = VecDeque::new();
    while !over.load(SeqCst) && target.streams.fetch_add(1, SeqCst) < most {
        let mut stream = connect(Ipv4Addr::LOCALHOST, target.guarded.switchback.admin);
        let head = format!(
            "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
            target.admin
        );
        stream.write_all(head.as_bytes()).ok();
        held.push_back(stream);
        if held.len() > STREAMS_HELD {
            held.pop_front();
        }
        thread::sleep(REST / 5);
    }
}

fn attack(target: &Target, over: &AtomicBool, streams: usize) {
    thread::scope(|scope| {
        scope.spawn(|| hoard_streams(target, over, streams));
        scope.spawn(|| {
            // Who may ask is answered all the while.
            while !over.load(SeqCst) {
                let status = target.guarded.get("/v1/splits/main", Some(&target.admin)).status;
                assert_eq!(status, 200, "of a call that is good");
                thread::sleep(REST);
            }
        });
        scope.spawn(|| {
            let mut round = 0;
            while !over.load(SeqCst) {
                insolence(target, round);
                round += 1;
                thread::sleep(REST);
            }
        });
        scope.spawn(|| {
            // Each body is left unfinished for as long as the attack lasts, or until the next hundred.
            let mut slow = VecDeque::new();
            while !over.load(SeqCst) {
                slow.push_back(begin(target, "Content-Length: 99\r\n"));
                endless_body(target);
                slow.truncate(100);
                thread::sleep(REST);
            }
        });
    });
}

/// What the clients of the data plane see for a while; under attack on an instance, until so many event streams have been
/// opened there in all.
fn round(serving: &Target, time: Duration, attacked: Option<(&Target, usize)>) -> Round {
    let over = &AtomicBool::new(false);
    let latencies = thread::scope(|scope| {
        if let Some((target, streams)) = attacked {
            scope.spawn(move || attack(target, over, streams));
        }
        let client = || {
            let mut client = serving.guarded.switchback.client();
            latency::measured(over, || {
                let answer = client.exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").whole();
                assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "of the data plane");
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        thread::sleep(time);
        over.store(true, SeqCst);
        clients.into_iter().flat_map(|client| client.join().expect("no request fails")).collect()
    });
    Round::of(latencies)
}

#[test]
fn the_data_plane_does_not_notice_an_attack_on_the_admin_api() {
    let (rounds, time, streams) = match is_long() {
        true => (15, Duration::from_secs(2), 10_000),
        false => (3, Duration::from_millis(300), 500),
    };
    let upstream = Upstream::ok();
    let (target, another) = (Target::start(&upstream), Target::start(&upstream));
    let mut all: [Vec<Round>; 3] = Default::default();
    for turn in 0..rounds {
        let streams = streams * (turn + 1) / rounds;
        // The machine drifts: what is compared is measured by turns, and each is first as often as the others.
        for kind in (0..3).map(|place| (place + turn) % 3) {
            let attacked = [None, Some((&another, streams)), Some((&target, streams))][kind];
            all[kind].push(round(&target, time, attacked));
            let status = target.guarded.get("/v1/status", Some(&target.admin));
            assert_eq!(status.status, 200, "whoever may ask is answered: {status:?}");
        }
    }
    for (of, rounds) in ["in peace", "another attacked", "attacked"].iter().zip(&all) {
        println!("{of}: {}", Summary::of(rounds));
    }
    let (calls, streams) = (target.calls.load(SeqCst), target.streams.load(SeqCst));
    println!("{calls} hostile calls, {streams} event streams");
    assert!(calls > 10 * rounds && streams > 10 * rounds, "there was no attack to speak of");
    let weights = target.guarded.get("/v1/splits/main", Some(&target.admin)).json()["weights"].clone();
    assert_eq!((&weights["blue"], &weights["green"]), (&1.into(), &0.into()), "nothing has changed");
    let memory = target.guarded.switchback.memory("VmHWM");
    assert!(memory < 300 << 20, "{memory} bytes were used");
}
