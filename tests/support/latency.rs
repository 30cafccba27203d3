//! How long requests took, in rounds that are compared with each other: printed, never asserted, since a test that fails by
//! a loaded machine's clock says nothing.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

/// What one round of requests took.
pub struct Round {
    p50: Duration,
    p99: Duration,
    requests: usize,
}

/// The medians of some rounds.
#[derive(Debug)]
pub struct Summary {
    p50: Duration,
    p99: Duration,
    rounds: usize,
    requests: usize,
}

/// Makes requests, one after the other, until it is over, and measures each; at least a hundred.
pub fn measured(over: &AtomicBool, mut request: impl FnMut()) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while !over.load(SeqCst) || latencies.len() < 100 {
        let began = Instant::now();
        request();
        latencies.push(began.elapsed());
    }
    latencies
}

impl Round {
    pub fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let requests = latencies.len();
        Self { p50: latencies[requests / 2], p99: latencies[requests * 99 / 100], requests }
    }
}

impl Summary {
    pub fn of(rounds: &[Round]) -> Self {
        Self {
            p50: median(rounds.iter().map(|round| round.p50)),
            p99: median(rounds.iter().map(|round| round.p99)),
            rounds: rounds.len(),
            requests: rounds.iter().map(|round| round.requests).sum(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, rounds, requests } = self;
        write!(f, "p50 {p50:.1?}, p99 {p99:.1?} (medians of {rounds} rounds, {requests} requests)")
    }
}

fn median(values: impl Iterator<Item = Duration>) -> Duration {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}
