//! What is counted of one request, and when.
//!
//! Invariant: whatever was counted into a gauge is counted out again exactly once, also when a task is dropped.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{clock, worker::Worker};
use crate::{
    model::access_log::LogField,
    routing::table::Table,
    telemetry::{
        access_log::Record,
        causes::{RetryReason, TimeoutKind},
        histogram::Measured,
        registry::{LocalSeries, Slot},
        traffic::Traffic,
    },
    upstream::local::Lease,
};

/// The account of one request.
#[derive(Debug)]
pub(super) struct Account {
    worker: Rc<Worker>,
    /// When its head was read.
    pub(super) started: Instant,
    /// When the response's head was there.
    first_byte: Option<Instant>,
    /// The final status that was sent, if any.
    status: Option<u16>,
    route: Option<Slot>,
    arm: Option<Slot>,
    pool: Option<Slot>,
    /// Data bytes from the client.
    pub(super) received: u64,
    /// Data bytes to the client.
    pub(super) sent: u64,
    /// Attempts made.
    pub(super) attempts: u32,
    is_closed: bool,
    /// For the access log, if this request is one of its sample.
    pub(super) record: Option<Box<Record>>,
}

impl Account {
    /// Opens the account of a request that has just got its route, or that no route takes.
    #[inline]
    pub(super) fn open(worker: &Rc<Worker>, route: Option<Slot>) -> Self {
        let account = Self {
            worker: Rc::clone(worker),
            started: clock::now(),
            first_byte: None,
            status: None,
            route,
            arm: None,
            pool: None,
            received: 0,
            sent: 0,
            attempts: 0,
            is_closed: false,
            record: None,
        };
        account.each(|series, slot| series.of(slot).in_flight.add(1));
        account
    }

    /// Says which pool the request is at now: the first one, or another after a retry.
    #[inline]
    pub(super) fn assign(&mut self, table: &Table, arm: Option<(usize, usize)>, pool: usize) {
        if let Some(record) = &mut self.record {
            let split = arm.map_or("", |(split, _)| table.splits[split].settings.name.as_str());
            record.set(LogField::Split, split.as_bytes());
            record.set(LogField::Pool, table.pools[pool].settings.name.as_str().as_bytes());
        }
        let arm = arm.map(|(split, arm)| table.splits[split].arms[arm].slot);
        let pool = Some(table.pools[pool].slot);
        if (self.arm, self.pool) == (arm, pool) {
            return;
        }
        self.leave();
        (self.arm, self.pool) = (arm, pool);
        self.series(|series| {
            for slot in [arm, pool].into_iter().flatten() {
                series.of(slot).in_flight.add(1);
            }
        });
    }

    fn leave(&self) {
        self.series(|series| {
            for slot in [self.arm, self.pool].into_iter().flatten() {
                series.of(slot).in_flight.subtract(1);
            }
        });
    }

    /// Counts an attempt after the first: everywhere the request is now, and at the endpoint that it goes to.
    #[cold]
    pub(super) fn retried(&self, reason: RetryReason, lease: &Lease) {
        self.each(|series, slot| series.of(slot).retries[reason as usize].add(1));
        lease.traffic.retries[reason as usize].add(1);
    }

    /// Counts a request that came too early for its route's rate limit.
    #[cold]
    pub(super) fn rate_limited(&self) {
        self.each(|series, slot| series.of(slot).rate_limited.add(1));
    }

    /// Counts a time that ran out. `ends` says that it ends the request.
    #[cold]
    pub(super) fn timed_out(&mut self, kind: TimeoutKind, lease: &Lease, ends: bool) {
        self.each(|series, slot| series.of(slot).timeouts[kind as usize].add(1));
        lease.traffic.timeouts[kind as usize].add(1);
        if let (Some(record), true) = (&mut self.record, ends) {
            record.set(LogField::Timeout, kind.label().as_bytes());
        }
    }

    /// The final status that was sent, if any.
    #[inline]
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// A final status has been, or is being, sent.
    #[inline]
    pub(super) fn answered(&mut self, status: u16) {
        self.status = Some(status);
        self.first_byte = Some(clock::now());
    }

    /// Closes the account after the last byte: counts the request everywhere it belongs. `whole` says that the
    /// response was sent to its end, or that a tunnel ended.
    #[inline]
    pub(super) fn close(&mut self, lease: Option<&Lease>, whole: bool) {
        self.is_closed = true;
        let now = clock::now();
        let duration = now.saturating_duration_since(self.started);
        let status = self.status.filter(|_| whole);
        let first_byte = self.first_byte.map_or(duration, |at| at.saturating_duration_since(self.started));
        let (received, sent) = (self.received, self.sent);
        let (first, whole_time) = (Measured::new(first_byte), Measured::new(duration));
        let count = |traffic: &Traffic| {
            traffic.bytes_received.add(received);
            traffic.bytes_sent.add(sent);
            match status {
                Some(status) => traffic.finished(status, first, whole_time),
                None => traffic.aborted.add(1),
            }
        };
        self.each(|series, slot| count(series.of(slot)));
        if let Some(lease) = lease {
            count(&lease.traffic);
        }
        if let Some(record) = self.record.take() {
            self.log(record, lease, first_byte, duration, whole);
        }
    }

    #[cold]
    fn log(
        &self,
        mut record: Box<Record>,
        lease: Option<&Lease>,
        first_byte: Duration,
        duration: Duration,
        whole: bool,
    ) {
        record.status = self.status.unwrap_or(0);
        record.bytes_received = self.received;
        record.bytes_sent = self.sent;
        record.first_byte = self.first_byte.map(|_| first_byte);
        record.duration = duration;
        record.attempts = self.attempts;
        record.endpoint = lease.map(|lease| lease.address);
        let outcome: &[u8] = match (whole, self.status) {
            (true, _) => b"complete",
            (false, Some(_)) => b"cut",
            (false, None) => b"aborted",
        };
        record.set(LogField::Outcome, outcome);
        self.worker.log(record);
    }

    fn each(&self, mut act: impl FnMut(&mut LocalSeries, Slot)) {
        self.series(|series| {
            for slot in [self.route, self.arm, self.pool].into_iter().flatten() {
                act(series, slot);
            }
        });
    }

    #[inline]
    fn series<T>(&self, act: impl FnOnce(&mut LocalSeries) -> T) -> T {
        act(&mut self.worker.routing.borrow_mut().series)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !self.is_closed {
            // Its task was ended by the deadline of a stop.
            self.close(None, false);
        }
        self.each(|series, slot| series.of(slot).in_flight.subtract(1));
    }
}
