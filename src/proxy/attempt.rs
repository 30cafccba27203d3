//! What the attempts of a request have used up, and where the next one goes.
//!
//! Invariant: whoever gets a [`Next`] holds a claim on where it goes and has paid for it from the retry budget; so an
//! answer that could be passed on is given up only for an attempt that will be made.

use std::time::{Duration, Instant};

use super::{
    clock,
    downstream::Downstream,
    handler::Request,
    pin::InSession,
    retry::{self, Case, Failure, Verdict},
};
use crate::{
    config::defaults::MAX_RETRY_ATTEMPTS,
    model::protocol::Protocol,
    routing::select::{self, Earlier, Selection},
    upstream::{endpoint::EndpointId, local::Lease, waiting::Wants, way::Way},
};

/// The most attempts of a request; bounds the list of endpoints that were tried.
const MOST: usize = 1 + MAX_RETRY_ATTEMPTS as usize;
/// How long is waited before an endpoint is tried that has failed already: enough for a restarting one to be back, or
/// for a crowd of failed requests to spread; too short to be felt.
const PAUSE: std::ops::RangeInclusive<u64> = 5_000..=25_000;
/// How often a request is taken to another connection for nothing, as its own had come to an end without processing it. An
/// endpoint that ends every connection at its first request is not waited for without end.
const MOST_RENEWED: u32 = 3;
/// The highest number of an attempt that is believed.
const MOST_BELIEVED: u64 = 1_000;

/// What the attempts so far have used up.
#[derive(Debug)]
pub(super) struct Attempts {
    /// When the route's time for the request is over.
    pub(super) due: Option<Instant>,
    /// No further attempt reuses a connection: an idle one has turned out to be closed, and it shall not happen twice to
    /// a request.
    pub(super) needs_fresh: bool,
    /// How often its connection had come to an end before it was sent, which costs it none of its attempts.
    renewed: u32,
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
    /// Before the first attempt, which goes to an endpoint.
    pub(super) fn new(endpoint: EndpointId, due: Option<Instant>) -> Self {
        Self { due, needs_fresh: false, renewed: 0, tried: [endpoint; MOST], count: 0 }
    }

    /// Every endpoint may be tried again: there was time for one to come back.
    pub(super) fn forget_tried(&mut self) {
        self.count = 0;
    }
}

impl Request {
    /// How the endpoints of its pool are spoken to.
    #[inline]
    pub(super) fn way(&self) -> &Way {
        &self.routed.table.pools[self.pool].way
    }

    /// When the route's time for this attempt is over, if it has one and another attempt may follow.
    #[inline]
    pub(super) fn per_try_due(&self, now: Instant) -> Option<Instant> {
        let retries = &self.routed.settings().retries;
        let timeout = retries.per_try_timeout?;
        let is_last = self.account.attempts > retries.attempts
            || !self.is_repeatable()
            || self.traits.earlier_attempts > 0;
        (!is_last).then(|| now + timeout)
    }

    /// On which connections it goes. An upgrade is of HTTP/1.1, whatever else the pool's endpoints speak.
    #[inline]
    pub(super) fn wants(&self) -> Wants {
        match self.way().protocol {
            Protocol::Http1 => Wants::Http1,
            _ if self.traits.upgrade.is_some() => Wants::Http1,
            Protocol::Http2 => Wants::Streams,
            Protocol::Agreed => Wants::Either,
        }
    }

    /// Whether it asks for an upgrade where endpoints may speak HTTP/2 alone: that they then have no use for it says nothing
    /// about them, and clients could have any endpoint ejected by asking.
    pub(super) fn is_upgrade_of_another_protocol(&self) -> bool {
        self.traits.upgrade.is_some() && self.way().protocol != Protocol::Http1
    }

    /// Whether an endpoint that it has waited for since then has used up the route's time, now that this is over: half
    /// of it at least. What has begun late, behind a slow client or a failed attempt, had no fair part of it.
    pub(super) fn is_used_up_since(&self, since: Instant) -> bool {
        let used_up =
            |(due, timeout): (Instant, Duration)| due.saturating_duration_since(since) >= timeout / 2;
        self.attempts.due.zip(self.routed.settings().timeout).is_some_and(used_up)
    }

