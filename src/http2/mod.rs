//! What both sides of HTTP/2 share: bodies on their way between its frames and the messages of HTTP/1.1 that the engine reads
//! and writes, and what waits for a socket.
//!
//! Frames, HPACK, windows and the states of streams are the h2 crate's. Invariant: bytes are taken only as far as the windows
//! of the other side let them go out, and the other side is let on only as far as its bytes were passed on.

mod chunks;
mod gathered;
mod inbound;
mod outbound;

pub use gathered::Gathered;
pub use inbound::{Framing, Inbound, grpc_status};
pub use outbound::Outbound;
