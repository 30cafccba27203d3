//! Whether a failed attempt may be repeated, and what an attempt's failure means.

use std::io;

use crate::{
    model::grpc::GrpcStatus,
    telemetry::causes::{RetryReason, TimeoutKind},
    tls::Unfit,
    upstream::{drain::Kind, gate::Limit, way::NoConnection},
    wire::{chunked::ChunkError, response::ResponseError},
};

/// Why an attempt failed. The name says whose fault it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection to the endpoint could be had. Nothing was sent.
    #[error("the upstream can't be connected to")]
    UpstreamUnreachable(io::Error),
    /// The endpoint speaks something else than HTTP/2. Nothing was sent.
    #[error("the upstream does not speak HTTP/2")]
    UpstreamNotHttp2,
    /// The endpoint has said that it has not processed the request, and will not.
    #[error("the upstream refused the request unprocessed")]
    UpstreamRefused {
        /// Its connection had come to its end, as the endpoint said by GOAWAY: another one may serve.
        is_gone: bool,
    },
    /// TLS could not be spoken with the endpoint. Nothing was sent.
    #[error("no TLS can be spoken with the upstream: {0}")]
    UpstreamUnfit(Unfit),
    /// The same, to the end of the wait that the pool allows.
    #[error("unavailable_wait: no endpoint took a connection in time")]
    WaitedInVain,
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
    /// The endpoint is drained, and this was not over at the drain's deadline.
    #[error("the endpoint was drained, and this took longer than its drain allows")]
    Drained {
        /// What is cut.
        kind: Kind,
        /// Whether any byte of the request was written.
        wrote: bool,
    },
    /// The answer has one of the statuses after which its route tries again.
    #[error("the upstream answered {0}")]
    UpstreamStatus(u16),
    /// The call of gRPC was answered with nothing but one of the statuses after which its route tries again.
    #[error("the upstream answered {}", .0.name())]
    UpstreamGrpc(GrpcStatus),
    /// The upstream has used up one of its times.
    #[error("{}", told(*.0))]
    TimedOut(TimeoutKind),
    /// A time is over that the endpoint has not used up: its client was slow, an earlier attempt was, or the request
    /// waited at a cap of ours; or a response that flowed took longer than its route allows.
    #[error("{}", told(*.0))]
    TimeIsOver(TimeoutKind),
    /// The pool is at a limit. Nothing was sent.
    #[error("too many requests for this pool: {limit} is reached", limit = .0.name())]
    Shed(Limit),
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
    /// There is something in the request's target or fields that HTTP/2, which the endpoint speaks, has no form for.
    #[error("this request can't be sent in HTTP/2")]
    ClientUnsayable,
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
    pub(super) fn of_connection(error: NoConnection) -> Self {
        use rustix::io::Errno;
        let error = match error {
            NoConnection::Unreachable(error) => error,
            NoConnection::NotHttp2 => return Self::UpstreamNotHttp2,
            NoConnection::Unfit(unfit) => return Self::UpstreamUnfit(unfit),
        };
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE) => Self::OutOfDescriptors,
            _ => Self::UpstreamUnreachable(error),
        }
    }

    /// What it means that a time is over.
    pub(super) fn of_time(kind: TimeoutKind, used_up_by_endpoint: bool) -> Self {
        if used_up_by_endpoint { Self::TimedOut(kind) } else { Self::TimeIsOver(kind) }
    }

    /// The status that tells the client, if it can still be told; `None` if nobody is there to be told.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::UpstreamUnreachable(_)
            | Self::UpstreamNotHttp2
            | Self::UpstreamUnfit(_)
            | Self::UpstreamRefused { .. }
            | Self::UpstreamSilent { .. }
            | Self::UpstreamMalformed(_)
            | Self::UpstreamTruncated => Some(502),
            Self::WaitedInVain | Self::OutOfDescriptors | Self::Drained { .. } | Self::Shed(_) => Some(503),
            Self::UpstreamStatus(status) => Some(*status),
            Self::UpstreamGrpc(_) => Some(502),
            Self::TimedOut(_) | Self::TimeIsOver(_) => Some(504),
            Self::ClientStalledSending => Some(408),
            Self::ClientMalformed(_) | Self::ClientUnsayable => Some(400),
            Self::ClientBodyTooLarge => Some(413),
            Self::ClientGone | Self::ClientStalledReading => None,
        }
    }

    /// Whether the endpoint is to blame.
    pub(super) fn is_upstream(&self) -> bool {
        match self {
            Self::UpstreamStatus(_) | Self::UpstreamGrpc(_) => true,
            Self::TimeIsOver(_) => false,
            _ => matches!(self.status(), Some(502 | 504)),
        }
    }

    /// Whether the endpoint is the worse for it. A connection that ends while it is idle says nothing about it.
    pub(super) fn counts_against_endpoint(&self) -> bool {
        match self {
            Self::UpstreamUnreachable(_)
            | Self::UpstreamNotHttp2
            | Self::UpstreamUnfit(_)
            | Self::UpstreamMalformed(_)
            | Self::UpstreamTruncated => true,
            // That a connection has come to its end says nothing about it.
            Self::UpstreamRefused { is_gone } => !is_gone,
            Self::UpstreamSilent { reused, .. } => !reused,
            Self::TimedOut(TimeoutKind::ClientBody | TimeoutKind::ClientWrite) => false,
            Self::TimedOut(_) => true,
            // What its status says of the endpoint is counted as an answer.
            Self::UpstreamStatus(_) | Self::UpstreamGrpc(_) => false,
            // Each refused connection was counted when it was refused.
            Self::WaitedInVain => false,
            // Limits of ours, and times that it had too little of.
            Self::Drained { .. } | Self::OutOfDescriptors | Self::Shed(_) | Self::TimeIsOver(_) => false,
            Self::ClientGone
            | Self::ClientStalledReading
            | Self::ClientStalledSending
            | Self::ClientMalformed(_)
            | Self::ClientUnsayable
            | Self::ClientBodyTooLarge => false,
        }
    }

    /// Whether the client is to blame: then no further request can be found on its stream. After any other failure its
    /// connection goes on, also when descriptors are used up: it has one, and would need another to come back.
    pub(super) fn is_client(&self) -> bool {
        match self {
            Self::ClientGone
            | Self::ClientStalledReading
            | Self::ClientStalledSending
            | Self::ClientMalformed(_)
            | Self::ClientUnsayable
            | Self::ClientBodyTooLarge => true,
            Self::UpstreamUnreachable(_)
            | Self::UpstreamNotHttp2
            | Self::UpstreamRefused { .. }
            | Self::UpstreamUnfit(_)
            | Self::WaitedInVain
            | Self::UpstreamSilent { .. }
            | Self::UpstreamMalformed(_)
            | Self::UpstreamTruncated
            | Self::UpstreamStatus(_)
            | Self::UpstreamGrpc(_)
            | Self::TimedOut(_)
            | Self::Drained { .. }
            | Self::OutOfDescriptors
            | Self::Shed(_)
            | Self::TimeIsOver(_) => false,
        }
    }

    /// The time that ran out, if it was one.
    pub(super) fn timeout(&self) -> Option<TimeoutKind> {
        match self {
            Self::TimedOut(kind) | Self::TimeIsOver(kind) => Some(*kind),
            Self::ClientStalledReading => Some(TimeoutKind::ClientWrite),
            Self::ClientStalledSending => Some(TimeoutKind::ClientBody),
            _ => None,
        }
    }

    /// Why another attempt is made after it.
    pub(super) fn reason(&self) -> RetryReason {
        match self {
            Self::UpstreamUnreachable(_) | Self::UpstreamNotHttp2 | Self::TimedOut(TimeoutKind::Connect) => {
                RetryReason::Connect
            }
            Self::UpstreamRefused { is_gone: true } => RetryReason::GoneAway,
            Self::UpstreamRefused { is_gone: false } => RetryReason::Refused,
            Self::UpstreamUnfit(_) => RetryReason::Tls,
            Self::UpstreamSilent { reused: true, .. } => RetryReason::Stale,
            Self::UpstreamStatus(_) => RetryReason::Status,
            Self::UpstreamGrpc(_) => RetryReason::GrpcStatus,
            Self::Drained { .. } => RetryReason::Drained,
            Self::TimedOut(_) => RetryReason::PerTry,
            _ => RetryReason::Closed,
        }
    }
}

