//! Pins: what makes sessions stay.

use std::{path::PathBuf, time::Duration};

/// How the sessions of a split stay with their pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The name of the cookie.
    pub cookie: Box<str>,
    /// How long a pin lasts from its issue; it is issued anew in its second half. `None` is a session cookie.
    pub ttl: Option<Duration>,
    /// What a session stays with.
    pub to: PinTo,
    /// The cookie's Path.
    pub path: Box<str>,
    /// The cookie's Domain; without it the cookie is for the host alone.
    pub domain: Option<Box<str>>,
    /// Whether the cookie is Secure; `None` is where the client came over TLS.
    pub secure: Option<bool>,
    /// Whether scripts can't read the cookie.
    pub http_only: bool,
    /// The cookie's SameSite.
    pub same_site: SameSite,
    /// Whether the cookie is signed. Without it anyone may choose a pool of the split by hand.
    pub signed: bool,
    /// The query parameter that may carry a pin; the field `X-Switchback-Pin` always may.
    pub query: Option<Box<str>>,
}

impl Sticky {
    /// What is meant where no more is said than the cookie's name.
    pub fn named(cookie: &str) -> Self {
        Self {
            cookie: cookie.into(),
            ttl: None,
            to: PinTo::Pool,
            path: "/".into(),
            domain: None,
            secure: None,
            http_only: true,
            same_site: SameSite::Lax,
            signed: true,
            query: None,
        }
    }
}

/// What a session stays with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinTo {
    /// A pool.
    Pool,
    /// An endpoint of a pool, as long as it is there.
    Endpoint,
}

/// A cookie's SameSite attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Sent on top-level navigations from other sites, too.
    Lax,
    /// Never sent from other sites.
    Strict,
    /// Always sent; such a cookie must be Secure.
    None,
}

/// What signs pins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pins {
    /// The file of keys: the first signs, all are accepted. Without one, a key is made at the start and lives as long
    /// as the process.
    pub key_file: Option<PathBuf>,
}
