//! Which protocol is spoken with the endpoints of a pool.

/// Which protocol is spoken with the endpoints of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: over TLS by ALPN, in cleartext with prior knowledge (RFC 9113 3.2, 3.3).
    Http2,
    /// HTTP/2 with an endpoint that agrees to it in the handshake of TLS, HTTP/1.1 with another one.
    Agreed,
}

impl Protocol {
    /// Its name in the file and in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
            Self::Agreed => "auto",
        }
    }
}
