//! Traffic moves and no request notices: none fails, is cut, repeated or answered with another's answer.
//!
//! The CI form is short; `SWITCHBACK_LONG=1` runs the long one (1,000 changes over 30 s; over TLS with HTTP/2 as many, with 200
//! certificates and 20 replacements of the binary).

#[path = "../support/mod.rs"]
mod support;

#[path = "../tls/authority.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod authority;
#[path = "../http2/peer.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod http2_peer;
#[path = "../tls/peer.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod tls_peer;

mod counted;
mod edge;
mod stopping;
mod wrk;
