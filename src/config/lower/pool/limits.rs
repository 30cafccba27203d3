//! What bounds a pool's use.

use super::value;
use crate::config::{
    defaults,
    pointer::Pointer,
    problems::Problems,
    raw,
    settings::{Adaptive, Limits},
    spanned::Spanned,
};

pub(super) fn limits(raw: &raw::Pool, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Limits {
    let default = Limits::default();
    let cap = |number: &Option<Spanned<u64>>, key, problems: &mut Problems<'_>| {
        let number = number.as_ref()?;
        let number = value::within(number, 1..=defaults::MAX_MAX_CONNECTIONS, &at.key(key), problems)?;
        u32::try_from(number).ok()
    };
    Limits {
        max_connections: cap(&raw.max_connections, "max_connections", problems),
        max_pending: value::small(
            &raw.max_pending,
            0..=defaults::MAX_MAX_CONNECTIONS,
            default.max_pending,
            &at.key("max_pending"),
            problems,
        ),
        pending_timeout: value::timeout(
            &raw.pending_timeout,
            default.pending_timeout,
            &at.key("pending_timeout"),
            problems,
        ),
        unavailable_wait: value::pause(
            &raw.unavailable_wait,
            default.unavailable_wait,
            &at.key("unavailable_wait"),
            problems,
        ),
        max_requests: cap(&raw.max_requests, "max_requests", problems),
        max_endpoint_requests: cap(&raw.max_endpoint_requests, "max_endpoint_requests", problems),
        adaptive: raw.adaptive.as_ref().map(|raw| adaptive(raw, &at.key("adaptive"), problems)),
    }
}

fn adaptive(raw: &Spanned<raw::Adaptive>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Adaptive {
    let cap = |number, default, key, problems: &mut Problems<'_>| {
        value::small(number, 1..=defaults::MAX_MAX_CONNECTIONS, default, &at.key(key), problems)
    };
    let min = cap(&raw.min, defaults::ADAPTIVE_MIN, "min", problems);
    let max = cap(&raw.max, defaults::ADAPTIVE_MAX, "max", problems);
    if max < min {
        let span = raw.max.as_ref().or(raw.min.as_ref()).map_or(&raw.span, |number| &number.span);
        problems.error(span, at, format!("the limit can't be from {min} to {max}"), "min <= max".to_owned());
    }
    let tolerance =
        value::real(&raw.tolerance, 1.0..=10.0, defaults::ADAPTIVE_TOLERANCE, &at.key("tolerance"), problems);
    Adaptive { min, max, tolerance }
}
