//! The access log.

use std::path::PathBuf;

use super::value;
use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{AccessLog, AccessLogFormat},
        spanned::Spanned,
        suggest,
    },
    model::access_log::{InvalidTemplate, LogField, LogPiece},
};

pub(super) fn settings(
    raw: &Spanned<raw::AccessLog>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<AccessLog> {
    let sample = value::share(&raw.sample, defaults::SAMPLE, &at.key("sample"), problems);
    if let Some(raw) = raw.sample.as_ref().filter(|_| sample == 0.0) {
        let help = "above 0 and at most 1; leave [access_log] out for no log".to_owned();
        problems.error(&raw.span, &at.key("sample"), "a sample of 0 logs nothing", help);
    }
    let format = match &raw.format {
        None => Some(AccessLogFormat::Json),
        Some(text) if text.as_str() == "json" => Some(AccessLogFormat::Json),
        Some(text) => template(text, &at.key("format"), problems).map(AccessLogFormat::Template),
    };
    let path = raw.path.as_ref()?;
    if path.is_empty() || path.contains('\0') {
        let help = "a file, or \"-\" for the standard output".to_owned();
        problems.error(&path.span, &at.key("path"), "this is no path of a file", help);
        return None;
    }
    Some(AccessLog { path: PathBuf::from(path.as_str()), format: format?, sample })
}

fn template(text: &Spanned<String>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<Vec<LogPiece>> {
    if text.len() > defaults::MAX_TEMPLATE_BYTES {
        let help = format!("at most {} bytes", defaults::MAX_TEMPLATE_BYTES);
        problems.error(&text.span, at, "the template is too long", help);
        return None;
    }
    let error = match LogPiece::parse_template(text) {
        Ok(pieces) => return Some(pieces),
        Err(error) => error,
    };
    let names = LogField::ALL.iter().map(|field| field.name());
    let help = match &error {
        InvalidTemplate::UnknownField(name) => suggest::help(name, names, "fields"),
        InvalidTemplate::NoField => {
            Some("\"json\", or a template such as \"{client} {method} {path} {status}\"".to_owned())
        }
        InvalidTemplate::LoneBrace | InvalidTemplate::ControlCharacter => None,
    };
    problems.error(&text.span, at, crate::config::shape::shortened(&error.to_string()), help);
    None
}
