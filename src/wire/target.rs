//! What a request addresses: its host and its path, checked and in their one form (`docs/http.md`, rows 10 to 13).

use std::borrow::Cow;

use super::request::RequestHead;
use crate::model::{host, path};

/// What a request addresses.
#[derive(Debug)]
pub struct Target<'a> {
    /// The host for matching: lower case, without port; empty if there is none.
    pub host: Cow<'a, str>,
    /// The host and port as the client wrote them; empty if there is none.
    pub authority: &'a [u8],
    /// The path in its one form, or `*`.
    pub path: Cow<'a, [u8]>,
    /// The query without its `?`.
    pub query: Option<&'a [u8]>,
}

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// CONNECT and TRACE are not for a reverse proxy.
    #[error("this method is not allowed here")]
    Method,
    /// Neither an absolute path, nor an `http` URL, nor `*` with OPTIONS.
    #[error("the request target has a form that is not allowed here")]
    Form,
    /// The host is malformed.
    #[error("{0}")]
    Host(#[from] host::HostError),
    /// The URL in the target names another host than `Host`.
    #[error("the request target and Host name different hosts")]
    HostDiffers,
    /// No host at all, and the listener has no default.
    #[error("Host is missing and this listener has no default host")]
    HostMissing,
    /// The path is malformed.
    #[error("{0}")]
    Path(#[from] path::PathError),
}

impl TargetError {
    /// The status that the client gets.
    pub fn status(self) -> u16 {
        if self == Self::Method { 405 } else { 400 }
    }
}

/// Checks the target and the host of a head. The returned path is borrowed in the usual case.
pub fn read<'a>(
    buffer: &'a [u8],
    head: &RequestHead,
    default_host: Option<&'a str>,
) -> Result<Target<'a>, TargetError> {
    let method = head.method.of(buffer);
    if method == b"CONNECT" || method == b"TRACE" {
        return Err(TargetError::Method);
    }
    let authority = match (head.host, default_host) {
        (Some(host), _) => host.of(buffer),
        (None, Some(default)) => default.as_bytes(),
        (None, None) => return Err(TargetError::HostMissing),
    };
    let host = host::parse(authority)?;
    let target = head.target.of(buffer);
    let path_and_query = match target {
        [b'/', ..] => target,
        b"*" if method == b"OPTIONS" => {
            return Ok(Target { host: host.host, authority, path: Cow::Borrowed(b"*"), query: None });
        }
        _ => {
            let (named, rest) = absolute(target).ok_or(TargetError::Form)?;
            // The RFC lets the target win; two readers could then disagree about who is addressed.
            if host::parse(named)? != host {
                return Err(TargetError::HostDiffers);
            }
            // The last proxy on the way asks the origin for `*` (RFC 9112 3.2.4).
            if rest.is_empty() && method == b"OPTIONS" {
                return Ok(Target { host: host.host, authority, path: Cow::Borrowed(b"*"), query: None });
            }
            rest
        }
    };
    let (path, query) = match memchr::memchr(b'?', path_and_query) {
        Some(mark) => (&path_and_query[..mark], Some(&path_and_query[mark + 1..])),
        None => (path_and_query, None),
    };
    // `http://host` and `http://host?query` have the path `/` (RFC 9112 3.2.1).
    let path = if path.is_empty() { &b"/"[..] } else { path };
    let mut rewritten = Vec::new();
    let changed = path::normalise(path, &mut rewritten)?;
    let path = if changed { Cow::Owned(rewritten) } else { Cow::Borrowed(path) };
    Ok(Target { host: host.host, authority, path, query })
}

/// The authority of an absolute `http` or `https` URL, and what follows it.
fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memmem::find(target, b"://")?;
    let scheme = &target[..colon];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = &target[colon + 3..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Some(rest.split_at(end))
}
