//! Writes the head that an upstream gets.
//!
//! Invariant: what the connection's hop alone concerns is gone, the framing is ours, and nothing that a client claims
//! about itself passes unless it comes from a trusted proxy.

use super::peer::Peer;
use crate::{
    config,
    routing::pins,
    wire::{
        emit,
        fields::{self, Field, Fields, Known},
        request::{RequestBody, RequestHead},
        target::Target,
    },
};

/// What the head is written from.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    /// The bytes that the head was parsed from.
    pub(super) buffer: &'a [u8],
    /// The client's head.
    pub(super) head: &'a RequestHead,
    /// What it addresses.
    pub(super) target: &'a Target<'a>,
    /// The route's settings.
    pub(super) route: &'a config::Route,
    /// Who sent it.
    pub(super) peer: &'a Peer,
    /// The protocol to upgrade to, if the client asked for one that the route allows.
    pub(super) upgrade: Option<&'a [u8]>,
    /// The request's id, if the route sends one.
    pub(super) request_id: Option<&'a [u8]>,
    /// The scheme by which it came here.
    pub(super) scheme: &'static str,
    /// Whether it came by HTTP/2.
    pub(super) is_http2: bool,
    /// Whether its split is sticky: a pin in a field of our own has been read, and goes no further.
    pub(super) in_session: bool,
}

