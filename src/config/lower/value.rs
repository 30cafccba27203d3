//! Single values: names, numbers, durations, sizes, addresses and tokens, each with its range.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use super::Names;
use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw::{DurationText, Size},
        shape::shortened,
        spanned::Spanned,
        suggest, units,
    },
    model::name::Name,
};

/// What a duration looks like.
const DURATION_FORM: &str = "a whole number and its unit, such as \"500ms\", \"2s\", \"1m\" or \"1h\"";

/// A name.
pub(super) fn name(text: &Spanned<String>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<Name> {
    let name = Name::new(text);
    if let Err(error) = &name {
        problems.error(&text.span, at, format!("\"{}\" is no name", shortened(text)), error.to_string());
    }
    name.ok()
}

/// A reference to a declared name.
pub(super) fn reference(
    text: &Spanned<String>,
    declared: &Names<'_>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Name> {
    if !declared.has(text) {
        let kind = declared.kind();
        let message = format!("there is no {kind} \"{}\"", shortened(text));
        problems.unresolved(&text.span, at, (kind, text), message, || {
            suggest::help(text, declared.iter(), &format!("declared {kind}s"))
                .or_else(|| Some(format!("declare it: [{kind}.{}]", shortened(text))))
        });
        return None;
    }
    // A declared name that is none was reported where it is declared.
    Name::new(text).ok()
}

/// A number of a range.
pub(super) fn within(
    number: &Spanned<u64>,
    range: RangeInclusive<u64>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<u64> {
    if range.contains(number) {
        return Some(**number);
    }
    let message = format!("the number {} is out of range", **number);
    problems.error(&number.span, at, message, format!("from {} to {}", range.start(), range.end()));
    None
}

/// A number of a range, or its default.
pub(super) fn count(
    number: &Option<Spanned<u64>>,
    range: RangeInclusive<u64>,
    default: usize,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> usize {
    let given = number.as_ref().and_then(|number| within(number, range, at, problems));
    given.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
}

/// A number of a range of 32 bits, or its default.
pub(super) fn small(
    number: &Option<Spanned<u64>>,
    range: RangeInclusive<u64>,
    default: u32,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> u32 {
    let given = number.as_ref().and_then(|number| within(number, range, at, problems));
    given.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
}

/// A real number of a range, or its default.
pub(super) fn real(
    number: &Option<Spanned<f64>>,
    range: RangeInclusive<f64>,
    default: f64,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> f64 {
    let Some(number) = number else { return default };
    if !range.contains(&number.value) {
        let message = format!("{} is out of range", number.value);
        problems.error(&number.span, at, message, format!("from {} to {}", range.start(), range.end()));
        return default;
    }
    number.value
}

/// A timeout that there must be, or its default.
pub(super) fn timeout(
    text: &Option<Spanned<DurationText>>,
    default: Duration,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Duration {
    let Some(text) = text else { return default };
    if text.0 == "off" {
        let help =
            format!("{DURATION_FORM}; without it, a peer that falls silent would hold its place for ever");
        problems.error(&text.span, at, "this timeout can't be turned off", help);
        return default;
    }
    duration(text, defaults::MIN_TIMEOUT, at, problems).unwrap_or(default)
}

/// A timeout that may be "off", or its default, which may be that, too.
pub(super) fn timeout_or_off(
    text: &Option<Spanned<DurationText>>,
    default: Option<Duration>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Duration> {
    match text {
        None => default,
        Some(text) if text.0 == "off" => None,
        Some(text) => duration(text, defaults::MIN_TIMEOUT, at, problems).or(default),
    }
}

/// A duration that may be 0, or its default.
pub(super) fn pause(
    text: &Option<Spanned<DurationText>>,
    default: Duration,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Duration {
    let given = text.as_ref().and_then(|text| duration(text, Duration::ZERO, at, problems));
    given.unwrap_or(default)
}

/// A duration that may be 0 and is no timeout, or its default.
pub(super) fn span_of_time(
    text: &Option<Spanned<DurationText>>,
    default: Duration,
    most: Duration,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Duration {
    let Some(text) = text else { return default };
    match units::duration(&text.0) {
        Some(duration) if duration <= most => duration,
        Some(_) => {
            let help = format!("at most {}", units::show_duration(most));
            problems.error(&text.span, at, format!("{} is too long", shortened(&text.0)), help);
            default
        }
        None => {
            let message = format!("\"{}\" is no duration", shortened(&text.0));
            problems.error(&text.span, at, message, DURATION_FORM.to_owned());
            default
        }
    }
}

fn duration(
    text: &Spanned<DurationText>,
    shortest: Duration,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Duration> {
    let Some(duration) = units::duration(&text.0) else {
        let message = format!("\"{}\" is no duration", shortened(&text.0));
        problems.error(&text.span, at, message, DURATION_FORM.to_owned());
        return None;
    };
    if duration < shortest {
        let help =
            format!("at least {}: with 0, nothing would ever be in time", units::show_duration(shortest));
        problems.error(&text.span, at, "a timeout of 0", help);
        return None;
    }
    if duration > defaults::MAX_TIMEOUT {
        let help = format!("at most {}", units::show_duration(defaults::MAX_TIMEOUT));
        problems.error(&text.span, at, format!("{} is too long", shortened(&text.0)), help);
        return None;
    }
    Some(duration)
}

/// A size that may be "off".
pub(super) fn size(size: &Spanned<Size>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<u64> {
    let bytes = match &size.value {
        Size::Bytes(bytes) => *bytes,
        Size::Text(text) if text == "off" => return None,
        Size::Text(text) => match units::size(text) {
            Some(bytes) => bytes,
            None => {
                let help = "bytes as a number, a text such as \"10MiB\", or \"off\"".to_owned();
                problems.error(&size.span, at, format!("\"{}\" is no size", shortened(text)), help);
                return None;
            }
        },
    };
    within(&Spanned { span: size.span.clone(), value: bytes }, 0..=defaults::MAX_BODY_BYTES, at, problems)
}

/// A share from 0 to 1.
pub(super) fn share(
    share: &Option<Spanned<f64>>,
    default: f64,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> f64 {
    let Some(share) = share else { return default };
    if !(0.0..=1.0).contains(&share.value) {
        let message = format!("{} is out of range", share.value);
        problems.error(&share.span, at, message, "a share from 0 to 1".to_owned());
        return default;
    }
    share.value
}

/// An IP address with its port.
pub(super) fn address(
    text: &Spanned<String>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        let help = match text.strip_prefix(':').map(str::parse::<u16>) {
            Some(Ok(port)) => {
                format!("for every address of this machine: \"0.0.0.0:{port}\" or \"[::]:{port}\"")
            }
            _ => "an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned(),
        };
        problems.error(&text.span, at, format!("\"{}\" is no address", shortened(text)), help);
    }
    address
}

/// Whether a text is a token (RFC 9110, 5.6.2), as methods and field names are.
pub(super) fn is_token(text: &str) -> bool {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(of_token)
}

/// Why a text is no field value that this file may hold, if it is none: visible ASCII, with blanks inside.
pub(super) fn field_value_fault(text: &str) -> Option<&'static str> {
    if text.len() > defaults::MAX_TEXT_BYTES {
        Some("it is too long")
    } else if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        Some("a field's value has visible ASCII characters and blanks alone")
    } else if text.trim() != text {
        Some("a field's value neither begins nor ends with a blank")
    } else {
        None
    }
}
