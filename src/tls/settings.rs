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
    /// What is asked of clients' certificates; `None` asks for none.
    pub clients: Option<ClientSettings>,
    /// A file with the keys of tickets, for those who share it; `None` has them made here.
    pub ticket_keys: Option<PathBuf>,
    /// What browsers are told to keep to.
    pub hsts: Option<Hsts>,
}

/// What is asked of clients' certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// A PEM file: the authorities whose certificates count.
    pub authorities: PathBuf,
    /// Whether a client without a certificate is refused.
    pub is_required: bool,
    /// The lists of what those authorities have revoked, in PEM or DER.
    pub revocations: Vec<PathBuf>,
}

/// The value of `Strict-Transport-Security` (RFC 6797 6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hsts(Box<str>);

impl Hsts {
    /// Has browsers use HTTPS alone for so long, for the names below the host, too, and from the first visit on.
    pub fn new(max_age: Duration, subdomains: bool, preload: bool) -> Self {
        let subdomains = if subdomains { "; includeSubDomains" } else { "" };
        let preload = if preload { "; preload" } else { "" };
        Self(format!("max-age={}{subdomains}{preload}", max_age.as_secs()).into())
    }

    /// The field's value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The files of a certificate and of its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairFiles {
    /// A PEM file: the certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// A PEM file: the private key, not encrypted.
    pub key: PathBuf,
    /// A DER file: what the authority's OCSP responder says of the certificate.
    pub ocsp: Option<PathBuf>,
}

impl PairFiles {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        [Some(&self.certificate), Some(&self.key), self.ocsp.as_ref()].into_iter().flatten()
    }
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246), and 1.3.
    V12,
    /// TLS 1.3 alone (RFC 8446).
    V13,
}
