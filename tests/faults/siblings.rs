//! What the clients of other endpoints notice while one endpoint misbehaves: measured, not asserted, since a test that
//! fails by a loaded machine's clock says nothing.
//!
//! ```sh
//! SWITCHBACK_LONG=1 cargo test --release --test faults siblings -- --nocapture
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    get,
    support::{
        Client, Exchange, Setup, Switchback, Upstream, is_long,
        latency::{self, Round, Summary},
        upstream::response,
    },
};

/// Clients of the endpoint that misbehaves, and the time between two requests of each: 200 requests a second in all, but
/// for those that hang.
const TROUBLED: u32 = 16;
const APART: Duration = Duration::from_millis(80);
/// Clients of the others, each with one request after the other on one connection.
const SIBLINGS: usize = 2;

/// One after the other: it hangs, resets, closes, sends garbage, and breaks off within a body.
fn misbehave(exchange: &mut Exchange<'_>, nth: usize) {
    match nth % 5 {
        0 => drop(exchange.wire().fill()),
        1 => return exchange.reset(),
        2 => {}
        3 => exchange.send(b"220 mail.example ESMTP\r\n"),
        _ => exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
    }
    exchange.close();
}

/// A request to the troubled endpoint every now and then, on a connection of its own, until it is over.
fn trouble(switchback: &Switchback, over: &AtomicBool, failures: &AtomicUsize) {
    let mut next = Instant::now();
    while !over.load(SeqCst) {
        let mut client = Client::connect(switchback.address);
        client.send(get("/", "Connection: close\r\n"));
        let answer = client.any_response("GET");
        failures.fetch_add(usize::from(answer.status != 200 || answer.broken.is_some()), SeqCst);
        next = (next + APART).max(Instant::now());
        thread::sleep(next - Instant::now());
    }
}

/// Requests to the others, as fast as they are answered, and how long each took.
fn sibling(switchback: &Switchback, over: &AtomicBool) -> Vec<Duration> {
    let mut client = switchback.client();
    latency::measured(over, || {
        assert_eq!(client.exchange(get("/good", "")).whole().text(), "ok", "a sibling");
    })
}

fn round(switchback: &Switchback, time: Duration, failures: &AtomicUsize) -> Round {
    let over = AtomicBool::new(false);
    let latencies = thread::scope(|scope| {
        for _ in 0..TROUBLED {
            scope.spawn(|| trouble(switchback, &over, failures));
        }
        let siblings: Vec<_> = (0..SIBLINGS).map(|_| scope.spawn(|| sibling(switchback, &over))).collect();
        thread::sleep(time);
        over.store(true, SeqCst);
        siblings.into_iter().flat_map(|one| one.join().expect("no sibling fails")).collect()
    });
    Round::of(latencies)
}

#[test]
fn siblings_of_an_endpoint_that_misbehaves() {
    let (rounds, time) = match is_long() {
        true => (15, Duration::from_secs(2)),
        false => (2, Duration::from_millis(300)),
    };
    let is_bad = Arc::new(AtomicBool::new(false));
    let troubled = {
        let (is_bad, nth) = (Arc::clone(&is_bad), AtomicUsize::new(0));
        Upstream::start(move |exchange| match is_bad.load(SeqCst) {
            true => misbehave(exchange, nth.fetch_add(1, SeqCst)),
            false => exchange.send(&response(200, b"ok")),
        })
    };
    let good = [Upstream::ok(), Upstream::ok()];
    // One worker, which has to serve both; without ejection the troubled endpoint is asked all the time.
    let switchback = Setup::new()
        .pool("connect_timeout = \"200ms\"\neject = { enabled = false }")
        .route("first_byte_timeout = \"500ms\"\nstream_idle_timeout = \"500ms\"")
        .tables(&format!(
            "[pool.good]\nendpoints = [\"{}\", \"{}\"]\n[[route]]\nname = \"good\"\npath = \"/good\"\npool = \"good\"\n",
            good[0].address, good[1].address
        ))
        .start(&troubled);
    let failures = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let mut all: [Vec<Round>; 2] = [Vec::new(), Vec::new()];
    // The machine drifts: what is compared is measured by turns, and each is first as often as the other.
    for turn in 0..rounds {
        for bad in [turn % 2 == 1, turn % 2 == 0] {
            is_bad.store(bad, SeqCst);
            all[usize::from(bad)].push(round(&switchback, time, &failures[usize::from(bad)]));
        }
    }
    let [well, ill] = failures.map(AtomicUsize::into_inner);
    assert_eq!(well, 0, "nothing fails while all are well");
    assert!(ill > rounds, "only {ill} requests failed: there was no trouble to speak of");
    for (of, rounds) in ["all are well", "one misbehaves"].iter().zip(&all) {
        println!("{of}: {}", Summary::of(rounds));
    }
    println!("requests that failed while one misbehaved: {ill}");
}
