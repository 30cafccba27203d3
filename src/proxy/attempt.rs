//! What the attempts of a request have used up, and where the next one goes.
//!
//! Invariant: whoever gets a [`Next`] holds a claim on where it goes and has paid for it from the retry budget; so an
//! answer that could be passed on is given up only for an attempt that will be made.

use std::time::{Duration, Instant};

use super::{
    clock,
    downstream::Downstream,
    handler::Request,
    replay::Replay,
    retry::{self, Case, Failure, Verdict},
};
use crate::{
    config::defaults::MAX_RETRY_ATTEMPTS,
    routing::select::{self, Selection},
    upstream::{endpoint::EndpointId, local::Lease},
};

/// The most attempts of a request; bounds the list of endpoints that were tried.
const MOST: usize = 1 + MAX_RETRY_ATTEMPTS as usize;
/// How long is waited before an endpoint is tried that has failed already: enough for a restarting one to be back, or
/// for a crowd of failed requests to spread; too short to be felt.
const PAUSE: std::ops::RangeInclusive<u64> = 5_000..=25_000;
/// The highest number of an attempt that is believed.
const MOST_BELIEVED: u64 = 1_000;

/// What the attempts so far have used up.
#[derive(Debug)]
pub(super) struct Attempts {
    /// When the route's time for the request is over.
    pub(super) due: Option<Instant>,
    /// The next attempt must not reuse a connection: an idle one has just turned out to be closed.
    pub(super) needs_fresh: bool,
    tried: [EndpointId; MOST],
    count: usize,
}

/// Where the next attempt goes.
#[derive(Debug)]
pub(super) enum Next {
    /// To the same endpoint, on a new connection.
    SameEndpoint,
    /// To an endpoint, perhaps of another pool.
    Endpoint {
        arm: Option<(usize, usize)>,
        pool: usize,
        lease: Lease,
        /// All that take requests have been tried: there is a pause before one of them is tried again.
        was_tried: bool,
    },
}

impl Attempts {
    pub(super) fn new(request: &Request) -> Self {
        let timeout = request.routed.settings().timeout;
        Self {
            due: timeout.map(|timeout| request.account.started + timeout),
            needs_fresh: false,
            tried: [request.lease.id; MOST],
            count: 0,
        }
    }

    /// When the route's time for this attempt is over, if it has one and another attempt may follow.
    #[inline]
    pub(super) fn per_try_due(&self, request: &Request, now: Instant) -> Option<Instant> {
        let retries = &request.routed.settings().retries;
        let timeout = retries.per_try_timeout?;
        let is_last = request.account.attempts > retries.attempts
            || !is_repeatable(request)
            || request.traits.earlier_attempts > 0;
        (!is_last).then(|| now + timeout)
    }

    /// Decides whether and where a request goes after a failure. `in_hand` says that all that was sent of it is still
    /// there, and that nothing of an answer has come.
    #[cold]
    pub(super) fn next(
        &self,
        downstream: &Downstream,
        request: &Request,
        failure: &Failure,
        in_hand: bool,
    ) -> Option<Next> {
        let retries = &request.routed.settings().retries;
        let case = Case {
            in_hand,
            is_short: request.body.announced_bytes() <= retries.max_body as u64,
            is_repeatable: is_repeatable(request),
            is_repeated: request.traits.earlier_attempts > 0,
        };
        let now = clock::now();
        let verdict = retry::judge(failure, case);
        if verdict == Verdict::Stands
            || request.account.attempts > retries.attempts
            || self.due.is_some_and(|due| due <= now)
            || !downstream.worker.routing.borrow_mut().budget.take(now)
        {
            return None;
        }
        match verdict {
            Verdict::SameEndpoint => Some(Next::SameEndpoint),
            _ => self.elsewhere(downstream, request),
        }
    }

    /// Claims an endpoint that was not tried; if there is none, one of those that were.
    fn elsewhere(&self, downstream: &Downstream, request: &Request) -> Option<Next> {
        let mut tried = self.tried;
        tried[self.count] = request.lease.id;
        let tried = &tried[..=self.count];
        for (tried, was_tried) in [(tried, false), (&[], true)] {
            let mut routing = downstream.worker.routing.borrow_mut();
            let routing = &mut *routing;
            let selection = select::select_again(
                &request.routed.table,
                &mut routing.chooser,
                &mut routing.upstreams,
                &mut routing.series,
                (request.routed.route, request.arm, request.pool),
                &request.key,
                tried,
            );
            if let Selection::Forward { arm, pool, lease, .. } = selection {
                return Some(Next::Endpoint { arm, pool, lease, was_tried });
            }
        }
        None
    }

    /// Moves a request to where its next attempt goes.
    #[cold]
    pub(super) fn go_on(
        &mut self,
        downstream: &Downstream,
        request: &mut Request,
        up: &mut Replay,
        failure: &Failure,
        next: Next,
    ) -> Option<Duration> {
        tracing::debug!(error = %failure, endpoint = %request.lease.address, "an attempt failed and is repeated");
        self.needs_fresh = matches!(next, Next::SameEndpoint);
        let mut pause = None;
        if let Next::Endpoint { arm, pool, lease, was_tried } = next {
            self.tried[self.count] = request.lease.id;
            self.count += 1;
            (request.arm, request.pool, request.lease) = (arm, pool, lease);
            request.account.assign(&request.routed.table, arm, pool);
            pause = was_tried
                .then(|| Duration::from_micros(downstream.worker.routing.borrow_mut().rng.u64(PAUSE)));
        }
        request.account.retried(failure.reason(), &request.lease);
        up.rewind(request.traits.told_attempts + request.account.attempts + 1);
        pause
    }
}

/// Whether a request may be sent again though it may have been processed.
#[inline]
pub(super) fn is_repeatable(request: &Request) -> bool {
    request.traits.is_idempotent || request.routed.settings().retries.non_idempotent
}

/// The number in an `X-Switchback-Attempt`: 1 if it is none, as if there were no such field.
pub(super) fn number(value: &[u8]) -> u32 {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
    number.map_or(1, |number| number.clamp(1, MOST_BELIEVED) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_number_of_an_attempt_is_the_first() {
        for (value, expected) in [
            ("2", 2),
            ("11", 11),
            ("", 1),
            ("0", 1),
            ("-3", 1),
            ("two", 1),
            ("2, 3", 1),
            ("99999999999999999999", 1),
        ] {
            assert_eq!(number(value.as_bytes()), expected, "{value:?}");
        }
        assert_eq!(number(b"4000000000"), 1_000);
    }
}
