//! Reads the token of a call from its `Authorization` field (RFC 6750 2.1). A token in the query or the body is not
//! looked for: it would end in logs and histories.

use axum::http::{HeaderMap, header};

/// The longest token that is hashed; ours have 67 characters.
const MAX_TOKEN: usize = 512;

/// What a call came with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials<'a> {
    /// Nothing.
    None,
    /// What may be a token.
    Bearer(&'a [u8]),
    /// Something else, or several.
    Malformed,
}

pub(super) fn of(headers: &HeaderMap) -> Credentials<'_> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (fields.next(), fields.next());
    let Some(field) = first else { return Credentials::None };
    let bytes = field.as_bytes();
    let token = match bytes.iter().position(|byte| *byte == b' ') {
        Some(end) if bytes[..end].eq_ignore_ascii_case(b"bearer") => bytes[end..].trim_ascii(),
        _ => return Credentials::Malformed,
    };
    let of_token = |byte: &u8| byte.is_ascii_graphic() && *byte != b',';
    let is_one = !token.is_empty() && token.len() <= MAX_TOKEN && token.iter().all(of_token);
    if is_one && second.is_none() { Credentials::Bearer(token) } else { Credentials::Malformed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
                headers.append(header::AUTHORIZATION, value);
            }
            match of(&headers) {
                Credentials::Bearer(token) => String::from_utf8(token.to_vec()).unwrap(),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(read(&[]), "None");
        for good in ["Bearer sb_1", "bearer sb_1", "BEARER  sb_1"] {
            assert_eq!(read(&[good]), "sb_1", "{good}");
        }
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN + 1));
        for bad in
            ["", "Bearer", "Bearer ", "Basic YTpi", "sb_1", "Bearer a b", "Bearer a,b", "Bearer ä", &long]
        {
            assert_eq!(read(&[bad]), "Malformed", "{bad}");
        }
        assert_eq!(read(&["Bearer sb_1", "Bearer sb_2"]), "Malformed");
    }
}
