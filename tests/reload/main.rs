//! The configuration file, live: an edit is in force within a second however it is written, a wrong one changes nothing, and no
//! request notices either.
//!
//! The CI form reloads 100 times; `SWITCHBACK_LONG=1` does so 1,000 times.

#[path = "../support/mod.rs"]
mod support;

mod api;
mod edits;
mod elsewhere;
mod listeners;
mod load;
mod references;
