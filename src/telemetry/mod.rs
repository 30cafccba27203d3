//! What happened, in numbers and lines.
//!
//! The request path holds handles ([`traffic::Traffic`]) and adds to plain counters that no other thread writes;
//! it never looks up a label, takes a lock or formats. Whoever reads (metrics, status) adds the workers' up.

pub mod access_log;
pub mod causes;
pub mod counter;
pub mod endpoints;
pub mod histogram;
pub mod pins;
pub mod process;
pub mod prometheus;
pub mod registry;
pub mod traffic;
