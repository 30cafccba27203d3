//! The host and port of a request, from its `Host` field or its target's authority.
//!
//! Stricter than the RFC where two readers could disagree: no user information, no escapes, no comma, no empty
//! labels. What passes compares equal, byte by byte, exactly if it means the same host.

use std::{borrow::Cow, fmt, net::Ipv6Addr};

/// The longest host, in bytes: that of a DNS name with its last dot, and more than any address.
pub const MAX_LEN: usize = 254;

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// Lower case, without the last dot of a fully qualified name; an IPv6 address in its canonical form (RFC 5952),
    /// in brackets. Borrowed if it came so.
    pub host: Cow<'a, str>,
    /// The port, if one was given.
    pub port: Option<u16>,
}

/// Why a host is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing stands before the port.
    #[error("the host is empty")]
    Empty,
    /// Longer than [`MAX_LEN`].
    #[error("the host is longer than {MAX_LEN} bytes")]
    TooLong,
    /// User information, a path, a comma, white space, an escape, or a byte that no host may hold.
    #[error("the host holds a character that none may hold")]
    Character,
    /// Two dots in a row, or one at the beginning.
    #[error("the host has an empty label")]
    EmptyLabel,
    /// Brackets that hold no IPv6 address.
    #[error("brackets in a host hold an IPv6 address")]
    Address,
    /// A port that is not a number of 1 to 65535.
    #[error("a port is a number of 1 to 65535")]
    Port,
}

/// Reads `host`, `host:port` or `host:` (RFC 3986, 3.2.2 and 3.2.3; RFC 9110, 7.2).
pub fn parse(text: &[u8]) -> Result<HostPort<'_>, HostError> {
    if text.first() == Some(&b'[') {
        let end = memchr::memchr(b']', text).ok_or(HostError::Address)?;
        let port = match text[end + 1..].split_first() {
            None => None,
            Some((b':', digits)) => port(digits)?,
            Some(_) => return Err(HostError::Character),
        };
        return Ok(HostPort { host: address(&text[..=end])?, port });
    }
    let (host, port) = match memchr::memchr(b':', text) {
        Some(colon) => (&text[..colon], port(&text[colon + 1..])?),
        None => (text, None),
    };
    Ok(HostPort { host: name(host)?, port })
}

/// A registered name or an IPv4 address.
fn name(text: &[u8]) -> Result<Cow<'_, str>, HostError> {
    if text.len() > MAX_LEN {
        return Err(HostError::TooLong);
    }
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    let mut upper = false;
    let mut before = b'.';
    for &byte in text {
        if !IN_NAMES[usize::from(byte)] {
            return Err(HostError::Character);
        }
        if byte == b'.' && before == b'.' {
            return Err(HostError::EmptyLabel);
        }
        upper |= byte.is_ascii_uppercase();
        before = byte;
    }
    if before == b'.' {
        return Err(HostError::EmptyLabel);
    }
    let text = str::from_utf8(text).expect("only ASCII passed the loop above");
    Ok(if upper { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) })
}

/// `reg-name` of RFC 3986 without its escapes (they give one host two spellings) and its comma (two hosts, to some).
const IN_NAMES: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 128_usize {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b';'
                    | b'='
            );
        byte += 1;
    }
    allowed
};

/// An IPv6 address in its brackets.
fn address(text: &[u8]) -> Result<Cow<'_, str>, HostError> {
    let text = str::from_utf8(text).map_err(|_| HostError::Address)?;
    let address: Ipv6Addr = text[1..text.len() - 1].parse().map_err(|_| HostError::Address)?;
    let mut left = Expected(text);
    let canonical = fmt::write(&mut left, format_args!("[{address}]")).is_ok() && left.0.is_empty();
    Ok(if canonical { Cow::Borrowed(text) } else { Cow::Owned(format!("[{address}]")) })
}

/// Takes what is written only as long as it is this text: a comparison without an allocation.
struct Expected<'a>(&'a str);

impl fmt::Write for Expected<'_> {
    fn write_str(&mut self, written: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(written).ok_or(fmt::Error)?;
        Ok(())
    }
}

fn port(digits: &[u8]) -> Result<Option<u16>, HostError> {
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HostError::Port);
    }
    let number = digits.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    match u16::try_from(number) {
        Ok(0) | Err(_) => Err(HostError::Port),
        Ok(port) => Ok(Some(port)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_gets_its_one_form() {
        for (text, host, port, borrowed) in [
            ("example.com", "example.com", None, true),
            ("example.com:8080", "example.com", Some(8080), true),
            ("example.com:", "example.com", None, true),
            ("EXAMPLE.com:1", "example.com", Some(1), false),
            ("example.com.", "example.com", None, true),
            ("example.com.:65535", "example.com", Some(65535), true),
            ("a:00080", "a", Some(80), true),
            ("a_b.c~d", "a_b.c~d", None, true),
            ("127.0.0.1:80", "127.0.0.1", Some(80), true),
            ("[::1]", "[::1]", None, true),
            ("[::1]:443", "[::1]", Some(443), true),
            ("[::1]:", "[::1]", None, true),
            ("[0:0::0:1]", "[::1]", None, false),
            ("[2001:DB8::A]", "[2001:db8::a]", None, false),
        ] {
            let parsed = parse(text.as_bytes()).unwrap();
            assert_eq!((&*parsed.host, parsed.port), (host, port), "{text}");
            assert_eq!(matches!(parsed.host, Cow::Borrowed(_)), borrowed, "{text}");
        }
    }

    #[test]
    fn a_host_that_two_readers_could_read_in_two_ways_is_refused() {
        let too_long = format!("{}.com", "a".repeat(MAX_LEN - 3));
        for (text, error) in [
            ("", HostError::Empty),
            (":80", HostError::Empty),
            (".", HostError::Empty),
            ("user@example.com", HostError::Character),
            ("user:secret@example.com", HostError::Port),
            ("example.com/path", HostError::Character),
            ("a,b", HostError::Character),
            ("a b", HostError::Character),
            (" a", HostError::Character),
            ("a%2eb", HostError::Character),
            ("a\\b", HostError::Character),
            ("a?b", HostError::Character),
            ("a#b", HostError::Character),
            ("a\0", HostError::Character),
            ("ä", HostError::Character),
            ("a..b", HostError::EmptyLabel),
            ("a..", HostError::EmptyLabel),
            (".a", HostError::EmptyLabel),
            ("a:0", HostError::Port),
            ("a:65536", HostError::Port),
            ("a:99999999999999999999", HostError::Port),
            ("a:+80", HostError::Port),
            ("a:80:80", HostError::Port),
            ("a:8 0", HostError::Port),
            ("::1", HostError::Port),
            ("[::1", HostError::Address),
            ("[]", HostError::Address),
            ("[127.0.0.1]", HostError::Address),
            ("[fe80::1%25eth0]", HostError::Address),
            ("[v1.x]", HostError::Address),
            ("[::1]80", HostError::Character),
            ("[::1]:x", HostError::Port),
            (&too_long, HostError::TooLong),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent_and_never_panics(text in "[a-zA-Z.:\\[\\]0-9@,/_-]{0,24}") {
            let Ok(once) = parse(text.as_bytes()) else { return Ok(()) };
            let again = parse(once.host.as_bytes()).unwrap();
            prop_assert_eq!(&again.host, &once.host);
            prop_assert!(matches!(again.host, Cow::Borrowed(_)));
            prop_assert_eq!(again.port, None);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&text);
        }
    }
}
