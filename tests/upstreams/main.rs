//! Upstreams that speak more than HTTP/1.1 in cleartext: TLS and HTTP/2, over real sockets, with rustls and the h2 crate as peers.
//!
//! Every test has endpoints, and where it needs one an authority, of its own.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the tests of listeners use the rest of it")]
#[path = "../tls/authority.rs"]
mod authority;
mod endpoint;
mod grpc;
mod http2;
#[allow(dead_code, reason = "the tests of clients use the rest of it")]
#[path = "../http2/peer.rs"]
mod peer;
mod server;
mod tls;
