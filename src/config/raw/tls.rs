//! TLS of a listener, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::DurationText;
use crate::config::spanned::Spanned;

/// TLS of a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ListenerTls {
    /// The certificates with their keys, at least one. A client is shown the one that has the name it asks for, or else
    /// the first.
    #[schemars(required)]
    pub certificates: Option<Spanned<Vec<Spanned<CertificatePair>>>>,
    /// The oldest version of TLS that is spoken: "1.2" (default) or "1.3".
    pub min_version: Option<Spanned<TlsVersion>>,
    /// How long a client may take from its connection to the end of the handshake.
    pub handshake_timeout: Option<Spanned<DurationText>>,
}

/// A certificate with its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CertificatePair {
    /// A PEM file: the certificate, then those that lead to its authority.
    #[schemars(required)]
    pub cert: Option<Spanned<String>>,
    /// A PEM file: the private key, not encrypted.
    #[schemars(required)]
    pub key: Option<Spanned<String>>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(in crate::config) enum TlsVersion {
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}
