//! TLS towards clients and endpoints: certificates, which of them a client is shown, those that clients show, whom an endpoint
//! has to prove to be, and a connection's records.
//!
//! Invariant: a listener's certificates are one immutable set, replaced whole. A handshake sees one set, and the connection
//! that came of it keeps it; a bad file replaces nothing. Nothing here shows a private key, nor writes one anywhere.

mod back;
mod book;
mod certificates;
mod clients;
mod endpoint;
mod files;
mod front;
mod identity;
mod names;
mod pair;
mod records;
mod roots;
mod settings;
mod staple;
mod stream;
mod tickets;
mod unverified;

pub use back::{Back, BackError, BackPart, Backs, follow as follow_backs, is_name};
pub use book::{Book, Fault, Fronts, Prepared};
pub use certificates::Certificates;
pub use clients::{ClientPart, Clients, List};
pub use endpoint::{EndpointStream, Unfit};
pub(crate) use files::pem_fault;
pub(crate) use front::provider;
pub use front::{Front, Standing};
pub use identity::Identity;
pub use pair::{Facts, Pair, PairError, Part};
pub(crate) use roots::of_the_system as roots_of_the_system;
pub use settings::{BackSettings, ClientSettings, Hsts, MinVersion, PairFiles, Settings};
pub use staple::Staple;
pub use stream::{Handshake, Ill, Session, Stream};
pub use tickets::Secret;
