//! How the names of endpoints are resolved.

use std::{net::SocketAddr, time::Duration};

use crate::config::defaults;

/// How the names of endpoints are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The name servers; none for those of the system.
    pub servers: Vec<SocketAddr>,
    /// Which addresses of a name are used.
    pub family: DnsFamily,
    /// The shortest time after which a name is resolved again, whatever its time to live.
    pub min_ttl: Duration,
    /// The longest time after which a name is resolved again, whatever its time to live.
    pub max_ttl: Duration,
    /// How long one question may take, with all of its tries.
    pub timeout: Duration,
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFamily {
    /// All.
    Any,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            family: defaults::DNS_FAMILY,
            min_ttl: defaults::DNS_MIN_TTL,
            max_ttl: defaults::DNS_MAX_TTL,
            timeout: defaults::DNS_TIMEOUT,
        }
    }
}
