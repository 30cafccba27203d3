//! Traffic moves and no request notices: none fails, is cut, repeated or answered with another's answer.
//!
//! The CI form is short; `SWITCHBACK_LONG=1` runs the long one (1,000 changes over 30 s).

#[path = "../support/mod.rs"]
mod support;

mod counted;
mod stopping;
mod wrk;
