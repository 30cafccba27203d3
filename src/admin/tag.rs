//! Entity tags: by them a caller says which state of an object he has seen.
//!
//! Invariant: a tag names what is *set*, by the newest revision that touched the object. It is a strong one, for
//! `If-Match` is compared strongly (RFC 9110 13.1.1) and a change must never be made on another state than the one that
//! was seen; counters in a body move without it, which is why nothing is served in ranges and nothing may be stored.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::Problem;

/// The most tags that a field may list.
const MAX_TAGS: usize = 32;

/// Writes and reads tags. Every clone is the same.
#[derive(Debug, Clone)]
pub struct Tags {
    /// What sets this process' revisions apart where their numbers begin anew with each start.
    run: Arc<str>,
}

/// What `If-Match` or `If-None-Match` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// `*`: any state, as long as there is one.
    Any,
    /// One of these, each with whether it is a weak tag.
    Tags(Vec<(bool, String)>),
}

impl Tags {
    /// The tags of revisions that survive a restart, or of ones that do not.
    pub fn new(is_durable: bool) -> Self {
        let run = if is_durable { String::new() } else { format!("-{:08x}", fastrand::u32(..)) };
        Self { run: run.into() }
    }

    /// The tag of an object that this revision touched last.
    pub(super) fn of(&self, revision: u64) -> HeaderValue {
        let text = format!("\"r{revision}{}\"", self.run);
        HeaderValue::try_from(text).expect("digits and letters are a field's value")
    }

    /// The field with that tag.
    pub(super) fn field(&self, revision: u64) -> [(HeaderName, HeaderValue); 1] {
        [(header::ETAG, self.of(revision))]
    }

    /// The revisions that strong tags of ours among these name.
    pub(super) fn revisions(&self, tags: &[(bool, String)]) -> Vec<u64> {
        let strong = tags.iter().filter(|(is_weak, _)| !is_weak);
        strong.filter_map(|(_, tag)| tag.strip_prefix('r')?.strip_suffix(&*self.run)?.parse().ok()).collect()
    }
}

impl Condition {
    /// Reads a field, if it is there.
    pub(super) fn of(fields: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        let mut lines = fields.get_all(name).iter().peekable();
        if lines.peek().is_none() {
            return Ok(None);
        }
        let mut tags = Vec::new();
        let mut any = 0;
        for line in lines {
            let text = line.to_str().map_err(|_| malformed(name))?;
            if text.trim() == "*" {
                any += 1;
            } else {
                read_list(text, &mut tags).ok_or_else(|| malformed(name))?;
            }
        }
        match (any, tags.len()) {
            (1, 0) => Ok(Some(Self::Any)),
            (0, 1..=MAX_TAGS) => Ok(Some(Self::Tags(tags))),
            _ => Err(malformed(name)),
        }
    }

    /// Whether a tag is one of these by the weak comparison (RFC 9110 8.8.3.2).
    fn names(&self, tag: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => {
                tags.iter().any(|(_, known)| tag.to_str().is_ok_and(|tag| tag.trim_matches('"') == known))
            }
        }
    }
}

/// Reads a list of tags (RFC 9110 8.8.3); `None` if it is none.
fn read_list(mut text: &str, tags: &mut Vec<(bool, String)>) -> Option<()> {
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return Some(());
        }
        let (is_weak, rest) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
        let (tag, rest) = rest.strip_prefix('"')?.split_once('"')?;
        let rest = rest.trim_start_matches([' ', '\t']);
        if !tag.bytes().all(|byte| byte.is_ascii_graphic()) || !(rest.is_empty() || rest.starts_with(',')) {
            return None;
        }
        if tags.len() < MAX_TAGS + 1 {
            tags.push((is_weak, tag.to_owned()));
        }
        text = rest;
    }
}

fn malformed(name: &HeaderName) -> Problem {
    let detail =
        format!("{name} is * or a list of up to {MAX_TAGS} entity tags, such as \"r12\" with its quotes");
    Problem::new(StatusCode::BAD_REQUEST, "invalid-field", "A field can't be read", detail)
}

/// Answers 304 to a reader who has seen what is set already.
pub(super) async fn unless_seen(request: Request<Body>, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let seen = if reads { Condition::of(request.headers(), &header::IF_NONE_MATCH) } else { Ok(None) };
    let response = next.run(request).await;
    let Some(tag) = response.headers().get(header::ETAG).filter(|_| response.status().is_success()) else {
        return response;
    };
    match seen {
        Ok(Some(seen)) if seen.names(tag) => {
            (StatusCode::NOT_MODIFIED, [(header::ETAG, tag.clone())]).into_response()
        }
        Ok(_) => response,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Option<Condition>, Problem> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(header::IF_MATCH, line.parse().unwrap());
        }
        Condition::of(&fields, &header::IF_MATCH)
    }

    fn tags(tags: &[(bool, &str)]) -> Condition {
        Condition::Tags(tags.iter().map(|(is_weak, tag)| (*is_weak, (*tag).to_owned())).collect())
    }

    #[test]
    fn a_list_of_tags_is_read_and_anything_else_is_refused() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[" * "]).unwrap(), Some(Condition::Any));
        for (lines, expected) in [
            (&["\"r1\""][..], &[(false, "r1")][..]),
            (&["W/\"r1\" ,, \"a,b\"", "\"\""], &[(true, "r1"), (false, "a,b"), (false, "")]),
        ] {
            assert_eq!(read(lines).unwrap(), Some(tags(expected)), "{lines:?}");
        }
        let many = "\"a\",".repeat(MAX_TAGS + 1);
        for bad in [
            &["r1"][..],
            &["\"r1"],
            &[""],
            &[","],
            &["\"a\" \"b\""],
            &["*", "\"a\""],
            &["*, \"a\""],
            &["w/\"a\""],
            &["\"a b\""],
            &["*", "*"],
            &[&many],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_strong_tags_of_this_history_name_a_revision() {
        let seen = |tags: &Tags, tag: &str| tags.revisions(&[(false, tag.to_owned())]);
        let durable = Tags::new(true);
        assert_eq!(durable.of(12), "\"r12\"");
        assert_eq!((seen(&durable, "r12"), seen(&durable, "x12")), (vec![12], vec![]));
        assert!(durable.revisions(&[(true, "r12".into())]).is_empty());
        let passing = Tags { run: "-1".into() };
        assert_eq!(passing.of(3), "\"r3-1\"");
        assert_eq!(
            (seen(&passing, "r3-1"), seen(&passing, "r3"), seen(&passing, "r3-2")),
            (vec![3], vec![], vec![])
        );
    }
}