/// What a client is told of a time that ran out: the key that sets it, and what it was for.
fn told(kind: TimeoutKind) -> &'static str {
    match kind {
        TimeoutKind::Connect => "connect_timeout: the upstream did not take a connection in time",
        TimeoutKind::PerTry => "per_try_timeout: the upstream did not begin its answer in time",
        TimeoutKind::FirstByte => "first_byte_timeout: the upstream did not begin its answer in time",
        TimeoutKind::StreamIdle => "stream_idle_timeout: the upstream fell silent within its answer",
        TimeoutKind::Request => "timeout: the request took longer than the route allows",
        TimeoutKind::ClientBody => "body_timeout: the client stopped sending its request body",
        TimeoutKind::ClientWrite => "write_timeout: the client stopped reading its response",
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

/// What a judgement needs to know of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// All that was sent of the request is still in hand, and nothing of an answer has come.
    pub(super) in_hand: bool,
    /// Its body is short enough to be sent twice.
    pub(super) is_short: bool,
    /// It may be sent again though it may have been processed: sending it twice is as good as once (RFC 9110 9.2.2), or
    /// its route says so.
    pub(super) is_repeatable: bool,
    /// It is itself another attempt of a Switchback in front, which has its own plans with it.
    pub(super) is_repeated: bool,
}

