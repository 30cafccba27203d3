//! The control plane: what may change while Switchback serves, and the one task that changes it.
//!
//! [`state::State::apply`] decides what a [`command::Command`] does, purely. The [`controller`] is the only writer:
//! it applies, compiles and publishes, in that order, one command after the other. Nothing here runs on a worker of
//! the data plane, and nothing here knows HTTP.

mod announcement;
pub mod change;
pub mod command;
pub mod controller;
mod course;
pub mod declaration;
pub mod difference;
pub mod drains;
pub mod drift;
pub mod events;
pub mod export;
pub mod file;
pub mod fixed;
pub mod handle;
pub mod history;
pub mod lifecycle;
pub mod merge;
#[cfg(test)]
mod merge_tests;
pub mod names;
pub mod own_addresses;
pub mod pin_keys;
mod pools;
pub mod refusal;
pub mod reload;
#[cfg(test)]
mod samples;
pub mod schedule;
mod situation;
pub mod snapshot;
mod start;
pub mod state;
pub mod store;
pub mod succession;
pub mod surroundings;
pub mod taken;
pub mod tally;
pub mod tokens;
mod turns;
mod weights;
