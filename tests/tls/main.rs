//! TLS towards clients and callers of the admin API, over real sockets, with real peers: curl, openssl, and rustls as a client.
//!
//! Every test has an authority and certificates of its own.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod authority;
mod certificates;
mod clients;
mod edge;
mod hostile;
mod peer;
mod reload;
mod staple;
mod tickets;
mod traffic;
