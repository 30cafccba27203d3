//! The admin HTTP API: JSON over `control`, and what probes and scrapers read.
//!
//! Invariant: nothing here changes anything by itself. A change becomes a [`crate::control::command::Command`], and
//! what is wrong with a call becomes a status in one place, [`problem`]. Bodies, waits, connections and the time
//! that each may take are bounded: see [`server::Limits`].

mod author;
mod body;
mod call;
mod changes;
mod condition;
mod drains;
mod explain;
mod guard;
mod health;
mod health_metrics;
mod imagined;
mod limits;
pub mod metrics;
mod names;
mod pins;
mod places;
mod pools;
pub mod problem;
mod query;
mod reading;
pub mod router;
pub mod server;
pub mod socket;
mod upgrade;

pub use query::MAX_WAIT;
