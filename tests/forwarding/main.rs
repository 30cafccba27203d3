//! Plain forwarding over real sockets: what goes in comes out, byte for byte, in order, in bounded memory.

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod connections;
mod descriptors;
mod edits;
mod observed;
mod retries;
mod streams;
mod tunnels;

/// A GET of a target.
fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")
}
