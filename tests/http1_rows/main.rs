//! The table of bad and odd inputs, row by row: each test carries its row's number and asserts both sides, what the
//! client got and what the upstream received. A refused request leaves no byte there; a forwarded one is canonical.

#[path = "../support/mod.rs"]
mod support;

mod row;

mod bodies;
mod explained;
mod fields;
mod hosts;
mod limits;
mod responses;
mod targets;
mod timeouts;
mod upgrades;
