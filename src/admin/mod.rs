//! The admin HTTP API: JSON over `control`, and what probes and scrapers read.
//!
//! Invariant: nothing here changes anything by itself. A change becomes a [`crate::control::command::Command`], and
//! what is wrong with a call becomes a status in one place, [`problem`]. Bodies, waits, connections and the time
//! that each may take are bounded: see [`server::Limits`].

pub mod access;
mod author;
mod bodies;
mod body;
mod call;
mod calls;
mod certificates;
mod changes;
mod condition;
mod difference;
mod drains;
mod explain;
mod files;
mod guard;
mod health;
mod health_metrics;
mod http2;
mod idempotency;
mod imagined;
mod limits;
pub mod metrics;
mod names;
mod openapi;
mod pins;
mod places;
mod pools;
pub mod probes;
pub mod problem;
mod query;
mod reading;
mod revisions;
pub mod router;
mod secure;
pub mod server;
pub mod socket;
pub mod streams;
mod strict;
pub mod tag;
mod upgrade;

pub use author::{CLIENT, MAX_REASON};
pub use body::TOML;
pub use query::MAX_WAIT;
pub use revisions::MAX_PAGE;
