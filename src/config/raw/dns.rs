//! The mirror of `[dns]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DurationText, Spanned};

/// How names of endpoints are resolved.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Dns {
    /// Addresses of name servers, such as "10.0.0.2" or "127.0.0.1:5353"; those of /etc/resolv.conf by default.
    #[serde(default)]
    pub servers: Vec<Spanned<String>>,
    /// Which addresses of a name are used: "any" (default), "ipv4" or "ipv6".
    pub family: Option<Spanned<DnsFamily>>,
    /// The shortest time after which a name is resolved again.
    pub min_ttl: Option<Spanned<DurationText>>,
    /// The longest time after which a name is resolved again.
    pub max_ttl: Option<Spanned<DurationText>>,
    /// How long one question may take, with all of its tries.
    pub timeout: Option<Spanned<DurationText>>,
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DnsFamily {
    Any,
    Ipv4,
    Ipv6,
}
