//! A request of HTTP/2 as the HTTP/1.1 message that says the same (RFC 9113 8.3 and 8.8).
//!
//! The h2 crate has refused most of what HTTP/2 forbids: pseudo fields that lack, come late or twice, names in upper case, fields
//! of the connection, a `TE` other than `trailers`, and a length that the body does not have. What the message may be
//! beyond that, the engine judges as of any other.
//!
//! Invariant: nothing that a client sends can end a line of the message, since no value that is written here holds CR or
//! LF; and the body is framed by us.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use h2::{RecvStream, ext::Protocol};
use http::{
    Method,
    header::{CONTENT_LENGTH, COOKIE, HOST},
    request::Parts,
};

use crate::{
    http2::{Framing, Inbound},
    proxy::buffers::Buffers,
    wire::emit,
};

/// The message of a request; `None` if it has no path where it needs one (RFC 9113 8.3.1), or a value with white space at an
/// end (8.2.1): HTTP/1.1 would drop that, and nobody who reads both must take them for two values.
pub(super) fn message(parts: &Parts, body: RecvStream, buffers: &Buffers) -> Option<Inbound> {
    if parts.headers.values().any(|value| has_space_around(value.as_bytes())) {
        return None;
    }
    let protocol = parts.extensions.get::<Protocol>().filter(|_| parts.method == Method::CONNECT);
    let framing = match () {
        () if body.is_end_stream() => Framing::Ended,
        () if protocol.is_some() => Framing::Tunnel,
        () if parts.headers.contains_key(CONTENT_LENGTH) => Framing::Length,
        () => Framing::Chunks,
    };
    let mut text = buffers.take();
    if !write_line(parts, protocol.is_some(), &mut text) {
        buffers.give(text);
        return None;
    }
    write_fields(parts, &mut text);
    if framing == Framing::Chunks {
        text.extend_from_slice(emit::CHUNKED);
    }
    if let Some(protocol) = protocol
        && !write_upgrade(protocol, &mut text)
    {
        buffers.give(text);
        return None;
    }
    text.extend_from_slice(b"\r\n");
    Some(Inbound::new(body, framing, text))
}

/// Writes what asks for a tunnel in HTTP/1.1 (RFC 8441 5); answers whether the protocol can be asked for.
fn write_upgrade(protocol: &Protocol, out: &mut Vec<u8>) -> bool {
    let name = protocol.as_str();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/');
    if name.is_empty() || !name.bytes().all(is_token) {
        return false;
    }
    out.extend_from_slice(b"Connection: Upgrade\r\n");
    emit::line(out, b"Upgrade", name.as_bytes());
    if name.eq_ignore_ascii_case("websocket") {
        // HTTP/1.1 needs one, HTTP/2 has none (RFC 6455 4.1): it keeps caches from answering, and is no secret.
        let key = BASE64_STANDARD.encode(fastrand::u128(..).to_be_bytes());
        emit::line(out, b"Sec-WebSocket-Key", key.as_bytes());
    }
    true
}

fn has_space_around(value: &[u8]) -> bool {
    [value.first(), value.last()].into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t'))
}