/// Judges a failure (`docs/retries.md`).
pub(super) fn judge(failure: &Failure, case: Case) -> Verdict {
    if !case.in_hand {
        return Verdict::Stands;
    }
    let again = case.is_short && case.is_repeatable;
    match failure {
        // Provably not processed: nothing was sent.
        Failure::UpstreamUnreachable(_)
        | Failure::UpstreamNotHttp2
        | Failure::UpstreamUnfit(_)
        | Failure::TimedOut(TimeoutKind::Connect) => Verdict::OtherEndpoint,
        // The endpoint says so itself.
        Failure::UpstreamRefused { is_gone: true } => Verdict::SameEndpoint,
        Failure::UpstreamRefused { is_gone: false } => Verdict::OtherEndpoint,
        Failure::Drained { wrote, .. } if again || !wrote => Verdict::OtherEndpoint,
        Failure::UpstreamSilent { reused: true, wrote } if again || !wrote => Verdict::SameEndpoint,
        // The route says by the status that a call may be sent again.
        Failure::UpstreamGrpc(_) if case.is_short && !case.is_repeated => Verdict::OtherEndpoint,
        // Perhaps processed: a connection that closes with no answer proves nothing.
        Failure::UpstreamSilent { reused: false, wrote } if again || !wrote => Verdict::OtherEndpoint,
        Failure::UpstreamStatus(_) | Failure::TimedOut(TimeoutKind::PerTry) if again && !case.is_repeated => {
            Verdict::OtherEndpoint
        }
        _ => Verdict::Stands,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Case = Case { in_hand: true, is_short: true, is_repeatable: true, is_repeated: false };
    const POST: Case = Case { is_repeatable: false, ..GET };
    const LONG: Case = Case { is_short: false, ..GET };
    const GONE: Case = Case { in_hand: false, ..GET };
    const REPEATED: Case = Case { is_repeated: true, ..GET };

    #[test]
    fn one_side_at_most_is_to_blame_and_neither_for_what_is_our_own() {
        for (failure, status, is_upstream, is_client) in [
            (Failure::UpstreamTruncated, Some(502), true, false),
            (Failure::TimedOut(TimeoutKind::FirstByte), Some(504), true, false),
            (Failure::OutOfDescriptors, Some(503), false, false),
            (Failure::Shed(Limit::MaxPending), Some(503), false, false),
            (Failure::Drained { kind: Kind::Request, wrote: true }, Some(503), false, false),
            (Failure::ClientBodyTooLarge, Some(413), false, true),
            (Failure::ClientGone, None, false, true),
        ] {
            let found = (failure.status(), failure.is_upstream(), failure.is_client());
            assert_eq!(found, (status, is_upstream, is_client), "{failure:?}");
            assert!(is_upstream || !failure.counts_against_endpoint(), "{failure:?}");
        }
    }

    #[test]
    fn only_what_is_provably_unprocessed_or_repeatable_is_repeated() {
        use Verdict::{OtherEndpoint, SameEndpoint, Stands};
        let unreachable = || Failure::UpstreamUnreachable(io::ErrorKind::ConnectionRefused.into());
        let silent = |reused, wrote| Failure::UpstreamSilent { reused, wrote };
        let late = Failure::TimedOut;
        let drained = |wrote| Failure::Drained { kind: Kind::Request, wrote };
        for (failure, case, verdict) in [
            (unreachable(), GET, OtherEndpoint),
            (unreachable(), POST, OtherEndpoint),
            (unreachable(), LONG, OtherEndpoint),
            (unreachable(), REPEATED, OtherEndpoint),
            (unreachable(), GONE, Stands),
            (late(TimeoutKind::Connect), POST, OtherEndpoint),
            (Failure::UpstreamUnfit(Unfit::NoProtocol), POST, OtherEndpoint),
            (Failure::UpstreamUnfit(Unfit::Gone), GONE, Stands),
            (Failure::UpstreamNotHttp2, POST, OtherEndpoint),
            (Failure::UpstreamGrpc(GrpcStatus::UNKNOWN), POST, OtherEndpoint),
            (Failure::UpstreamGrpc(GrpcStatus::UNKNOWN), LONG, Stands),
            (Failure::UpstreamGrpc(GrpcStatus::UNKNOWN), REPEATED, Stands),
            (Failure::UpstreamRefused { is_gone: true }, LONG, SameEndpoint),
            (Failure::UpstreamRefused { is_gone: true }, GONE, Stands),
            (Failure::UpstreamRefused { is_gone: false }, POST, OtherEndpoint),
            (silent(true, true), GET, SameEndpoint),
            (silent(true, true), REPEATED, SameEndpoint),
            (silent(true, true), POST, Stands),
            (silent(true, true), LONG, Stands),
            (silent(true, true), GONE, Stands),
            (silent(true, false), POST, SameEndpoint),
            (silent(false, true), GET, OtherEndpoint),
            (silent(false, true), POST, Stands),
            (silent(false, false), POST, OtherEndpoint),
            (Failure::UpstreamStatus(503), GET, OtherEndpoint),
            (Failure::UpstreamStatus(503), POST, Stands),
            (Failure::UpstreamStatus(503), REPEATED, Stands),
            (Failure::UpstreamStatus(503), LONG, Stands),
            (late(TimeoutKind::PerTry), GET, OtherEndpoint),
            (late(TimeoutKind::PerTry), POST, Stands),
            (late(TimeoutKind::PerTry), REPEATED, Stands),
            (late(TimeoutKind::FirstByte), GET, Stands),
            (late(TimeoutKind::Request), GET, Stands),
            (late(TimeoutKind::StreamIdle), GET, Stands),
            (drained(true), GET, OtherEndpoint),
            (drained(true), POST, Stands),
            (drained(false), POST, OtherEndpoint),
            (drained(true), GONE, Stands),
            (Failure::UpstreamTruncated, GET, Stands),
            (Failure::UpstreamMalformed(String::new()), GET, Stands),
            (Failure::Shed(Limit::PendingTimeout), GET, Stands),
            (Failure::TimeIsOver(TimeoutKind::Request), GET, Stands),
            (Failure::ClientGone, GET, Stands),
        ] {
            assert_eq!(judge(&failure, case), verdict, "{failure:?} {case:?}");
        }
    }

    #[test]
    fn only_what_the_endpoint_had_a_part_in_is_held_against_it() {
        for its in [
            Failure::TimedOut(TimeoutKind::Request),
            Failure::TimedOut(TimeoutKind::PerTry),
            Failure::UpstreamTruncated,
            Failure::UpstreamSilent { reused: false, wrote: true },
        ] {
            assert!(its.counts_against_endpoint(), "{its:?}");
        }
        for not_its in [
            Failure::TimeIsOver(TimeoutKind::Request),
            Failure::TimeIsOver(TimeoutKind::StreamIdle),
            Failure::Shed(Limit::MaxPending),
            Failure::OutOfDescriptors,
        ] {
            assert!(!not_its.is_upstream() && !not_its.is_client(), "{not_its:?}");
            assert!(!not_its.counts_against_endpoint(), "{not_its:?}");
        }
    }
}
