//! Where the requests of a route go: a split, a pool, or elsewhere by a redirect.

use super::{Declared, host, path, value};
use crate::config::{
    defaults,
    pointer::Pointer,
    problems::Problems,
    raw,
    settings::{Action, Redirect},
    shape::shortened,
    spanned::Spanned,
};

pub(super) fn action(
    raw: &Spanned<raw::Route>,
    declared: &Declared<'_>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Action> {
    match (&raw.split, &raw.pool, &raw.redirect) {
        (Some(split), None, None) => {
            value::reference(split, &declared.splits, &at.key("split"), problems).map(Action::Split)
        }
        (None, Some(pool), None) => {
            value::reference(pool, &declared.pools, &at.key("pool"), problems).map(Action::Pool)
        }
        (None, None, Some(redirect)) => {
            without_forwarding(raw, at, problems);
            self::redirect(redirect, &at.key("redirect"), problems).map(Action::Redirect)
        }
        (None, None, None) => {
            let help = "split = \"...\", pool = \"...\" or redirect = { ... }".to_owned();
            problems.missing(&raw.span, at, "the route doesn't say where its requests go", help);
            None
        }
        (split, pool, _) => {
            // What they name may be wrong as well, and nobody should have to mend the file twice.
            if let Some(split) = split {
                value::reference(split, &declared.splits, &at.key("split"), problems);
            }
            if let Some(pool) = pool {
                value::reference(pool, &declared.pools, &at.key("pool"), problems);
            }
            let help = "one of `split`, `pool` and `redirect`".to_owned();
            problems.error(&raw.span, at, "the route says more than once where its requests go", help);
            None
        }
    }
}

/// Reports keys that say how requests are forwarded: a redirect forwards none.
fn without_forwarding(raw: &raw::Route, at: &Pointer<'_>, problems: &mut Problems<'_>) {
    let span = |given: Option<std::ops::Range<usize>>, key| given.map(|span| (span, key));
    let keys = [
        span(raw.timeout.as_ref().map(|value| value.span.clone()), "timeout"),
        span(raw.retries.as_ref().map(|value| value.span.clone()), "retries"),
        span(raw.request_headers.as_ref().map(|value| value.span.clone()), "request_headers"),
        span(raw.rewrite.as_ref().map(|value| value.span.clone()), "rewrite"),
        span(raw.forwarded.as_ref().map(|value| value.span.clone()), "forwarded"),
        span(raw.upgrades.as_ref().map(|value| value.span.clone()), "upgrades"),
    ];
    for (span, key) in keys.into_iter().flatten() {
        let help = "a redirect is answered by Switchback itself; take the key out".to_owned();
        problems.error(&span, &at.key(key), format!("\"{key}\" has no meaning beside a redirect"), help);
    }
}

fn redirect(raw: &Spanned<raw::Redirect>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<Redirect> {
    let status = match &raw.status {
        None => Some(defaults::REDIRECT_STATUS),
        Some(status) => status_code(status, &at.key("status"), problems),
    };
    let host = raw.host.as_ref().and_then(|text| {
        if host::is_host_with_port(text) {
            return Some(text.to_ascii_lowercase().into());
        }
        let help = "a host and, where wanted, a port, such as \"www.example.com\"".to_owned();
        problems.error(&text.span, &at.key("host"), format!("\"{}\" is no host", shortened(text)), help);
        None
    });
    let path = raw.path.as_ref().and_then(|text| path::target(text, &at.key("path"), problems));
    if raw.scheme.is_none() && raw.host.is_none() && raw.path.is_none() {
        let help = "give at least one of `scheme`, `host` and `path`".to_owned();
        problems.missing(&raw.span, at, "this redirect leads to where the request is", help);
    }
    let scheme = raw.scheme.as_ref().map(|scheme| match scheme.value {
        raw::Scheme::Http => "http".into(),
        raw::Scheme::Https => "https".into(),
    });
    Some(Redirect { status: status?, scheme, host, path })
}

fn status_code(status: &Spanned<u64>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<u16> {
    let code = u16::try_from(status.value).ok().filter(|code| matches!(code, 301 | 302 | 303 | 307 | 308));
    if code.is_none() {
        let help = "301 or 308 (for good), 302 or 307 (for now), 303 (look there with GET)".to_owned();
        problems.error(&status.span, at, format!("{} is no status of a redirect", status.value), help);
    }
    code
}
