//! Edits of header fields.

use std::collections::BTreeSet;

use super::value;
use crate::config::{
    defaults,
    pointer::Pointer,
    problems::Problems,
    raw,
    settings::HeaderEdits,
    shape::shortened,
    spanned::{Entries, Spanned},
};

/// The most bytes that the edits of one direction add to a head; heads have 64 KiB at most.
const MAX_LINES_BYTES: usize = 16 * 1024;

/// Fields that no edit may touch, and why. The first group frames messages: an edit of it would be request smuggling
/// by configuration.
const UNTOUCHABLE: &[(&str, &str)] = &[
    ("content-length", "it says where a message ends, and Switchback answers for that"),
    ("transfer-encoding", "it says where a message ends, and Switchback answers for that"),
    ("connection", "it is about one connection, and Switchback writes its own"),
    ("keep-alive", "it is about one connection, and Switchback writes its own"),
    ("proxy-connection", "it is about one connection, and Switchback writes its own"),
    ("te", "it is about one connection, and Switchback writes its own"),
    ("trailer", "it announces what comes after the body, which is passed on as it is"),
    ("upgrade", "it is decided by the route's `upgrades`"),
    ("host", "applications see the host that the client asked for"),
    ("via", "Switchback adds itself to it, so that loops are seen"),
];

/// Fields of requests that Switchback writes by what it knows of the client.
const WRITTEN_IN_REQUESTS: &[(&str, &str)] = &[
    ("x-forwarded-for", "Switchback writes it; whose is believed is the listener's `trusted_proxies`"),
    ("x-forwarded-proto", "Switchback writes it; whose is believed is the listener's `trusted_proxies`"),
    ("x-forwarded-host", "Switchback writes it; whose is believed is the listener's `trusted_proxies`"),
    ("forwarded", "Switchback writes it if the route says `forwarded = true`"),
    ("expect", "it is part of how the body is sent"),
];

/// Which heads the edits are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// The edits of one direction, ready to be written.
pub(super) fn edits(
    raw: Option<&Spanned<raw::HeaderEdits>>,
    direction: Direction,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> HeaderEdits {
    let Some(raw) = raw else { return HeaderEdits::default() };
    let mut lines = Vec::new();
    let set = additions(&raw.set, direction, &at.key("set"), &mut lines, problems);
    additions(&raw.add, direction, &at.key("add"), &mut lines, problems);
    let mut drop = set;
    let remove = at.key("remove");
    for (index, name) in raw.remove.iter().enumerate() {
        let at = remove.index(index);
        let Some(lower) = field_name(name, direction, &at, problems) else { continue };
        if !drop.insert(lower) {
            let message = format!("the field \"{}\" is already set or removed here", shortened(name));
            problems.error(&name.span, &at, message, "`set` replaces what the field had".to_owned());
        }
    }
    let count = raw.set.len() + raw.add.len() + raw.remove.len();
    if count > defaults::MAX_HEADER_EDITS {
        let help = format!("at most {}", defaults::MAX_HEADER_EDITS);
        problems.error(&raw.span, at, format!("{count} edits are too many"), help);
    }
    if lines.len() > MAX_LINES_BYTES {
        let help = format!("at most {MAX_LINES_BYTES} bytes");
        problems.error(&raw.span, at, format!("the edits add {} bytes to each head", lines.len()), help);
    }
    HeaderEdits { drop: drop.into_iter().collect(), lines: lines.into() }
}

/// Appends the lines of `set` or `add` to `lines` and answers the names in lower case.
fn additions(
    fields: &Entries<String>,
    direction: Direction,
    at: &Pointer<'_>,
    lines: &mut Vec<u8>,
    problems: &mut Problems<'_>,
) -> BTreeSet<Box<str>> {
    let mut names = BTreeSet::new();
    for (name, text) in fields.iter() {
        let at = at.key(name);
        let Some(lower) = field_name(name, direction, &at, problems) else { continue };
        if !names.insert(lower) {
            let message = format!("the field \"{}\" is given twice", shortened(name));
            problems.error(&name.span, &at, message, "the case of a field's name has no meaning".to_owned());
        }
        if let Some(fault) = value::field_value_fault(text) {
            let message = format!("the value of \"{}\" can't be sent", shortened(name));
            problems.error(&text.span, &at, message, fault.to_owned());
            continue;
        }
        for part in [name.as_bytes(), b": ", text.as_bytes(), b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    names
}

/// A field's name in lower case, if it is one that may be edited.
fn field_name(
    name: &Spanned<String>,
    direction: Direction,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Box<str>> {
    if !value::is_token(name) {
        let message = format!("\"{}\" is no field name", shortened(name));
        problems.error(&name.span, at, message, "letters, digits and any of !#$%&'*+-.^_`|~".to_owned());
        return None;
    }
    let lower = name.to_ascii_lowercase();
    // As applications read it that take `_` for `-`.
    let hyphened = lower.replace('_', "-");
    // As a lenient reader may take it: `docs/http.md` refuses such names from clients, too.
    let letters: String = lower.chars().filter(char::is_ascii_alphabetic).collect();
    let read = match letters.as_str() {
        "contentlength" => "content-length",
        "transferencoding" => "transfer-encoding",
        _ => &hyphened,
    };
    let written: &[_] = if direction == Direction::Request { WRITTEN_IN_REQUESTS } else { &[] };
    if let Some((_, why)) = UNTOUCHABLE.iter().chain(written).find(|(field, _)| *field == read) {
        problems.error(&name.span, at, format!("\"{}\" can't be edited", shortened(name)), (*why).to_owned());
        return None;
    }
    Some(lower.into())
}
