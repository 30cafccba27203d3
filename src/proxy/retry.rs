//! Whether a failed attempt may be repeated, and what an attempt's failure means.

use std::{io, time::Instant};

use crate::wire::{chunked::ChunkError, response::ResponseError};

/// Why an attempt failed. The name says whose fault it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection to the endpoint could be had. Nothing was sent.
    #[error("the upstream can't be connected to")]
    UpstreamUnreachable(io::Error),
    /// This process, or the machine, has no file descriptor left. The endpoint has no part in it.
    #[error("no file descriptor is left for an upstream connection")]
    OutOfDescriptors,
    /// The connection was closed or reset before a byte of the response came.
    #[error("the upstream closed the connection without an answer")]
    UpstreamSilent {
        /// Whether the connection had served a request before, so that its idle time may have ended just now.
        reused: bool,
        /// Whether any byte of the request was written.
        wrote: bool,
    },
    /// The response is not HTTP/1.1 that can be passed on.
    #[error("the upstream's response is malformed: {0}")]
    UpstreamMalformed(String),
    /// The response ended before its end.
    #[error("the upstream's response was cut short")]
    UpstreamTruncated,
    /// The route's time is over.
    #[error("the request took longer than the route allows")]
    TimedOut,
    /// The client has reset the connection, or closed it within its request.
    #[error("the client went away")]
    ClientGone,
    /// The client takes no bytes of its response.
    #[error("the client stopped reading its response")]
    ClientStalledReading,
    /// The client sends no bytes of its body.
    #[error("the client stopped sending its request body")]
    ClientStalledSending,
    /// The client's body is malformed.
    #[error("the request body is malformed: {0}")]
    ClientMalformed(#[from] ChunkError),
    /// The client's body is over the route's limit.
    #[error("the request body is larger than this route allows")]
    ClientBodyTooLarge,
}

impl From<ResponseError> for Failure {
    fn from(error: ResponseError) -> Self {
        Self::UpstreamMalformed(error.to_string())
    }
}

impl Failure {
    /// Why no connection could be had, from what the system said.
    pub(super) fn of_connecting(error: io::Error) -> Self {
        use rustix::io::Errno;
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE) => Self::OutOfDescriptors,
            _ => Self::UpstreamUnreachable(error),
        }
    }

    /// The status that tells the client, if it can still be told; `None` if nobody is there to be told.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::UpstreamUnreachable(_)
            | Self::UpstreamSilent { .. }
            | Self::UpstreamMalformed(_)
            | Self::UpstreamTruncated => Some(502),
            Self::OutOfDescriptors => Some(503),
            Self::TimedOut => Some(504),
            Self::ClientStalledSending => Some(408),
            Self::ClientMalformed(_) => Some(400),
            Self::ClientBodyTooLarge => Some(413),
            Self::ClientGone | Self::ClientStalledReading => None,
        }
    }

    /// Whether the endpoint is to blame.
    pub(super) fn is_upstream(&self) -> bool {
        matches!(self.status(), Some(502 | 504))
    }

    /// Whether the client's stream is in a state in which no further request can be found on it.
    pub(super) fn is_client(&self) -> bool {
        !self.is_upstream()
    }
}

/// Where the next attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nowhere: the failure stands.
    Stands,
    /// To the same endpoint, on a new connection: an idle one had come to its end, which says nothing about the
    /// endpoint.
    SameEndpoint,
    /// To another endpoint.
    OtherEndpoint,
}

/// Judges a failure (`docs/http.md`, "Retries"). `replayable` says that the whole request, as far as it was sent, is
/// still in hand; `idempotent` that sending it twice is as good as once (RFC 9110 9.2.2).
pub(super) fn judge(failure: &Failure, replayable: bool, idempotent: bool) -> Verdict {
    if !replayable {
        return Verdict::Stands;
    }
    match failure {
        // Provably not processed.
        Failure::UpstreamUnreachable(_) => Verdict::OtherEndpoint,
        Failure::UpstreamSilent { reused: true, wrote: false } => Verdict::SameEndpoint,
        // Perhaps processed: a reused connection that closes proves nothing for a POST.
        Failure::UpstreamSilent { reused: true, .. } if idempotent => Verdict::SameEndpoint,
        Failure::UpstreamSilent { reused: false, wrote } if idempotent || !wrote => Verdict::OtherEndpoint,
        _ => Verdict::Stands,
    }
}