    /// Whether it may be sent again though it may have been processed.
    #[inline]
    pub(super) fn is_repeatable(&self) -> bool {
        self.traits.is_idempotent || self.routed.settings().retries.non_idempotent
    }

    /// Decides whether and where it goes after a failure. `untouched` says that nothing of an answer has come.
    #[cold]
    pub(super) fn next(
        &self,
        downstream: &Downstream,
        failure: &Failure,
        untouched: bool,
    ) -> Option<Box<Next>> {
        let retries = &self.routed.settings().retries;
        let case = Case {
            in_hand: untouched && self.up.is_whole(),
            is_short: self.body.announced_bytes() <= retries.max_body as u64,
            is_repeatable: self.is_repeatable(),
            is_repeated: self.traits.earlier_attempts > 0,
        };
        let now = clock::now();
        let verdict = retry::judge(failure, case);
        let is_renewed = matches!(failure, Failure::UpstreamRefused { is_gone: true })
            && self.attempts.renewed < MOST_RENEWED;
        let used_up = self.account.attempts - self.attempts.renewed > retries.attempts;
        if verdict == Verdict::Stands
            || used_up && !is_renewed
            || self.attempts.due.is_some_and(|due| due <= now)
        {
            return None;
        }
        let next = match verdict {
            Verdict::SameEndpoint => Next::SameEndpoint,
            _ => self.elsewhere(downstream)?,
        };
        // Paid for last: what can't be made costs nothing. A claim that can't be paid for is given back.
        let may = is_renewed || downstream.worker.routing.borrow_mut().budget.take(now);
        may.then(|| Box::new(next))
    }

    /// Claims an endpoint that was not tried: one that is in, or else one that is ejected, which may be well again, as
    /// those that are in have just failed. If there is none, claims one of those that were tried.
    pub(super) fn elsewhere(&self, downstream: &Downstream) -> Option<Next> {
        let Attempts { mut tried, count, .. } = self.attempts;
        tried[count] = self.lease.id;
        let tried = &tried[..=count];
        let session = self.session.map(InSession::session);
        for (tried, insists) in [(tried, false), (tried, true), (&[], false)] {
            let mut routing = downstream.worker.routing.borrow_mut();
            let routing = &mut *routing;
            let selection = select::select_again(
                &self.routed.table,
                &mut routing.chooser,
                &mut routing.upstreams,
                &mut routing.series,
                Earlier {
                    route: self.routed.route,
                    arm: self.arm,
                    pool: self.pool,
                    session,
                    key: &self.key,
                    tried,
                    insists,
                },
            );
            if let Selection::Forward { arm, pool, lease, .. } = selection {
                let was_tried = tried.is_empty();
                return Some(Next::Endpoint { arm, pool, lease, was_tried });
            }
        }
        None
    }

    /// Moves to where the next attempt goes; answers the pause before it, if there is one.
    #[cold]
    pub(super) fn go_on(
        &mut self,
        downstream: &Downstream,
        failure: &Failure,
        next: Next,
    ) -> Option<Duration> {
        tracing::debug!(error = %failure, endpoint = %self.lease.address, "an attempt failed and is repeated");
        self.attempts.needs_fresh |= matches!(next, Next::SameEndpoint);
        if matches!(failure, Failure::UpstreamRefused { is_gone: true }) {
            self.attempts.renewed = (self.attempts.renewed + 1).min(MOST_RENEWED);
        }
        let mut pause = None;
        if let Next::Endpoint { arm, pool, lease, was_tried } = next {
            let Attempts { tried, count, .. } = &mut self.attempts;
            tried[*count] = self.lease.id;
            *count += 1;
            (self.arm, self.pool, self.lease) = (arm, pool, lease);
            self.account.assign(&self.routed.table, arm, pool);
            pause = was_tried
                .then(|| Duration::from_micros(downstream.worker.routing.borrow_mut().rng.u64(PAUSE)));
        }
        self.account.retried(failure.reason(), &self.lease);
        self.up.rewind(self.traits.told_attempts + self.account.attempts + 1);
        pause
    }
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
