//! HTTP/2 towards clients (RFC 9113): one task drives a connection, and every stream of it is one request of the same
//! engine that serves HTTP/1.1.
//!
//! A stream gives the engine its request as a canonical HTTP/1.1 message ([`request`]) and takes the engine's response
//! apart into frames ([`response`]). So there is one place where a request is judged, routed, repeated, limited, counted
//! and logged, whatever it came by. Frames, HPACK, flow control and the states of streams are the h2 crate's.
//!
//! Invariant: what a client can make us hold is bounded, by [`limits`], for each connection; and what could be counted as
//! the end of a message is one. A response that is broken off is a reset.

mod chunks;
mod client;
mod driver;
mod frames;
mod limits;
mod link;
mod meter;
mod request;
mod response;
mod stream;

pub(super) use self::{driver::serve, stream::Stream};

/// What a connection of HTTP/2 begins with (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether bytes are the beginning of a connection of HTTP/2, as far as they go.
#[cold]
pub(super) fn is_preface(bytes: &[u8]) -> bool {
    let known = bytes.len().min(PREFACE.len());
    bytes[..known] == PREFACE[..known]
}
