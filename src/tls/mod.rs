//! TLS towards clients: certificates, which of them a client is shown, and a connection's records.
//!
//! Invariant: a listener's certificates are one immutable set, replaced whole. A handshake sees one set, and the connection
//! that came of it keeps it; a bad file replaces nothing. Nothing here shows a private key, nor writes one anywhere.

mod book;
mod front;
mod names;
mod pair;
mod settings;
mod stream;

pub use book::{Book, Fault, Fronts, Prepared};
pub(crate) use front::provider;
pub use front::{Certificates, Front, Standing};
pub use pair::{Facts, Pair, PairError, Part};
pub use settings::{MinVersion, PairFiles, Settings};
pub use stream::{Handshake, Ill, Stream};
