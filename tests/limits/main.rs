//! What bounds a pool's use, seen from both sides: caps hold over all workers, who waits is served in turn, and what
//! is turned away is told at once.

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod rate;
mod requests;
mod streams;

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use support::{Client, Response, Switchback, Upstream, upstream::OK, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Holds requests at the upstream until they are let go.
#[derive(Default)]
struct Held {
    /// How many may pass, and how many are held.
    state: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Held {
    fn locked(&self) -> MutexGuard<'_, (usize, usize)> {
        self.state.lock().expect("no panic holds it")
    }

    fn pass(&self) {
        let mut state = self.locked();
        state.1 += 1;
        while state.0 == 0 {
            state = self.changed.wait(state).expect("no panic holds it");
        }
        state.0 -= 1;
        state.1 -= 1;
    }

    fn let_go(&self, count: usize) {
        self.locked().0 += count;
        self.changed.notify_all();
    }

    fn count(&self) -> usize {
        self.locked().1
    }
}

/// An upstream that answers a request when it is let go.
fn holding() -> (Upstream, Arc<Held>) {
    let held = Arc::new(Held::default());
    let at_upstream = Arc::clone(&held);
    let upstream = Upstream::start(move |exchange| {
        exchange.body();
        at_upstream.pass();
        exchange.send(OK);
    });
    (upstream, held)
}

/// A client that has sent a request, and reads its answer on a thread of its own.
fn asking(switchback: &Switchback) -> thread::JoinHandle<Response> {
    let address = switchback.address;
    thread::spawn(move || Client::connect(address).exchange(GET).whole())
}

fn pending(switchback: &Switchback) -> f64 {
    switchback.metric("switchback_pool_requests_pending")
}

fn shed(switchback: &Switchback, limit: &str) -> u64 {
    let metrics = switchback.metrics();
    let start = format!("switchback_pool_shed_total{{pool=\"app\",limit=\"{limit}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&*start));
    value.expect("every limit has its counter").parse().expect("a count")
}

/// Asserts that an answer is that of a limit.
fn assert_shed(answer: &Response, limit: &str) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.head.one("retry-after"), Some("1"), "{answer:?}");
    assert_eq!(answer.head.one("content-type"), Some("application/problem+json"));
    assert!(answer.text().contains(limit), "{answer:?}");
}

/// Waits until everything is as before the first request.
fn assert_all_returned(switchback: &Switchback) {
    for gauge in [
        "switchback_pool_requests_pending",
        "switchback_pool_requests_in_flight",
        "switchback_endpoint_requests_in_flight",
        "switchback_route_requests_in_flight",
    ] {
        wait_until(gauge, || switchback.metric(gauge) == 0.0);
    }
}
