//! Where an admin API is.

use std::{fmt, path::PathBuf};

/// Where an admin API is. Two that are equal lead to the same place; a token for one counts for the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`, in lower case.
    Tcp(String),
    /// The same, over TLS.
    Tls(String),
    /// The path of a socket.
    Unix(PathBuf),
}

impl Address {
    /// Where it is if nobody says anything else.
    pub fn usual() -> Self {
        Self::Tcp("127.0.0.1:9900".to_owned())
    }

    /// Reads `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err("unix: needs a path behind it".into())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let wrong = || {
            format!(
                "{text:?} is not the address of an admin API: write https://HOST:PORT, http://HOST:PORT or unix:PATH"
            )
        };
        let (rest, is_secure) = match text.strip_prefix("https://") {
            Some(rest) => (rest, true),
            None => (text.strip_prefix("http://").ok_or_else(wrong)?, false),
        };
        let authority: http::uri::Authority = rest.trim_end_matches('/').parse().map_err(|_| wrong())?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let host = format!("{host}:{port}");
        Ok(if is_secure { Self::Tls(host) } else { Self::Tcp(host) })
    }

    /// What the field `Host` says.
    pub fn host(&self) -> &str {
        match self {
            Self::Tcp(host) | Self::Tls(host) => host,
            Self::Unix(_) => "localhost",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => write!(f, "http://{host}"),
            Self::Tls(host) => write!(f, "https://{host}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_address_of_an_admin_api() {
        let tcp = |text: &str| Ok(Address::Tcp(text.into()));
        assert_eq!(Address::parse("http://127.0.0.1:9900"), tcp("127.0.0.1:9900"));
        assert_eq!(Address::parse("http://[::1]:9900/"), tcp("[::1]:9900"));
        assert_eq!(Address::parse("http://LocalHost"), tcp("localhost:80"));
        assert_eq!(Address::parse("https://Example.com"), Ok(Address::Tls("example.com:443".into())));
        assert_eq!(Address::parse("https://[::1]:9900/"), Ok(Address::Tls("[::1]:9900".into())));
        assert_eq!(Address::parse("unix:/run/s.sock"), Ok(Address::Unix("/run/s.sock".into())));
        assert_eq!(Address::parse("unix:///run/s.sock"), Ok(Address::Unix("/run/s.sock".into())));
        for bad in [
            "",
            "127.0.0.1:9900",
            "https://",
            "ftp://x:1",
            "http://",
            "unix:",
            "http://a b",
            "http://u@h:1",
            "http://h/x",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Address::parse(&Address::usual().to_string()), Ok(Address::usual()));
    }
}
