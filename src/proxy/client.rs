//! Who the client is: the peer of the connection, or whom trusted proxies say it is.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::wire::fields::{Field, Fields, Known};

/// Whether the account of its client that the machine at an address gives is believed.
#[inline]
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// The client's address behind a trusted peer: the last address in `X-Forwarded-For` that is not
/// itself a trusted proxy. What stands before it could have been written by anybody.
pub(super) fn behind(peer: IpAddr, buffer: &[u8], fields: &Fields, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    let lines = fields.lines.iter().rev().filter(|field| field.known == Known::XForwardedFor);
    for line in lines {
        for item in line.value.of(buffer).rsplit(|byte| *byte == b',') {
            let Some(address) = parse(item.trim_ascii()) else { return client };
            client = address;
            if !is_trusted(client, trusted) {
                return client;
            }
        }
    }
    client
}

/// The scheme that the client used, by what a trusted peer says: the value of one `X-Forwarded-Proto` that is a scheme of
/// HTTP. Of several lines or values nobody knows whose is the client's. A peer that says nothing is asked itself: `own`.
pub(super) fn scheme(buffer: &[u8], fields: &Fields, own: &'static str) -> &'static str {
    let is_believed =
        |field: &&Field| field.known == Known::XForwardedProto && !fields.is_nominated(buffer, field.name);
    let mut lines = fields.lines.iter().filter(is_believed);
    match (lines.next(), lines.next()) {
        (Some(line), None) if line.value.of(buffer).eq_ignore_ascii_case(b"https") => "https",
        (None, _) => own,
        _ => "http",
    }
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    parsed.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{fields::LIMITS, request::RequestHead};

    #[test]
    fn the_last_address_that_no_trusted_proxy_has() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        for (peer, forwarded, client) in [
            ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
            ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
            ("::1", "[2001:db8::7]", "2001:db8::7"),
            ("10.0.0.1", "unknown", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.9, unknown, 10.2.2.2", "10.2.2.2"),
            ("10.0.0.1", "10.3.3.3", "10.3.3.3"),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {forwarded}\r\n\r\n");
            let mut head = RequestHead::default();
            head.parse(text.as_bytes(), &LIMITS).unwrap();
            let found = behind(peer.parse().unwrap(), text.as_bytes(), &head.fields, &trusted);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {forwarded}");
        }
    }
}
