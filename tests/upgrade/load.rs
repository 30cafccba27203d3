//! Replacements under load: keep-alive connections, new ones, idle ones and WebSockets.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    Line, green,
    support::{Client, Upstream, config::blue_green, is_long, upstream::response, wait_until},
    weigh,
};

/// How long the old process keeps what does not end by itself.
const DEADLINE: Duration = Duration::from_secs(4);

/// What came to the upstreams, each request by its target.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<HashMap<String, u32>>>);

impl Arrivals {
    fn upstream(&self) -> Upstream {
        let arrivals = self.clone();
        Upstream::start(move |exchange| {
            let target = exchange.head.target().to_owned();
            if target == "/socket" {
                return exchange.tunnel_echo("websocket");
            }
            exchange.body();
            if target == "/alive" {
                return exchange.send(&response(200, b"alive"));
            }
            *arrivals.0.lock().expect("no panic holds it").entry(target.clone()).or_default() += 1;
            exchange.send(&response(200, target.as_bytes()));
        })
    }
}

/// Sends requests until told to stop, and panics at the first that is not answered as it should be. With `keeps`, on one
/// connection until that is said to close.
fn send_on(
    address: SocketAddr,
    number: usize,
    keeps: bool,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Vec<String> {
    let mut answered = Vec::new();
    let mut client = Client::connect(address);
    while !stop.load(Relaxed) {
        let target = format!("/{number}/{}", answered.len());
        let close = if keeps { "" } else { "Connection: close\r\n" };
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{close}\r\n"));
        let answer = client.try_response("GET").unwrap_or_else(|end| panic!("{target}: {end:?}")).whole();
        assert_eq!((answer.status, answer.text()), (200, target.clone()));
        sent.fetch_add(1, Relaxed);
        answered.push(target);
        if answer.closes() {
            client.expect_end("after `Connection: close`");
            client = Client::connect(address);
        }
    }
    answered
}

/// A WebSocket that speaks until it is closed; answers for how long that was after the replacement was asked for.
fn speak(mut client: Client, replaced: &Mutex<Option<Instant>>) -> Duration {
    let echoes = |client: &mut Client| {
        client.send("ping");
        client.wire.exactly(4).is_ok_and(|echo| echo == b"ping")
    };
    while echoes(&mut client) {
        thread::sleep(Duration::from_millis(20));
    }
    let replaced =
        replaced.lock().expect("no panic holds it").expect("it lives until the replacement at least");
    replaced.elapsed()
}

fn socket(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client
        .send("GET /socket HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.any_response("GET").status, 101);
    client
}

#[test]
fn replacements_under_load_refuse_reset_and_cut_no_connection() {
    let rounds = if is_long() { 50 } else { 5 };
    let arrivals = Arrivals::default();
    let (blue, other) = (arrivals.upstream(), arrivals.upstream());
    let config = blue_green(2, (1_000_000, 0), "", &blue, &other)
        + &format!("[shutdown]\ndelay = \"0s\"\ndeadline = \"{}s\"\n", DEADLINE.as_secs());
    let line = Line::start(&config);
    let address = line.first.address;
    let (stop, sent, changed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (answered, lives) = thread::scope(|scope| {
        let (stop, sent, changed, line) = (&stop, &sent, &changed, &line);
        let clients: Vec<_> = (0..6)
            .map(|number| scope.spawn(move || send_on(address, number, number < 4, stop, sent)))
            .collect();
        let changes = scope.spawn(move || keep_changing(line, stop, changed));
        wait_until("the load runs", || sent.load(Relaxed) > 100 && changed.load(Relaxed) > 2);
        let mut lives = Vec::new();
        let mut pids = vec![line.first.pid()];
        for round in 0..rounds {
            let mut idle = Client::connect(address);
            idle.expect_alive("before the replacement");
            let socket = socket(address);
            let replaced = Arc::new(Mutex::new(None));
            let replaced_too = Arc::clone(&replaced);
            let speaking = scope.spawn(move || speak(socket, &replaced_too));
            // The time that it has begins no earlier, so a slow machine can only lengthen what is measured.
            *replaced.lock().expect("no panic holds it") = Some(Instant::now());
            let pid = line.replace();
            assert!(!pids.contains(&pid), "{pid} is another process");
            pids.push(pid);
            assert_eq!(line.serving(), pid, "the successor answers, in round {round}");
            idle.expect_alive("idle over the replacement");
            lives.push(speaking);
            let before = sent.load(Relaxed);
            wait_until("the load goes on", || sent.load(Relaxed) > before + 100);
        }
        let lives: Vec<_> = lives.into_iter().map(|one| one.join().expect("a WebSocket is served")).collect();
        stop.store(true, Relaxed);
        let answered: Vec<_> =
            clients.into_iter().flat_map(|client| client.join().expect("no request failed")).collect();
        let last = changes.join().expect("every change is answered");
        assert_eq!(green(&line.status()), last, "the last acknowledged change is in force");
        (answered, lives)
    });
    for lived in lives {
        assert!(lived >= DEADLINE, "a WebSocket was cut after {lived:?}");
    }
    let came = arrivals.0.lock().expect("no panic holds it");
    assert!(came.values().all(|count| *count == 1), "a request came twice");
    assert!(answered.iter().all(|target| came.contains_key(target)));
    println!("{rounds} replacements, {} requests, {} changes", answered.len(), changed.load(Relaxed));
    wait_until("the old processes have ended", || line.processes().len() == 1);
}

/// Makes one change after the other; each is acknowledged, or refused because of a replacement. Answers the last that was
/// acknowledged.
fn keep_changing(line: &Line, stop: &AtomicBool, changed: &AtomicU64) -> u64 {
    let (mut last, mut next) = (0, 0);
    while !stop.load(Relaxed) {
        next += 1;
        let answer = weigh(&line.first, next);
        match answer.status {
            200 => {
                last = next;
                changed.fetch_add(1, Relaxed);
            }
            503 => assert_eq!(answer.head.one("retry-after"), Some("1"), "{answer:?}"),
            _ => panic!("{answer:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
    last
}

#[test]
fn a_signal_replaces_the_process_and_the_number_of_workers_may_differ() {
    let arrivals = Arrivals::default();
    let (blue, other) = (arrivals.upstream(), arrivals.upstream());
    let line = Line::start(&blue_green(3, (1, 0), "", &blue, &other));
    for workers in [1, 4, 2] {
        let before = line.serving();
        let file = line.first.file();
        let text = std::fs::read_to_string(&file).expect("the test's file");
        let rest = text.split_once('\n').expect("the number of workers stands in the first line").1;
        std::fs::write(&file, format!("workers = {workers}\n{rest}")).expect("a writable folder");
        let signal = ["-c", "kill -s USR2 \"$0\"", &before.to_string()];
        assert!(std::process::Command::new("sh").args(signal).status().expect("a shell").success());
        wait_until("a successor serves", || {
            let status = line.status();
            status["process"]["pid"] != before && status["workers"].as_array().map(Vec::len) == Some(workers)
        });
        for number in 0..20 {
            Client::connect(line.first.address)
                .expect_alive(&format!("connection {number}, {workers} workers"));
        }
        // Until then either may answer, and a process that leaves has no further successor.
        wait_until("the old process has left", || line.processes().len() == 1);
    }
}
