//! The key by which a repeated call is known: a caller who got no answer sends the same again, and it is done once.
//!
//! Invariant: a key stands for one call alone, to the last byte of it: the method, the path, the query and the body.

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::control::handle::Idempotency;

/// The field with the key.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The field which says that an answer is that to an earlier call.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in bytes.
pub const MAX_KEY: usize = 255;

/// The key of a call, if it has one.
pub(super) fn key(fields: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = fields.get_all(KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => {
            let text = key.to_str().ok().filter(|text| (1..=MAX_KEY).contains(&text.len()));
            let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
            text.map(|text| Some(text.to_owned())).ok_or_else(malformed)
        }
        (Some(_), Some(_)) => Err(malformed()),
    }
}

/// What a call with a key asks for.
pub(super) fn of(key: String, method: &Method, uri: &Uri, body: &[u8]) -> Idempotency {
    let mut digest = Sha256::new();
    for part in [method.as_str(), uri.path(), uri.query().unwrap_or_default()] {
        // With its length before it, no part can pass for the end of the one before.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.update(body);
    Idempotency { key, asked: digest.finalize().into() }
}

fn malformed() -> Problem {
    let detail = format!("Idempotency-Key is one text of 1 to {MAX_KEY} visible ASCII characters");
    Problem::new(StatusCode::BAD_REQUEST, "invalid-field", "A field can't be read", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_call_counts() {
        let asked = |method: Method, uri: &str, body: &str| {
            of("k".into(), &method, &uri.parse().unwrap(), body.as_bytes()).asked
        };
        let mut all = vec![
            asked(Method::PUT, "/a", "{}"),
            asked(Method::POST, "/a", "{}"),
            asked(Method::PUT, "/a{}", ""),
            asked(Method::PUT, "/a?b", "{}"),
            asked(Method::PUT, "/a?b{}", ""),
        ];
        assert_eq!(asked(Method::PUT, "/a", "{}"), all[0]);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn a_key_is_short_visible_and_given_once() {
        let read = |keys: &[&str]| {
            let mut fields = HeaderMap::new();
            for key in keys {
                fields.append(KEY, key.parse().unwrap());
            }
            key(&fields)
        };
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["\"8e03\""]).unwrap().as_deref(), Some("\"8e03\""));
        assert!(read(&["x".repeat(MAX_KEY).as_str()]).is_ok());
        for bad in [&[""][..], &["a b"], &["a", "b"], &["x".repeat(MAX_KEY + 1).as_str()]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