/// Writes the request line; answers whether there is one. What asks for a tunnel is a GET in HTTP/1.1.
fn write_line(parts: &Parts, is_tunnel: bool, out: &mut Vec<u8>) -> bool {
    let authority = parts.uri.authority().map_or(&b""[..], |authority| authority.as_str().as_bytes());
    let method = if is_tunnel { "GET" } else { parts.method.as_str() };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    if parts.method == Method::CONNECT && !is_tunnel {
        out.extend_from_slice(authority);
    } else {
        let Some(path) = parts.uri.path_and_query() else { return false };
        let path = path.as_str().as_bytes();
        if !authority.is_empty() && is_addressed_twice(parts, authority) {
            // The engine compares the two, as of an absolute target (RFC 9112 3.2.2).
            out.extend_from_slice(b"http://");
            out.extend_from_slice(authority);
            out.extend_from_slice(if path == b"*" { b"" } else { path });
        } else {
            out.extend_from_slice(path);
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !parts.headers.contains_key(HOST) && !authority.is_empty() {
        emit::line(out, b"Host", authority);
    }
    true
}

/// Whether `Host` is there and is not, byte for byte, what `:authority` is.
fn is_addressed_twice(parts: &Parts, authority: &[u8]) -> bool {
    parts.headers.get(HOST).is_some_and(|host| host.as_bytes() != authority)
}

/// Writes the fields. Crumbs of a cookie become one line again (RFC 9113 8.2.3).
fn write_fields(parts: &Parts, out: &mut Vec<u8>) {
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != COOKIE) {
        emit::line(out, name.as_str().as_bytes(), value.as_bytes());
    }
    let mut crumbs = parts.headers.get_all(COOKIE).iter();
    if let Some(first) = crumbs.next() {
        out.extend_from_slice(b"cookie: ");
        out.extend_from_slice(first.as_bytes());
        for crumb in crumbs {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(crumb.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, Request as HttpRequest};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{
        fields::{LIMITS, Progress},
        request::RequestHead,
    };

    proptest! {
        /// Whatever fields the types of HTTP can hold, the engine reads those and no others.
        #[test]
        fn the_engine_reads_the_fields_that_came(
            fields in prop::collection::vec(("[a-z0-9!#$&'*+.^`|~-]{1,12}", "[\\x20-\\x7e\\x80-\\xff\t]{0,20}"), 0..20),
            path in "/[!-~&&[^#?]]{0,20}",
        ) {
            let Ok(uri) = format!("http://a.example{path}").parse::<http::Uri>() else { return Ok(()) };
            let mut request = HttpRequest::get(uri).body(()).unwrap();
            for (name, value) in &fields {
                let latin1: Vec<u8> = value.chars().map(|character| character as u8).collect();
                let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&latin1)) else {
                    continue;
                };
                // Those that frame a message are another matter.
                if !matches!(name.as_str(), "host" | "te" | "cookie" | "expect" | "connection") {
                    request.headers_mut().append(name, value);
                }
            }
            let (parts, ()) = request.into_parts();
            let mut text = Vec::new();
            prop_assert!(write_line(&parts, false, &mut text));
            write_fields(&parts, &mut text);
            text.extend_from_slice(b"\r\n");
            let mut head = RequestHead::default();
            // A field may resemble one that frames; then it is refused, and nothing else may happen.
            let Ok(read) = head.parse(&text, &LIMITS) else { return Ok(()) };
            prop_assert_eq!(read, Progress::Complete(text.len()));
            // The first is Host.
            let lines = head.fields.lines.iter().skip(1);
            let read: Vec<_> =
                lines.map(|line| (line.name.of(&text).to_vec(), line.value.of(&text).to_vec())).collect();
            let came: Vec<_> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().trim_ascii().to_vec()))
                .collect();
            prop_assert_eq!(read, came);
        }
    }

    fn text(uri: &str, method: &str, fields: &[(&str, &str)]) -> Option<String> {
        let mut request = HttpRequest::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        write_line(&parts, false, &mut out).then(|| {
            write_fields(&parts, &mut out);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn the_authority_becomes_host_unless_there_is_one() {
        let plain = "GET /a?b HTTP/1.1\r\nHost: x:8\r\n";
        assert_eq!(text("https://x:8/a?b", "GET", &[]).unwrap(), plain);
        let same = "GET /a HTTP/1.1\r\nhost: x\r\n";
        assert_eq!(text("https://x/a", "GET", &[("host", "x")]).unwrap(), same);
        let other = "GET http://x/a HTTP/1.1\r\nhost: y\r\n";
        assert_eq!(text("https://x/a", "GET", &[("host", "y")]).unwrap(), other);
        assert_eq!(text("/a", "GET", &[("host", "y")]).unwrap(), "GET /a HTTP/1.1\r\nhost: y\r\n");
        assert_eq!(text("/a", "GET", &[]).unwrap(), "GET /a HTTP/1.1\r\n");
        assert_eq!(text("x:1", "CONNECT", &[]).unwrap(), "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n");
    }

    #[test]
    fn crumbs_become_one_cookie() {
        let crumbs = [("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"), ("cookie", "c=3")];
        let joined = "GET / HTTP/1.1\r\nHost: x\r\naccept: */*\r\ncookie: a=1; b=2; c=3\r\n";
        assert_eq!(text("http://x/", "GET", &crumbs).unwrap(), joined);
    }
}
