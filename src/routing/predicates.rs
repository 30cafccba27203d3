//! Whether a request has the method, the fields and the query parameters that a route asks for. Nothing here
//! allocates.

use super::request_view::RequestView;
use crate::{config::RouteMatch, model::path::hex_pair};

/// What a route asks for and a request lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacking<'a> {
    /// One of the route's methods.
    Method,
    /// A field with this name and value.
    Header(&'a str, &'a str),
    /// A query parameter with this name and value.
    Query(&'a str, &'a str),
}

/// Whether all predicates of a route hold; its host and path are known to.
#[inline]
pub(super) fn hold(matches: &RouteMatch, request: &impl RequestView) -> bool {
    lacking(matches, request).is_none()
}

/// The first predicate of a route that does not hold.
#[inline]
pub(super) fn lacking<'a>(matches: &'a RouteMatch, request: &impl RequestView) -> Option<Lacking<'a>> {
    if !matches.methods.is_empty() {
        let method = request.method();
        if !matches.methods.iter().any(|wanted| wanted.as_bytes() == method) {
            return Some(Lacking::Method);
        }
    }
    for (name, value) in &matches.headers {
        if !has_header(request, name, value) {
            return Some(Lacking::Header(name, value));
        }
    }
    for (name, value) in &matches.query {
        if !has_parameter(request.query().unwrap_or_default(), name, value) {
            return Some(Lacking::Query(name, value));
        }
    }
    None
}

/// Whether any line of a field has exactly this value.
fn has_header(request: &impl RequestView, name: &str, value: &str) -> bool {
    (0..).map_while(|nth| request.header(name, nth)).any(|line| line == value.as_bytes())
}

/// Whether the first parameter with this name has exactly this value, both percent-decoded. `+` is a plus sign: that
/// it may stand for a space is a convention of HTML forms, not of URLs.
fn has_parameter(query: &[u8], name: &str, value: &str) -> bool {
    for pair in query.split(|byte| *byte == b'&') {
        let (found, its_value) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        if decodes_to(found, name.as_bytes()) {
            return decodes_to(its_value, value.as_bytes());
        }
    }
    false
}

/// Whether a percent-encoded text means `plain`. A `%` that begins no escape stands for itself.
fn decodes_to(encoded: &[u8], plain: &[u8]) -> bool {
    let mut rest = encoded;
    for &expected in plain {
        let Some((&byte, behind)) = rest.split_first() else { return false };
        let escaped = match behind.split_first_chunk::<2>() {
            Some((digits, behind)) if byte == b'%' => hex_pair(*digits).map(|value| (value, behind)),
            _ => None,
        };
        let (byte, behind) = escaped.unwrap_or((byte, behind));
        if byte != expected {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_compared_decoded() {
        for (query, found) in [
            ("v=2", true),
            ("a=1&v=2", true),
            ("%76=%32", true),
            ("v=2&v=3", true),
            ("v=3&v=2", false),
            ("v=", false),
            ("v", false),
            ("", false),
            ("V=2", false),
            ("v=22", false),
            ("v=2%", false),
            ("v==2", false),
        ] {
            assert_eq!(has_parameter(query.as_bytes(), "v", "2"), found, "{query}");
        }
        assert!(has_parameter(b"flag", "flag", ""));
        assert!(has_parameter(b"a=1+1", "a", "1+1"));
        assert!(has_parameter(b"a=%C3%a9", "a", "é"));
        assert!(has_parameter(b"a=100%&b", "a", "100%"));
        assert!(has_parameter(b"a=%zz", "a", "%zz"));
        assert!(!has_parameter(b"a=%c3", "a", "é"));
    }
}
