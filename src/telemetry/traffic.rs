//! What is counted of the requests of a route, of a pool's part in a split, of a pool, or of an endpoint.

use super::{
    causes::{RETRY_REASONS, Retries, TIMEOUT_KINDS, Timeouts},
    counter::Counter,
    histogram::{Histogram, HistogramCounts, Measured},
};

/// One worker's counts for one series. See [`super::registry::Key`].
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests by the first digit of their final status: index 0 is 1xx (a tunnel's 101), 4 is 5xx.
    pub by_class: [Counter; 5],
    /// Requests that ended with no status sent: the client went away, or the response could not begin.
    pub aborted: Counter,
    /// Requests that ended with an answer of Switchback's own to what their client did: at the endpoint that they were
    /// on, whose success they are not.
    pub client_faults: Counter,
    /// Requests in flight.
    pub in_flight: Counter,
    /// From the request's head to the response's head.
    pub first_byte: Histogram,
    /// From the request's head to the response's last byte.
    pub duration: Histogram,
    /// Bytes of request bodies (and what a tunnel's client sent).
    pub bytes_received: Counter,
    /// Bytes of response bodies (and what a tunnel's upstream sent).
    pub bytes_sent: Counter,
    /// Attempts after the first, by the reason.
    pub retries: Retries,
    /// Times that ran out, by their kind; those of attempts that were repeated, too.
    pub timeouts: Timeouts,
    /// Requests that came too early for their route's rate limit. Only for a route.
    pub rate_limited: Counter,
    /// How often a split's draw fell on this pool, whether or not it was available. Only for a pool in a split.
    pub drawn: Counter,
    /// Upstream connections opened.
    pub connects: Counter,
    /// Requests that went over an upstream connection that had served one before.
    pub reuses: Counter,
    /// Upstream connections that could not be opened.
    pub connect_failures: Counter,
    /// Attempts that failed after the connection was there: reset, cut, malformed.
    pub attempt_failures: Counter,
}

/// The counts of one series at one moment, of all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Traffic")]
pub struct TrafficCounts {
    pub by_class: [u64; 5],
    pub aborted: u64,
    pub in_flight: u64,
    pub first_byte: HistogramCounts,
    pub duration: HistogramCounts,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub retries: [u64; RETRY_REASONS],
    pub timeouts: [u64; TIMEOUT_KINDS],
    pub rate_limited: u64,
    pub drawn: u64,
    pub connects: u64,
    pub reuses: u64,
    pub connect_failures: u64,
    pub attempt_failures: u64,
}

/// What was counted of upstream connections: the part of the counts that endpoints alone have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Traffic")]
pub struct ConnectionCounts {
    pub connects: u64,
    pub reuses: u64,
    pub connect_failures: u64,
    pub attempt_failures: u64,
}

impl Traffic {
    /// Counts a request that has been answered with `status` (100 to 599).
    #[inline]
    pub fn finished(&self, status: u16, first_byte: Measured, duration: Measured) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.by_class[class].add(1);
        self.first_byte.record(first_byte);
        self.duration.record(duration);
    }

    /// Adds these counts to `into`.
    pub fn add_to(&self, into: &mut TrafficCounts) {
        fn add(sums: &mut [u64], counters: &[Counter]) {
            sums.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += counter.value());
        }
        add(&mut into.by_class, &self.by_class);
        add(&mut into.retries, &self.retries);
        add(&mut into.timeouts, &self.timeouts);
        self.first_byte.add_to(&mut into.first_byte);
        self.duration.add_to(&mut into.duration);
        into.aborted += self.aborted.value();
        // One worker's gauge is never negative, as it alone counts up and down.
        into.in_flight += self.in_flight.value();
        into.bytes_received += self.bytes_received.value();
        into.bytes_sent += self.bytes_sent.value();
        into.rate_limited += self.rate_limited.value();
        into.drawn += self.drawn.value();
        into.connects += self.connects.value();
        into.reuses += self.reuses.value();
        into.connect_failures += self.connect_failures.value();
        into.attempt_failures += self.attempt_failures.value();
    }
}

impl TrafficCounts {
    /// Requests that have ended with a status.
    pub fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// Requests that have begun, however they ended or will: what a realised share is made of.
    pub fn taken(&self) -> u64 {
        self.requests() + self.aborted + self.in_flight
    }
}

impl ConnectionCounts {
    /// Adds a worker's counts.
    pub(super) fn add(&mut self, traffic: &Traffic) {
        self.connects += traffic.connects.value();
        self.reuses += traffic.reuses.value();
        self.connect_failures += traffic.connect_failures.value();
        self.attempt_failures += traffic.attempt_failures.value();
    }
}
