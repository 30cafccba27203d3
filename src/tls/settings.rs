//! What a listener's file says of TLS, validated.

use std::{path::PathBuf, time::Duration};

/// A listener's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The certificates with their keys, at least one. The first is shown where no other fits.
    pub certificates: Vec<PairFiles>,
    /// The oldest version of TLS that is spoken.
    pub min_version: MinVersion,
    /// How long a client may take from its connection to the end of the handshake.
    pub handshake_timeout: Duration,
    /// Whether HTTP/2 is spoken with who asks for it.
    pub http2: bool,
}

/// The files of a certificate and of its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairFiles {
    /// A PEM file: the certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// A PEM file: the private key, not encrypted.
    pub key: PathBuf,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246), and 1.3.
    V12,
    /// TLS 1.3 alone (RFC 8446).
    V13,
}
