//! HTTP/2 towards clients, over real sockets, with real peers: curl, h2load, the h2 crate as a client, and a raw client for
//! what no library sends.

#[path = "../support/mod.rs"]
mod support;

#[path = "../tls/authority.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod authority;

mod bodies;
mod ending;
mod hostile;
mod peer;
mod programs;
mod raw;
mod requests;
mod resets;
mod rows;
