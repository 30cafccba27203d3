//! The data plane: one worker per core, each a thread with its own runtime, accept loop, upstream connections and
//! counters.
//!
//! A request's way: [`listener`] accepts, [`connection`] reads the head (or [`http2`] takes connections apart into
//! streams, each of which is read as a connection with one request), [`handler`] decides (one synchronous act),
//! [`forward`] makes an attempt, [`exchange`] relays both bodies, [`retry`] judges what went wrong, [`attempt`] says
//! where to try again, and [`account`] counts what came of it. What Switchback answers itself is
//! written in one place, [`answer`].
//!
//! Invariant: no worker ever waits for another, or for the control plane.

mod account;
mod admission;
mod answer;
mod attempt;
mod awaiting;
mod budget;
mod buffers;
mod client;
mod clock;
mod connection;
mod deadline;
mod downstream;
mod exchange;
mod forward;
mod handler;
mod handshake;
mod held;
mod http2;
mod inherited;
mod linger;
mod listener;
mod listeners;
mod outbox;
mod peer;
mod pin;
mod plane;
mod rate;
mod record;
mod redirect;
mod replay;
mod request_head;
mod request_id;
mod requests;
mod response_head;
mod retry;
mod routed;
mod stream;
mod tunnel;
mod worker;

pub use inherited::{Inherited, Offer};
pub use listeners::{Listeners, Prepared};
pub use plane::{Allowance, Proxy, ProxyError, workers};
pub use worker::Phase;