impl Outgoing<'_> {
    /// Writes the whole head with its empty line.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.method.of(self.buffer));
        out.push(b' ');
        self.write_target(out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if self.head.host.is_none() {
            emit::line(out, b"Host", self.target.authority);
        }
        emit::fields(out, self.buffer, &self.head.fields.lines, |field| self.passes(field));
        if let RequestBody::Length(length) = self.head.body {
            emit::content_length(out, length);
        }
        self.write_forwarding(out);
        let edits = &self.route.request_headers;
        if let Some(identity) = self.peer.identity() {
            // What the route says of the fields stands for ours here, too.
            let fields = identity.fields().into_iter();
            for (name, value) in fields.filter(|(name, _)| !is_dropped(edits, name.as_bytes())) {
                emit::line(out, name.as_bytes(), value.as_bytes());
            }
        }
        // What the route says of the field stands for ours.
        if let Some(id) = self.request_id.filter(|_| !is_dropped(edits, b"x-request-id")) {
            emit::line(out, b"X-Request-Id", id);
        }
        out.extend_from_slice(&edits.lines);
        if self.head.body == RequestBody::Chunked {
            out.extend_from_slice(emit::CHUNKED);
        }
        match self.upgrade {
            Some(protocol) => {
                out.extend_from_slice(b"Connection: Upgrade\r\n");
                emit::line(out, b"Upgrade", protocol);
            }
            None if self.head.takes_trailers => out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n"),
            None => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_target(&self, out: &mut Vec<u8>) {
        let path = &*self.target.path;
        match (&self.route.rewrite_prefix, &self.route.matches.path) {
            (Some(replacement), config::PathPattern::Prefix(prefix)) if path != b"*" => {
                let rest = &path[prefix.len()..];
                out.extend_from_slice(replacement.as_bytes());
                out.extend_from_slice(if replacement.is_empty() && rest.is_empty() { b"/" } else { rest });
            }
            _ => out.extend_from_slice(path),
        }
        if let Some(query) = self.target.query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }

    /// Whether a field goes on as it came.
    #[inline]
    fn passes(&self, field: &Field) -> bool {
        let passes = match field.known {
            Known::Other => {
                // What many applications read as a field that is dropped or written anew here.
                let reads_as_known =
                    self.head.fields.underscore && fields::reads_as_known(field.name.of(self.buffer));
                !(reads_as_known || self.in_session && self.is_pin(field))
            }
            Known::Cookie | Known::Date | Known::Host | Known::Trailer | Known::Via => true,
            Known::Expect => self.head.expects_continue,
            Known::XRequestId => self.request_id.is_none(),
            Known::XForwardedOther => self.peer.is_trusted,
            Known::XForwardedProto | Known::XForwardedHost => self.peer.is_trusted,
            // Where clients are asked themselves, nobody else says who they are (RFC 9440 2.4).
            Known::ClientCertificate => self.peer.is_trusted && !self.peer.is_asked(),
            // A trusted proxy's list is kept, and written anew with its address at the end.
            Known::XForwardedFor => false,
            Known::Forwarded => self.peer.is_trusted && !self.route.forwarded,
            Known::Connection
            | Known::ContentLength
            | Known::Http2Settings
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::SwitchbackAttempt
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade => false,
        };
        passes
            && !self.head.fields.is_nominated(self.buffer, field.name)
            && !is_dropped(&self.route.request_headers, field.name.of(self.buffer))
    }

    fn is_pin(&self, field: &Field) -> bool {
        field.name.of(self.buffer).eq_ignore_ascii_case(pins::FIELD.as_bytes())
    }

    /// Writes who the client is, and that the request came through here.
    fn write_forwarding(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-Forwarded-For: ");
        self.write_list(out, Known::XForwardedFor);
        out.extend_from_slice(self.peer.text());
        out.extend_from_slice(b"\r\n");
        if !self.is_believed(Known::XForwardedProto) {
            emit::line(out, b"X-Forwarded-Proto", self.scheme.as_bytes());
        }
        if !self.is_believed(Known::XForwardedHost) {
            emit::line(out, b"X-Forwarded-Host", self.target.authority);
        }
        if self.route.forwarded {
            self.write_forwarded(out);
        }
        let via: &[u8] = match (self.is_http2, self.head.is_http11) {
            (true, _) => b"Via: 2 switchback\r\n",
            (false, true) => b"Via: 1.1 switchback\r\n",
            (false, false) => b"Via: 1.0 switchback\r\n",
        };
        out.extend_from_slice(via);
    }

    /// Writes the values of a list field that a trusted peer sent, each with a comma behind it.
    fn write_list(&self, out: &mut Vec<u8>, known: Known) {
        if !self.peer.is_trusted {
            return;
        }
        for field in self.head.fields.lines.iter().filter(|field| field.known == known) {
            if field.value.start < field.value.end && !self.head.fields.is_nominated(self.buffer, field.name)
            {
                out.extend_from_slice(field.value.of(self.buffer));
                out.extend_from_slice(b", ");
            }
        }
    }

    /// Whether a trusted peer has sent a field that stands for ours.
    fn is_believed(&self, known: Known) -> bool {
        let sent =
            |field: &Field| field.known == known && !self.head.fields.is_nominated(self.buffer, field.name);
        self.peer.is_trusted && self.head.fields.lines.iter().any(sent)
    }

    /// Writes `Forwarded` (RFC 7239), after what trusted proxies wrote in it.
    fn write_forwarded(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Forwarded: ");
        self.write_list(out, Known::Forwarded);
        // Addresses of IPv6 stand in brackets and quotes, and so does a host with a port (RFC 7239 4 and 6).
        let (open, close): (&[u8], &[u8]) =
            if self.peer.ip.is_ipv6() { (b"for=\"[", b"]\"") } else { (b"for=", b"") };
        let (peer, host, scheme) = (self.peer.text(), self.target.authority, self.scheme.as_bytes());
        for part in [open, peer, close, b";host=\"", host, b"\";proto=", scheme, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// Whether a route's edits drop a field: also one that only looks like it to who takes `_` for `-`.
#[inline]
pub(super) fn is_dropped(edits: &config::HeaderEdits, name: &[u8]) -> bool {
    let is_name = |dropped: &[u8]| fields::is_same_to_applications(name, dropped);
    !edits.drop.is_empty() && edits.drop.iter().any(|dropped| is_name(dropped.as_bytes()))
}

/// The names of trailers that go the way of the fields: those that the route sets or removes, and those that belong to
/// the sender's connection.
pub(super) fn trailers_to_drop<'a>(
    edits: &'a config::HeaderEdits,
    fields: &'a Fields,
    buffer: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> {
    let edited = edits.drop.iter().map(|name| name.as_bytes());
    edited.chain(fields.connection.nominated_names(buffer))
}
