//! TLS of a listener, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::DurationText;
use crate::config::spanned::{Entries, Spanned};

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
    /// A PEM file with the authorities whose certificates clients show. Without it none are asked for.
    pub client_ca: Option<Spanned<String>>,
    /// Whether a client without a certificate is refused: "required" (default) or "optional".
    pub client_auth: Option<Spanned<ClientAuth>>,
    /// Lists of the certificates that those authorities have revoked, in PEM or DER; none by default.
    #[serde(default)]
    pub crl: Vec<Spanned<String>>,
    /// A file with keys of session tickets, for a fleet that shares them: one to a line, 32 bytes or more in hex or
    /// base64. The first seals, all open. Without it, keys are made.
    pub ticket_keys: Option<Spanned<String>>,
    /// Has browsers come by HTTPS alone (RFC 6797). Without it they are told nothing.
    pub hsts: Option<Spanned<Hsts>>,
}

/// TLS of the admin API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AdminTls {
    /// The certificates with their keys, at least one. A client is shown the one that has the name it asks for, or else
    /// the first.
    #[schemars(required)]
    pub certificates: Option<Spanned<Vec<Spanned<CertificatePair>>>>,
    /// The oldest version of TLS that is spoken: "1.2" (default) or "1.3".
    pub min_version: Option<Spanned<TlsVersion>>,
    /// How long a client may take from its connection to the end of the handshake.
    pub handshake_timeout: Option<Spanned<DurationText>>,
    /// A PEM file with the authorities whose certificates clients show. Without it none are asked for.
    pub client_ca: Option<Spanned<String>>,
    /// Whether a client without a certificate is refused: "required" (default) or "optional".
    pub client_auth: Option<Spanned<ClientAuth>>,
    /// Lists of the certificates that those authorities have revoked, in PEM or DER; none by default.
    #[serde(default)]
    pub crl: Vec<Spanned<String>>,
    /// What callers may by their certificates: a subject such as "CN=ci,O=Example", or a name such as
    /// "URI:spiffe://example.com/ci", and the role viewer, operator or admin. Without it they may do everything.
    #[serde(default)]
    pub client_roles: Entries<String>,
}

/// Whether a client without a certificate is refused.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ClientAuth {
    Required,
    Optional,
}

/// What browsers are told of HTTPS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Hsts {
    /// How long a browser keeps to it, "8760h" (a year) by default; "0s" has it forget.
    pub max_age: Option<Spanned<DurationText>>,
    /// Whether it holds for all names below the host, too; false by default.
    pub include_subdomains: Option<Spanned<bool>>,
    /// Whether browsers may know it before the first visit; false by default.
    pub preload: Option<Spanned<bool>>,
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
    /// A DER file with the answer of the authority's OCSP responder, which clients are shown; none by default.
    pub ocsp: Option<Spanned<String>>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(in crate::config) enum TlsVersion {
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}
