//! A request whose pool has nobody to answer it waits for an endpoint, where the pool's file says so (`unavailable_wait`).
//!
//! Invariant: nothing of a request that waits was sent to anybody. It waits either unread, in its client's connection,
//! where no endpoint was available, or in hand, after no connection could be had. Those that wait are counted at
//! the pool's gate among those that wait for a connection, and bounded as these are; and once the process is told to stop,
//! nobody waits any longer.

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    admission, attempt::Next, clock, deadline::SWEEP, downstream::Downstream, handler::Request,
    retry::Failure,
};
use crate::{
    config::WhenUnavailable,
    routing::{
        live::Generation,
        table::{Pool, Table, Target},
    },
    telemetry::causes::TimeoutKind,
    upstream::{gate::Limit, pool::PoolState},
};

/// The longest pause between two tries to connect to an endpoint that refuses and that no probe has found down yet.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// How long a request may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Since when it waits.
    pub(super) since: Instant,
    /// Until when.
    until: Instant,
}

/// What a request waits for that was not read.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) patience: Patience,
    table: Rc<Generation>,
    route: usize,
    arm: Option<(usize, usize)>,
    _place: WaitingPlace,
}

/// A place among those who wait, which are counted at a pool's gate.
#[derive(Debug)]
struct WaitingPlace(Arc<PoolState>);

impl WaitingPlace {
    fn take(pool: &Pool) -> Result<Self, Limit> {
        pool.state.gate.wait(pool.settings.limits.max_pending)?;
        Ok(Self(Arc::clone(&pool.state)))
    }
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        self.0.gate.end_wait();
    }
}

/// What a request is to wait for that found no endpoint: `None` if it is to be answered at once. One that has waited
/// already goes on to wait, but no longer than it first might.
#[cold]
pub(super) fn begin(
    downstream: &Downstream,
    table: &Rc<Generation>,
    (route, arm): (usize, Option<(usize, usize)>),
) -> Option<Result<Waiting, (usize, Limit)>> {
    let index = pool_of(table, route, arm)?;
    let pool = &table.pools[index];
    let wait = pool.settings.limits.unavailable_wait;
    // What an operator drains is to be left, not to be waited for.
    if wait.is_zero() || downstream.is_leaving() || pool.drains() {
        return None;
    }
    let now = clock::now();
    let patience = downstream.waited.unwrap_or_else(|| {
        let timeout = table.routes[route].settings.timeout;
        Patience { since: now, until: now + timeout.map_or(wait, |timeout| timeout.min(wait)) }
    });
    if patience.until <= now {
        return None;
    }
    let place = match WaitingPlace::take(pool) {
        Ok(place) => place,
        Err(limit) => return Some(Err((index, limit))),
    };
    Some(Ok(Waiting { patience, table: Rc::clone(table), route, arm, _place: place }))
}

/// Waits until it is worth to decide the request anew: an endpoint has come, another table has, or the time is over. `false`
/// if its client has gone meanwhile.
pub(super) async fn endpoint(downstream: &Downstream, waiting: Waiting) -> bool {
    let generation = waiting.table.generation;
    let is_worth_it = || {
        let is_another = downstream.worker.routing.borrow_mut().reader.current().generation != generation;
        is_another || is_available(&waiting.table, waiting.route, waiting.arm)
    };
    // Never looked for at once: a request that finds no endpoint where one seems to be must not turn in a circle.
    let mut look_at = clock::now() + SWEEP;
    poll_fn(|cx| {
        loop {
            if downstream.is_leaving() {
                return Poll::Ready(true);
            }
            if !downstream.deadline.poll_at(cx, waiting.patience.until.min(look_at)) {
                return Poll::Pending;
            }
            // Asked once, as a socket tells its error once.
            if downstream.is_reset() {
                return Poll::Ready(false);
            }
            if waiting.patience.until <= clock::now() || is_worth_it() {
                return Poll::Ready(true);
            }
            look_at = clock::now() + SWEEP;
        }
    })
    .await
}

/// Waits after a failure to connect that nothing else follows, until the request may go to an endpoint; `None` if it may
/// not wait (any longer), or its client has gone. It does not pay from the retry budget: an endpoint that takes no
/// connection has no work with it, and those who wait are bounded in number and pace.
#[cold]
pub(super) async fn again(
    downstream: &Downstream,
    request: &mut Request,
    failure: &Failure,
) -> Option<Box<Next>> {
    let is_unsent =
        matches!(failure, Failure::UpstreamUnreachable(_) | Failure::TimedOut(TimeoutKind::Connect));
    let table = Rc::clone(&request.routed.table);
    let pool = &table.pools[request.pool];
    let until = request.account.started + pool.settings.limits.unavailable_wait;
    let until = request.attempts.due.map_or(until, |due| due.min(until));
    let may_wait = |downstream: &Downstream| until > clock::now() && !downstream.is_leaving();
    if !is_unsent || !request.up.is_whole() || !may_wait(downstream) {
        return None;
    }
    let _place = WaitingPlace::take(pool).map_err(|limit| pool.state.gate.count_shed(limit)).ok()?;
    let pause = SWEEP.saturating_mul(request.account.attempts).min(LONGEST_PAUSE);
    let mut look_at = clock::now() + pause;
    poll_fn(|cx| {
        loop {
            if !may_wait(downstream) {
                return Poll::Ready(None);
            }
            if !downstream.deadline.poll_at(cx, until.min(look_at)) {
                return Poll::Pending;
            }
            if downstream.is_reset() || admission::in_time(request).is_err() {
                return Poll::Ready(None);
            }
            if is_available(&table, request.routed.route, request.arm) {
                request.attempts.forget_tried();
                if let Some(next) = request.elsewhere(downstream) {
                    return Poll::Ready(Some(Box::new(next)));
                }
            }
            look_at = clock::now() + SWEEP;
        }
    })
    .await
}

/// The pool that a request was meant for: its route's, or the one that was drawn.
fn pool_of(table: &Table, route: usize, arm: Option<(usize, usize)>) -> Option<usize> {
    match (table.routes[route].target, arm) {
        (Target::Pool(pool), _) => Some(pool),
        (Target::Split(_), Some((split, arm))) => Some(table.splits[split].arms[arm].pool),
        (Target::Split(_) | Target::Redirect, _) => None,
    }
}

/// Whether a request may find an endpoint now: in its pool, or where the split passes the pool's share on.
fn is_available(table: &Table, route: usize, arm: Option<(usize, usize)>) -> bool {
    if pool_of(table, route, arm).is_some_and(|pool| table.pools[pool].is_available()) {
        return true;
    }
    let Some(split) = arm.map(|(split, _)| &table.splits[split]) else { return false };
    split.settings.when_unavailable == WhenUnavailable::PassOn
        && split.arms.iter().any(|arm| arm.weight > 0 && table.pools[arm.pool].is_available())
}