/// The worker's retry budget: each request earns a share of a retry, and ten a second are always allowed (the form
/// and the figures of Linkerd's budgets).
#[derive(Debug)]
pub(super) struct Budget {
    /// In thousandths of a retry, as is the reserve.
    earned: u64,
    reserve: u64,
    refilled: Instant,
}

/// Retries a second that are allowed with no traffic at all.
const RESERVE: u64 = 10;
/// Earned retries that can be saved up: those of 500 requests at the usual share. More would let a long calm pay for
/// a storm.
const SAVED: u64 = 100;
/// One retry, in what the budget counts.
const RETRY: u64 = 1000;

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { earned: 0, reserve: RESERVE * RETRY, refilled: now }
    }

    /// A request has come; `share` is its route's budget.
    #[inline]
    pub(super) fn earn(&mut self, share: f64) {
        self.earned = (self.earned + (share * RETRY as f64) as u64).min(SAVED * RETRY);
    }

    /// Whether there is a retry in it.
    pub(super) fn has_one(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled).as_millis();
        let refill = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(RESERVE * RETRY / 1000);
        self.reserve = self.reserve.saturating_add(refill).min(RESERVE * RETRY);
        self.refilled = now;
        self.earned >= RETRY || self.reserve >= RETRY
    }

    /// Takes one retry out, from what was earned first.
    pub(super) fn spend(&mut self) {
        let purse = if self.earned >= RETRY { &mut self.earned } else { &mut self.reserve };
        *purse = purse.saturating_sub(RETRY);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_is_provably_unprocessed_or_idempotent_is_repeated() {
        let unreachable = || Failure::UpstreamUnreachable(io::ErrorKind::ConnectionRefused.into());
        let silent = |reused, wrote| Failure::UpstreamSilent { reused, wrote };
        for (failure, replayable, idempotent, verdict) in [
            (unreachable(), true, false, Verdict::OtherEndpoint),
            (unreachable(), false, true, Verdict::Stands),
            (silent(true, true), true, true, Verdict::SameEndpoint),
            (silent(true, true), true, false, Verdict::Stands),
            (silent(true, false), true, false, Verdict::SameEndpoint),
            (silent(false, true), true, true, Verdict::OtherEndpoint),
            (silent(false, true), true, false, Verdict::Stands),
            (silent(false, false), true, false, Verdict::OtherEndpoint),
            (silent(true, true), false, true, Verdict::Stands),
            (Failure::UpstreamTruncated, true, true, Verdict::Stands),
            (Failure::TimedOut, true, true, Verdict::Stands),
            (Failure::ClientGone, true, true, Verdict::Stands),
        ] {
            assert_eq!(
                judge(&failure, replayable, idempotent),
                verdict,
                "{failure:?} {replayable} {idempotent}"
            );
        }
    }

    #[test]
    fn retries_are_a_share_of_requests_above_a_reserve() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let spent = |budget: &mut Budget, at: Instant| {
            (0..1000).filter(|_| budget.has_one(at).then(|| budget.spend()).is_some()).count()
        };
        assert_eq!(spent(&mut budget, start), 10);
        (0..100).for_each(|_| budget.earn(0.2));
        assert_eq!(spent(&mut budget, start), 20);
        assert_eq!(spent(&mut budget, start + Duration::from_secs(5)), 10);
        (0..100_000).for_each(|_| budget.earn(0.2));
        assert_eq!(spent(&mut budget, start + Duration::from_secs(5)), 100);
    }
}
