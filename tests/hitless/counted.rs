//! A load in which each request has a number of its own, and its accounting at both ends.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, Switchback, Upstream, config::blue_green, is_long, upstream::response};

/// How often each request came to any upstream.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<HashMap<String, u32>>>);

/// What the clients of a load saw.
pub struct Load {
    /// Each request that was answered whole, as it should be.
    pub answered: Vec<String>,
    /// What went wrong, in words.
    pub failures: Vec<String>,
}

impl Arrivals {
    /// An upstream that counts what comes and answers each request with its own name, its target and its body.
    pub fn upstream(&self, name: &'static str) -> Upstream {
        let arrivals = self.clone();
        Upstream::start(move |exchange| {
            let target = exchange.head.target().to_owned();
            let body = exchange.body().bytes.clone();
            *arrivals.0.lock().expect("no panic holds it").entry(target.clone()).or_default() += 1;
            exchange.send(&response(200, &[name.as_bytes(), b" ", target.as_bytes(), b" ", &body].concat()));
        })
    }

    /// Asserts that what was answered came exactly once, and nothing else came.
    pub fn assert_exactly(&self, answered: &[String]) {
        let arrivals = self.0.lock().expect("no panic holds it");
        let repeated: Vec<_> = arrivals.iter().filter(|(_, count)| **count != 1).collect();
        assert!(repeated.is_empty(), "came more than once: {repeated:?}");
        let lost: Vec<_> = answered.iter().filter(|target| !arrivals.contains_key(*target)).collect();
        assert!(lost.is_empty(), "answered, but never came: {lost:?}");
        assert_eq!(arrivals.len(), answered.len(), "requests came that were never answered");
    }
}

/// Keeps this many clients busy until told to stop. A connection that says `close` is followed by a new one.
pub fn load(address: SocketAddr, clients: usize, stop: &AtomicBool, sent: &AtomicU64) -> Load {
    let results: Vec<Load> = thread::scope(|scope| {
        let running: Vec<_> =
            (0..clients).map(|client| scope.spawn(move || one_client(address, client, stop, sent))).collect();
        running.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    let mut whole = Load { answered: Vec::new(), failures: Vec::new() };
    for result in results {
        whole.answered.extend(result.answered);
        whole.failures.extend(result.failures);
    }
    whole
}

fn one_client(address: SocketAddr, number: usize, stop: &AtomicBool, sent: &AtomicU64) -> Load {
    let mut load = Load { answered: Vec::new(), failures: Vec::new() };
    let mut client = Client::connect(address);
    for request in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let target = format!("/{number}/{request}");
        let (text, body) = match request % 4 {
            0..=2 => (format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"), String::new()),
            _ => {
                let body = format!("body of {target}");
                let length = body.len();
                (
                    format!(
                        "POST {target} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n{body}"
                    ),
                    body,
                )
            }
        };
        client.send(&text);
        sent.fetch_add(1, Ordering::Relaxed);
        let expected = format!("{target} {body}");
        match client.try_response("GET") {
            Ok(answer)
                if answer.status == 200
                    && answer.broken.is_none()
                    && answer.text().split_once(' ').is_some_and(|(_, rest)| rest == expected) =>
            {
                load.answered.push(target);
                if answer.closes() {
                    client = Client::connect(address);
                }
            }
            other => {
                load.failures.push(format!("{target}: {other:?}"));
                client = Client::connect(address);
            }
        }
    }
    load
}

/// How many weight changes, over how long.
pub fn changes() -> (u32, Duration) {
    if is_long() { (1000, Duration::from_secs(30)) } else { (200, Duration::from_secs(6)) }
}

/// Changes the weights of `main` again and again, evenly over a while.
pub fn keep_changing(switchback: &Switchback) {
    let (count, over) = changes();
    let began = Instant::now();
    for change in 1..=count {
        // All to one side, all to the other, and shares between.
        let (blue, green) = [(100, 0), (0, 100), (50, 50), (90, 10), (1, 99)][change as usize % 5];
        switchback.weigh(blue, green);
        // The pace is the test's: so many changes over so long.
        thread::sleep((over * change / count).saturating_sub(began.elapsed()));
    }
}

#[test]
fn weight_changes_under_load_lose_and_repeat_nothing() {
    let arrivals = Arrivals::default();
    let (blue, green) = (arrivals.upstream("blue"), arrivals.upstream("green"));
    let switchback = Switchback::start(&blue_green(2, (100, 0), "", &blue, &green));
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = thread::scope(|scope| {
        let running = scope.spawn(|| load(switchback.address, 8, &stop, &sent));
        keep_changing(&switchback);
        stop.store(true, Ordering::Relaxed);
        running.join().expect("the load does not panic")
    });
    assert_eq!(load.failures, Vec::<String>::new());
    assert_eq!(load.answered.len() as u64, sent.load(Ordering::Relaxed));
    assert!(load.answered.len() > 500, "too little load to prove anything: {}", load.answered.len());
    assert!(blue.requests() > 100 && green.requests() > 100, "{} and {}", blue.requests(), green.requests());
    arrivals.assert_exactly(&load.answered);
    println!("{} requests, {} to blue, {} to green", load.answered.len(), blue.requests(), green.requests());
}

#[test]
fn a_change_is_in_force_for_every_request_after_its_answer() {
    let arrivals = Arrivals::default();
    let (blue, green) = (arrivals.upstream("blue"), arrivals.upstream("green"));
    let switchback = Switchback::start(&blue_green(2, (100, 0), "", &blue, &green));
    let mut clients: Vec<_> = (0..8).map(|_| switchback.client()).collect();
    for round in 0..100 {
        let (weights, expected) = if round % 2 == 0 { ((0, 1), "green") } else { ((1, 0), "blue") };
        switchback.weigh(weights.0, weights.1);
        for (number, client) in clients.iter_mut().enumerate() {
            let target = format!("/{round}/{number}");
            let answer = client.exchange(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")).whole();
            assert_eq!(answer.text(), format!("{expected} {target} "));
        }
    }
}
