//! The mirror of `sticky` and `[pins]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DurationText, Spanned};

/// How sessions stay with their pool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Sticky {
    /// The name of the cookie.
    #[schemars(required)]
    pub cookie: Option<Spanned<String>>,
    /// How long a pin lasts, or "off" (default): as long as the browser's session.
    pub ttl: Option<Spanned<DurationText>>,
    /// What a session stays with: "pool" (default) or "endpoint".
    pub to: Option<Spanned<PinTo>>,
    /// The cookie's Path, "/" by default.
    pub path: Option<Spanned<String>>,
    /// The cookie's Domain; without it the cookie is for the host alone.
    pub domain: Option<Spanned<String>>,
    /// Whether the cookie is Secure; by default where the client came over TLS.
    pub secure: Option<Spanned<bool>>,
    /// Whether scripts can't read the cookie; true by default.
    pub http_only: Option<Spanned<bool>>,
    /// The cookie's SameSite: "lax" (default), "strict" or "none".
    pub same_site: Option<Spanned<SameSite>>,
    /// Whether the cookie is signed, so that nobody can choose a pool by hand; true by default.
    pub signed: Option<Spanned<bool>>,
    /// A query parameter that may carry a pin, beside the field X-Switchback-Pin; none by default.
    pub query: Option<Spanned<String>>,
}

/// What a session stays with.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum PinTo {
    Pool,
    Endpoint,
}

/// A cookie's SameSite attribute.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum SameSite {
    Lax,
    Strict,
    None,
}

/// What signs pins.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Pins {
    /// A file of keys, one in a line: the first signs, all are accepted. It is made if it is not there.
    pub key_file: Option<Spanned<String>>,
}
