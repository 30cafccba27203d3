//! The access log.

use std::path::PathBuf;

use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{AccessLog, AccessLogFormat},
        shape::shortened,
        spanned::Spanned,
        suggest,
    },
    model::access_log::{InvalidTemplate, LogField, LogPiece},
};

/// The most unknown fields of a template that are told of.
const MAX_UNKNOWN: usize = 32;

pub(super) fn settings(
    raw: &Spanned<raw::AccessLog>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<AccessLog> {
    let sample = sample(raw.sample.as_ref(), &at.key("sample"), problems);
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

fn sample(raw: Option<&Spanned<f64>>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> f64 {
    let Some(raw) = raw else { return defaults::SAMPLE };
    if raw.value > 0.0 && raw.value <= 1.0 {
        return raw.value;
    }
    let message = match raw.value == 0.0 {
        true => "a sample of 0 logs nothing".to_owned(),
        false => format!("{} is out of range", raw.value),
    };
    let help = "above 0 and at most 1; leave [access_log] out for no log".to_owned();
    problems.error(&raw.span, at, message, help);
    defaults::SAMPLE
}

fn template(text: &Spanned<String>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<Vec<LogPiece>> {
    if text.len() > defaults::MAX_TEMPLATE_BYTES {
        let help = format!("at most {} bytes", defaults::MAX_TEMPLATE_BYTES);
        problems.error(&text.span, at, "the template is too long", help);
        return None;
    }
    let mut error = match LogPiece::parse_template(text) {
        Ok(pieces) => return Some(pieces),
        Err(error) => error,
    };
    let mut report = |error: &InvalidTemplate, help| {
        problems.error(&text.span, at, shortened(&error.to_string()), help);
    };
    // Each unknown field is told, by reading on as if a known one stood there.
    let mut rest = text.value.clone();
    for _ in 0..MAX_UNKNOWN {
        let InvalidTemplate::UnknownField(name) = &error else { break };
        report(&error, suggest::help(name, LogField::ALL.iter().map(|field| field.name()), "fields"));
        rest = rest.replace(&format!("{{{name}}}"), "{status}");
        match LogPiece::parse_template(&rest) {
            Ok(_) => return None,
            Err(next) => error = next,
        }
    }
    match error {
        InvalidTemplate::NoField => {
            let help = "\"json\", or a template such as \"{client} {method} {path} {status}\"".to_owned();
            report(&error, Some(help));
        }
        InvalidTemplate::LoneBrace | InvalidTemplate::ControlCharacter => report(&error, None),
        InvalidTemplate::UnknownField(_) => {}
    }
    None
}
