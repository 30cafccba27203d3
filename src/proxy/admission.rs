//! Who may have a connection to an endpoint: an attempt that finds no idle one opens another if there is a place,
//! waits for one, or is turned away.
//!
//! Invariant: a request that ends its wait, also because its client has gone, holds no place in the queue.

use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    answer::Answer, clock, downstream::Downstream, exchange::LOOK, handler::Request, retry::Failure,
};
use crate::{
    model::adaptive::Sample,
    routing::table::Table,
    telemetry::causes::TimeoutKind,
    upstream::{
        connections::Place,
        drain::Kind,
        gate::Limit,
        waiting::{Granted, Wish},
    },
};

/// A place for a connection to the request's endpoint, or a connection that has just become free.
pub(super) async fn admit(downstream: &mut Downstream, request: &Request) -> Result<Granted, Failure> {
    if let Some(place) = Place::take(request.lease.shared()) {
        return Ok(Granted::Place(place));
    }
    // The endpoint has all the connections it may have. One of our own that is idle makes room.
    if request.lease.idle().close_oldest()
        && let Some(place) = Place::take(request.lease.shared())
    {
        return Ok(Granted::Place(place));
    }
    // In a box, so that only a request that waits pays for its room.
    Box::pin(wait(downstream, request)).await
}

/// Waits for a place or a connection as long as the pool allows.
async fn wait(downstream: &mut Downstream, request: &Request) -> Result<Granted, Failure> {
    let due = request.attempts.due;
    let pool = &request.routed.table.pools[request.pool];
    let gate = &pool.state.gate;
    let (way, fresh) = (pool.way.number(), request.attempts.needs_fresh);
    let wish = Wish { way, wants: request.wants(), fresh };
    let shed = |limit| {
        gate.count_shed(limit);
        Failure::Shed(limit)
    };
    let limits = &pool.settings.limits;
    let waiting = downstream.worker.routing.borrow().upstreams.wait(&request.lease, limits.max_pending, wish);
    let mut waiting = waiting.map_err(shed)?;
    let until = clock::now() + limits.pending_timeout;
    let until = due.map_or(until, |due| due.min(until));
    let mut look_at = clock::now() + LOOK;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(granted) = waiting.poll(cx) {
                // What became free at the deadline, as its request was cut, is no place for another one.
                return Poll::Ready(in_time(request).map(|()| granted));
            }
            if !downstream.deadline.poll_at(cx, until.min(look_at)) {
                return Poll::Pending;
            }
            if until <= clock::now() {
                let is_over = due.is_some_and(|due| due <= clock::now());
                return Poll::Ready(Err(if is_over {
                    Failure::TimeIsOver(TimeoutKind::Request)
                } else {
                    shed(Limit::PendingTimeout)
                }));
            }
            if downstream.is_reset() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if let Err(failure) = in_time(request) {
                return Poll::Ready(Err(failure));
            }
            look_at = clock::now() + LOOK;
        }
    })
    .await
}

/// Refuses to go on with a request of which nothing was sent yet, if its endpoint's drain lets none go on.
pub(super) fn in_time(request: &Request) -> Result<(), Failure> {
    match request.lease.drain.is_over() {
        true => Err(Failure::Drained { kind: Kind::Request, wrote: false }),
        false => Ok(()),
    }
}

/// When a new connection is too old for another request: its pool's `max_age` from now, less up to a tenth at random,
/// so that connections which were opened together are not closed together.
pub(super) fn good_until(downstream: &Downstream, request: &Request) -> Option<Instant> {
    let age = request.routed.table.pools[request.pool].settings.max_age?;
    let part = 1.0 - 0.1 * downstream.worker.routing.borrow_mut().rng.f64();
    Some(clock::now() + age.mul_f64(part))
}

/// The answer to a request whose pool is at a limit. It is counted.
#[cold]
pub(super) fn shed(table: &Table, pool: usize, limit: Limit) -> Answer {
    let gate = &table.pools[pool].state.gate;
    gate.count_shed(limit);
    if let (Limit::Adaptive, Some(adaptive)) = (limit, gate.adaptive()) {
        // While everything is turned away there may be nobody else to tell it the time.
        adaptive.look(clock::now());
    }
    Answer::problem(503, Failure::Shed(limit))
}

/// An attempt that is timed, in a pool whose limit finds itself: until the head of its response is there. How long a
/// response then takes is its length's matter, and its client's.
#[derive(Debug)]
pub(super) struct Timed(Option<Instant>);

impl Timed {
    /// The attempt is about to be sent.
    #[inline]
    pub(super) fn begin(request: &Request) -> Self {
        Self(request.lease.state.gate.adaptive().map(|_| clock::now()))
    }

    /// The response's head is there: tells the limit how long that took.
    #[inline]
    pub(super) fn head_came(&mut self, request: &Request) {
        if let Some(began) = self.0.take() {
            observe(request, began);
        }
    }

    /// The response is a stream: its head may come when there is something to tell.
    #[inline]
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// The attempt has failed: if it was given up by its time, that is how long it took. How fast an endpoint fails, or
    /// a client goes, says nothing about how busy the pool is.
    pub(super) fn failed(&mut self, request: &Request, failure: &Failure) {
        if let (Some(began), Failure::TimedOut(_)) = (self.0.take(), failure) {
            observe(request, began);
        }
    }
}

#[cold]
fn observe(request: &Request, began: Instant) {
    let gate = &request.lease.state.gate;
    if let Some(adaptive) = gate.adaptive() {
        let ended = clock::now().max(began + Duration::from_nanos(1));
        adaptive.observe(Sample { began, ended, in_flight: gate.busy() });
    }
}
