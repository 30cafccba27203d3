//! What of a request is a key: one of a cookie, a header and the client's address.

use std::ops::Range;

use super::value;
use crate::config::{
    pointer::Pointer, problems::Problems, raw, settings::SplitKey, shape::shortened, spanned::Spanned,
};

/// A key as it is written.
#[derive(Debug)]
pub(super) struct Written<'f> {
    pub(super) cookie: &'f Option<Spanned<String>>,
    pub(super) header: &'f Option<Spanned<String>>,
    pub(super) client: &'f Option<Spanned<raw::ClientKey>>,
}

/// Reads a key that is written as exactly one of the three.
pub(super) fn key(
    written: Written<'_>,
    span: &Range<usize>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<SplitKey> {
    match (written.cookie, written.header, written.client) {
        (Some(cookie), None, None) => {
            token(cookie, &at.key("cookie"), problems).then(|| SplitKey::Cookie(cookie.as_str().into()))
        }
        (None, Some(header), None) => token(header, &at.key("header"), problems)
            .then(|| SplitKey::Header(header.to_ascii_lowercase().into())),
        (None, None, Some(client)) => match client.value {
            raw::ClientKey::Ip => Some(SplitKey::ClientIp),
        },
        _ => {
            let help = "{ cookie = \"user\" }, { header = \"X-User\" } or { client = \"ip\" }".to_owned();
            problems.missing(span, at, "a key is one of a cookie, a header and the client's address", help);
            None
        }
    }
}

/// Checks the name of a cookie or field.
pub(super) fn token(text: &Spanned<String>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> bool {
    if value::is_token(&text.value) {
        return true;
    }
    let message = format!("\"{}\" is no name of a cookie or field", shortened(text));
    problems.error(&text.span, at, message, "letters, digits and any of !#$%&'*+-.^_`|~".to_owned());
    false
}
