//! The engine's request as a request of HTTP/2 (RFC 9113 8.3).

use http::{
    HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::TE,
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::wire::{
    fields::{Known, KnownSet, Limits},
    request::RequestHead,
};

/// The head is the engine's own, and holds what a route and Switchback add to one that was within the limits of heads.
pub(super) const OWN: Limits = Limits { target: 1 << 20, head: 1 << 20, fields: 512 };

/// The fields of a connection of HTTP/1.1, which HTTP/2 has no use for (RFC 9113 8.2.2), and `Host`, which is `:authority`.
const OF_THE_CONNECTION: KnownSet = KnownSet::of(&[
    Known::Connection,
    Known::Host,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::Te,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// The request line and fields of a head; `None` if they can't be said in HTTP/2.
pub(super) fn of(buffer: &[u8], head: &RequestHead, is_secured: bool) -> Option<Request<()>> {
    let path = PathAndQuery::try_from(head.target.of(buffer)).ok()?;
    let authority = Authority::try_from(head.host?.of(buffer)).ok()?;
    let scheme = if is_secured { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.method.of(buffer)).ok()?;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    let fields = request.headers_mut();
    fields.reserve(head.fields.lines.len());
    for field in head.fields.lines.iter().filter(|field| !OF_THE_CONNECTION.contains(field.known)) {
        let name = HeaderName::from_bytes(field.name.of(buffer)).ok()?;
        fields.append(name, HeaderValue::from_bytes(field.value.of(buffer)).ok()?);
    }
    if head.takes_trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    Some(request)
}
