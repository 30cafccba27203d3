//! Whether endpoints are well: active probes, and the ejection of those that misbehave.
//!
//! Invariant: nothing here runs on a worker or holds up a request. What is found out reaches the request path as bits of
//! an endpoint's word ([`crate::upstream::occupancy`]) and of its pool ([`crate::upstream::pool`]), and in no other way.

pub mod board;
pub mod memory;
pub mod probe;
pub mod report;
pub mod supervisor;
mod watched;
