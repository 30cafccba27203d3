//! Why an attempt was repeated, and which time ran out: each is a label of a counter.

use super::counter::Counter;

macro_rules! causes {
    ($(#[$of:meta])* $name:ident { $($(#[$meta:meta])* $cause:ident $label:literal,)* }) => {
        $(#[$of])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$meta])* $cause,)*
        }

        impl $name {
            /// Every one, in the order in which they are counted.
            pub const ALL: &[Self] = &[$(Self::$cause,)*];

            /// Its name in metrics and in the access log.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$cause => $label,)*
                }
            }
        }
    };
}

causes! {
    /// Why an attempt was followed by another.
    RetryReason {
        /// No connection to the endpoint could be had.
        Connect "connect",
        /// TLS could not be spoken with the endpoint.
        Tls "tls",
        /// A connection that had served before was closed without a byte of an answer: its idle time had ended.
        Stale "stale",
        /// A new connection was closed without a byte of an answer.
        Closed "closed",
        /// Its connection of HTTP/2 had come to an end before the request was processed (GOAWAY).
        GoneAway "goaway",
        /// The endpoint did not want the request (REFUSED_STREAM).
        Refused "refused",
        /// The answer had one of the route's statuses.
        Status "status",
        /// The call of gRPC had one of the route's statuses.
        GrpcStatus "grpc_status",
        /// Its endpoint's drain was over.
        Drained "drained",
        /// The attempt took longer than the route's time for one.
        PerTry "per_try_timeout",
    }
}

causes! {
    /// Which time ran out.
    TimeoutKind {
        /// The pool's, for a connection attempt.
        Connect "connect",
        /// The route's, for one attempt.
        PerTry "per_try",
        /// The route's, from the request's end to the response's head.
        FirstByte "first_byte",
        /// The route's, for the silence of an upstream within its response.
        StreamIdle "stream_idle",
        /// The route's, for the whole request.
        Request "request",
        /// The listener's, for the silence of a client within its request body.
        ClientBody "client_body",
        /// The listener's, for a client that takes no byte of its response.
        ClientWrite "client_write",
    }
}

/// How many reasons of retries there are.
pub const RETRY_REASONS: usize = RetryReason::ALL.len();
/// How many kinds of timeouts there are.
pub const TIMEOUT_KINDS: usize = TimeoutKind::ALL.len();

/// Counts by reason.
pub type Retries = [Counter; RETRY_REASONS];
/// Counts by kind.
pub type Timeouts = [Counter; TIMEOUT_KINDS];
