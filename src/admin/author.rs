//! Who makes a call, and why: what is written into the history.

use axum::http::{HeaderMap, HeaderValue};

use super::problem::{Fault, Problem};
use crate::control::change::{Author, Origin};

/// The field in which a caller gives a reason.
const REASON: &str = "x-reason";
/// The field by which the command line is known.
pub const CLIENT: &str = "x-switchback-client";
/// The longest reason, in bytes.
const MAX_REASON: usize = 1_000;

/// The author of a call with these fields.
pub(super) fn of(fields: &HeaderMap) -> Result<Author, Problem> {
    let is_cli = fields.get(CLIENT).is_some_and(|client| client == "cli");
    let reason = fields.get(REASON).map(reason).transpose()?;
    Ok(Author { origin: if is_cli { Origin::Cli } else { Origin::Api }, who: None, reason })
}

fn reason(field: &HeaderValue) -> Result<String, Problem> {
    let text = std::str::from_utf8(field.as_bytes()).ok().filter(|text| text.len() <= MAX_REASON);
    text.map(|text| text.trim().to_owned()).ok_or_else(|| {
        let detail = format!("the X-Reason field is not UTF-8, or longer than {MAX_REASON} bytes");
        Problem::invalid_query(vec![Fault { detail, ..Fault::default() }])
    })
}
