//! Of the data plane, what makes the head that an upstream gets: the rest is sockets.

#[path = "../../src/proxy/client.rs"]
mod client;
#[path = "../../src/proxy/peer.rs"]
mod peer;
pub mod relay;
#[path = "../../src/proxy/request_head.rs"]
mod request_head;
