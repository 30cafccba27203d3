//! Where a redirect leads.

use super::answer::Answer;
use crate::{config, wire::target::Target};

/// The answer that leads to the request's own URL over HTTPS, at a port.
pub(super) fn to_https(target: &Target<'_>, port: u16) -> Answer {
    let mut location = b"https://".to_vec();
    let host = &*target.host;
    // The address of an IPv6 host stands in brackets in it already.
    location.extend_from_slice(host.as_bytes());
    if port != 443 {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    add_own_path(&mut location, target);
    // A method and a body that were sent in the clear are sent again as they were.
    Answer { location: Some(location), ..Answer::problem(308, "") }
}

/// The answer that leads to the request's own URL with the parts that the route replaces. `scheme` is the one that the
/// client used.
pub(super) fn answer(redirect: &config::Redirect, target: &Target<'_>, scheme: &str) -> Answer {
    let mut location = Vec::new();
    location.extend_from_slice(redirect.scheme.as_deref().unwrap_or(scheme).as_bytes());
    location.extend_from_slice(b"://");
    match (&redirect.host, &redirect.scheme) {
        (Some(host), _) => location.extend_from_slice(host.as_bytes()),
        // Another scheme has another default port: the one that the client used would be wrong.
        (None, Some(_)) => location.extend_from_slice(target.host.as_bytes()),
        (None, None) => location.extend_from_slice(target.authority),
    }
    match &redirect.path {
        Some(path) => location.extend_from_slice(path.as_bytes()),
        None => add_own_path(&mut location, target),
    }
    Answer { location: Some(location), ..Answer::problem(redirect.status, "") }
}

/// Adds the request's own path and query.
fn add_own_path(location: &mut Vec<u8>, target: &Target<'_>) {
    location.extend_from_slice(if *target.path == *b"*" { b"/" } else { &target.path });
    if let Some(query) = target.query {
        location.push(b'?');
        location.extend_from_slice(query);
    }
}
