//! The HTTP/1.1 codec (RFC 9112): pure, no I/O, no clock, no allocation in the steady state.
//!
//! It reads heads as ranges into the caller's buffer, says which bytes of a buffer are a message's body, and writes
//! canonical heads. It is strict, and its strictness is its point: whatever it accepts has one reading only. Where
//! it is stricter than the RFC, `docs/http.md` says so.
//!
//! Invariant: nothing of a message is passed on before it was validated. What was not understood is refused, never
//! repaired, and what is passed on is written anew except for header values and body bytes.

pub mod body;
pub mod chunked;
pub mod emit;
pub mod fields;
pub mod request;
pub mod response;
mod scan;
pub mod target;
