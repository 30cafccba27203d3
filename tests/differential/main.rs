//! Others as judges: whatever our codec accepts, httparse and hyper read in the same way, and whatever is forwarded,
//! AWS's desync guardian calls compliant. Inputs are generated from suspicious parts and then mutated.
//!
//! A difference that is known stands where it is allowed for, with its reason. There are none in which both sides
//! accept and read differently; that is what these tests are for.

#[path = "../support/mod.rs"]
mod support;

mod against_httparse;
mod against_hyper;
mod forwarded;
mod generate;

/// How many inputs a test looks at.
fn rounds(short: u32) -> u32 {
    if support::is_long() { short * 100 } else { short }
}
