//! HTTP/2 with endpoints (RFC 9113): each connection carries many requests, and each stream is, for the engine, a connection
//! of HTTP/1.1 that has one.
//!
//! The engine writes its canonical request, which [`request`] takes apart, and reads a response that [`response`] has put
//! together. So attempts are made, judged, repeated, limited, counted and logged in one place, whatever an endpoint speaks.
//!
//! Invariants: a stream that an endpoint has not processed, as it says by GOAWAY or REFUSED_STREAM, says so, and so may be sent
//! again whatever it asks for (RFC 9113 8.7). A connection takes no more streams from the moment on that it is to end, and ends
//! by a GOAWAY of ours when its last stream has.

mod carrier;
mod carriers;
mod heartbeat;
mod link;
mod request;
mod response;
mod stream;

pub use carrier::{Carrier, Terms};
pub use carriers::{Carriers, Dialing};
pub use stream::{Refusal, Stream};
