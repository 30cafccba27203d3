//! Hosts, exact and with a wildcard.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::{
    pointer::Pointer, problems::Problems, settings::HostPattern, shape::shortened, spanned::Spanned,
};

/// The longest host name (RFC 1035, 2.3.4), as text without its last dot.
const MAX_HOST: usize = 253;
/// The longest label.
const MAX_LABEL: usize = 63;

/// The host of a route: `shop.example.com` or `*.example.com`.
pub(super) fn pattern(
    text: &Spanned<String>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<HostPattern> {
    let Some(rest) = text.strip_prefix("*.") else {
        return exact(text, at, problems).map(HostPattern::Exact);
    };
    match canonical(rest) {
        Ok(host) if host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok() => {
            report(text, at, ("addresses have no subdomains", "write the address itself"), problems)
        }
        Ok(host) => Some(HostPattern::Wildcard(format!(".{host}").into())),
        Err(fault) => report(text, at, fault, problems),
    }
}

/// A host without a wildcard, lower-cased.
pub(super) fn exact(
    text: &Spanned<String>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Box<str>> {
    canonical(text).map_or_else(|fault| report(text, at, fault, problems), |host| Some(host.into()))
}

/// Whether a text is a host and, where there is one, a port.
pub(super) fn is_host_with_port(text: &str) -> bool {
    let host = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || port.parse::<u16>().is_err() {
                return false;
            }
            host
        }
        _ => text,
    };
    canonical(host).is_ok()
}

type Fault = (&'static str, &'static str);

fn report<T>(
    text: &Spanned<String>,
    at: &Pointer<'_>,
    (fault, help): Fault,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let message = format!("\"{}\" is no host: {fault}", shortened(text));
    problems.error(&text.span, at, message, help.to_owned());
    None
}

/// The host as requests have it: lower case, without port. What it refuses, and how to write it.
fn canonical(text: &str) -> Result<String, Fault> {
    if let Some(inside) = text.strip_prefix('[') {
        let address = inside.strip_suffix(']').and_then(|inside| inside.parse::<Ipv6Addr>().ok());
        return address
            .map(|_| text.to_ascii_lowercase())
            .ok_or(("an IPv6 address without port stands in the brackets", "such as \"[::1]\""));
    }
    if text.is_empty() {
        return Err(("it is empty", "leave `hosts` out for every host"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(("an IPv6 address stands in brackets", "such as \"[::1]\""));
    }
    if text == "*" {
        return Err(("a wildcard needs a domain", "leave `hosts` out for every host"));
    }
    if !text.is_ascii() {
        return Err(("it is not ASCII", "write its A-label form (\"xn--...\"), as requests do"));
    }
    if text.contains(':') {
        return Err(("hosts match without the port", "leave the port out, and the scheme too"));
    }
    if text.contains('*') {
        return Err(("a wildcard is the whole first label", "such as \"*.example.com\""));
    }
    if text.ends_with('.') {
        return Err(("it ends with a dot", "write it without the last dot"));
    }
    if text.len() > MAX_HOST {
        return Err(("it is longer than 253 characters", "hosts of DNS are shorter"));
    }
    let sound = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() <= MAX_LABEL && label.bytes().all(allowed)
    };
    if !text.split('.').all(sound) {
        return Err((
            "a label of it is empty, too long, or holds a character that hosts don't",
            "labels of 1 to 63 letters, digits, - and _, with dots between",
        ));
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lower_cased_and_bad_ones_refused() {
        assert_eq!(canonical("Shop.Example.COM").unwrap(), "shop.example.com");
        assert_eq!(canonical("[::1]").unwrap(), "[::1]");
        assert_eq!(canonical("127.0.0.1").unwrap(), "127.0.0.1");
        assert_eq!(canonical("my_service").unwrap(), "my_service");
        let long = "a.".repeat(127) + "a";
        for bad in [
            "",
            "*",
            "a..b",
            ".a",
            "a.",
            "a:80",
            "::1",
            "[::1",
            "[::1]:80",
            "bücher.de",
            "a b",
            "a/b",
            "*a.b",
            "http://a",
            &long,
            &"a".repeat(64),
        ] {
            assert!(canonical(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_port_may_follow_where_it_is_wanted() {
        for good in ["a.b", "a.b:1", "[::1]", "[::1]:8080", "1.2.3.4:80"] {
            assert!(is_host_with_port(good), "{good}");
        }
        for bad in ["", ":80", "a:", "a:x", "a:65536", "a:+1", "a:1:2", "a\r\nb", "a/b", "u@h"] {
            assert!(!is_host_with_port(bad), "{bad:?}");
        }
    }
}
