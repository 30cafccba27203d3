//! Routes: which requests they take, and how these are forwarded.

use std::collections::HashMap;

use super::{
    Declared, Seen, action,
    headers::{self, Direction},
    host, limit, path, rate_limit, value,
};
use crate::config::{
    defaults,
    pointer::Pointer,
    problems::Problems,
    raw,
    settings::{PathPattern, Retries, Route, RouteMatch},
    shape::shortened,
    spanned::{Entries, Spanned},
    suggest,
};

/// Methods that are written in capitals, as all of HTTP's own are.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

pub(super) fn all(
    raw: &[Spanned<raw::Route>],
    declared: &Declared<'_>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Route> {
    limit(raw, defaults::MAX_ROUTES, |route| route.span.clone(), at, problems);
    let mut names = Seen::default();
    let mut routes: Vec<Route> = Vec::with_capacity(raw.len());
    let mut places = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        if let Some(name) = &raw.name {
            names.is_new(name.as_str(), "this route's name", &name.span, &at.key("name"), problems);
        }
        if let Some(route) = one(raw, declared, &at, problems) {
            routes.push(route);
            places.push(index);
        }
    }
    warn_of_shadowed(&routes, &places, raw, at, problems);
    routes
}

/// Two routes that take the same requests are most likely a mistake: the second gets none.
fn warn_of_shadowed(
    routes: &[Route],
    places: &[usize],
    raw: &[Spanned<raw::Route>],
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    let mut first: HashMap<&RouteMatch, &Route> = HashMap::with_capacity(routes.len());
    for (route, index) in routes.iter().zip(places) {
        if let Some(earlier) = first.get(&route.matches) {
            let message = format!("route \"{}\" gets no request", route.name);
            let help = format!("route \"{}\" takes the same ones and stands before it", earlier.name);
            problems.warning(&raw[*index].span, &at.index(*index), message, help);
        } else {
            first.insert(&route.matches, route);
        }
    }
}

fn one(
    raw: &Spanned<raw::Route>,
    declared: &Declared<'_>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Route> {
    let name = raw.name.as_ref().and_then(|text| value::name(text, &at.key("name"), problems));
    let merge_slashes = raw.merge_slashes.as_ref().is_some_and(|flag| flag.value);
    let matches = matches(raw, merge_slashes, at, problems);
    let action = action::action(raw, declared, at, problems);
    let timeout = value::timeout_or_off(&raw.timeout, Some(defaults::TIMEOUT), &at.key("timeout"), problems);
    let retries = retries(raw.retries.as_ref(), &at.key("retries"), problems);
    let edits = |raw: &Option<_>, direction, key, problems: &mut _| {
        headers::edits(Option::as_ref(raw), direction, &at.key(key), problems)
    };
    let request_headers = edits(&raw.request_headers, Direction::Request, "request_headers", problems);
    let response_headers = edits(&raw.response_headers, Direction::Response, "response_headers", problems);
    let rewrite_prefix = rewrite(raw, at, problems);
    let max_body = raw.max_body.as_ref().and_then(|size| value::size(size, &at.key("max_body"), problems));
    let rate_limit = match &raw.rate_limit {
        Some(raw) => Some(rate_limit::rate_limit(raw, &at.key("rate_limit"), problems)?),
        None => None,
    };
    let upgrades = upgrades(raw.upgrades.as_ref(), &at.key("upgrades"), problems);
    let flag = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
    Some(Route {
        name: name?,
        matches: matches?,
        action: action?,
        timeout,
        first_byte_timeout: value::timeout_or_off(
            &raw.first_byte_timeout,
            None,
            &at.key("first_byte_timeout"),
            problems,
        ),
        stream_idle_timeout: value::timeout_or_off(
            &raw.stream_idle_timeout,
            None,
            &at.key("stream_idle_timeout"),
            problems,
        ),
        retries,
        request_headers,
        response_headers,
        rewrite_prefix,
        merge_slashes,
        max_body,
        rate_limit,
        forwarded: flag(&raw.forwarded),
        request_id: flag(&raw.request_id),
        upgrades,
    })
}

fn matches(
    raw: &raw::Route,
    merge_slashes: bool,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<RouteMatch> {
    let hosts_at = at.key("hosts");
    limit(&raw.hosts, defaults::MAX_HOSTS, |host| host.span.clone(), &hosts_at, problems);
    let mut seen = Seen::default();
    let mut hosts = Vec::with_capacity(raw.hosts.len());
    for (index, text) in raw.hosts.iter().enumerate() {
        let at = hosts_at.index(index);
        if let Some(pattern) = host::pattern(text, &at, problems)
            && seen.is_new(pattern.clone(), "this host", &text.span, &at, problems)
        {
            hosts.push(pattern);
        }
    }
    let path = match &raw.path {
        Some(text) => path::pattern(text, merge_slashes, &at.key("path"), problems),
        None => Some(PathPattern::Prefix(defaults::PATH.trim_end_matches('/').into())),
    };
    let methods = methods(&raw.methods, &at.key("methods"), problems);
    let headers = header_matches(&raw.headers, &at.key("headers"), problems);
    let query = query_matches(&raw.query, &at.key("query"), problems);
    Some(RouteMatch { hosts, path: path?, methods, headers, query })
}

fn methods(raw: &[Spanned<String>], at: &Pointer<'_>, problems: &mut Problems<'_>) -> Vec<Box<str>> {
    limit(raw, defaults::MAX_MATCHES, |method| method.span.clone(), at, problems);
    let mut seen = Seen::default();
    for (index, method) in raw.iter().enumerate() {
        let at = at.index(index);
        let capitals = method.to_ascii_uppercase();
        let fault = if !value::is_token(method) {
            Some(format!("known methods: {}", METHODS.join(", ")))
        } else if matches!(method.as_str(), "CONNECT" | "TRACE") {
            Some("Switchback answers CONNECT and TRACE with 405 before any route".to_owned())
        } else if *method.value != capitals && METHODS.contains(&capitals.as_str()) {
            Some(format!("did you mean \"{capitals}\"? The case of a method has a meaning"))
        } else {
            None
        };
        if let Some(help) = fault {
            let message = format!("\"{}\" can't be matched as a method", shortened(method));
            problems.error(&method.span, &at, message, help);
        } else {
            seen.is_new(method.as_str(), "this method", &method.span, &at, problems);
        }
    }
    raw.iter().map(|method| method.as_str().into()).collect()
}

fn header_matches(
    raw: &Entries<String>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Vec<(Box<str>, Box<str>)> {
    limit(raw, defaults::MAX_MATCHES, |(name, _)| name.span.clone(), at, problems);
    let mut seen = Seen::default();
    for (name, text) in raw.iter() {
        let at = at.key(name);
        if !value::is_token(name) {
            let message = format!("\"{}\" is no field name", shortened(name));
            problems.error(&name.span, &at, message, "letters, digits and any of !#$%&'*+-.^_`|~".to_owned());
        } else if name.eq_ignore_ascii_case("host") {
            let message = "the host is not matched as a header";
            problems.error(&name.span, &at, message, "hosts = [\"shop.example.com\"]".to_owned());
        }
        seen.is_new(name.to_ascii_lowercase(), "this field", &name.span, &at, problems);
        if let Some(fault) = value::field_value_fault(text) {
            problems.error(&text.span, &at, "this value would never match", fault.to_owned());
        }
    }
    raw.iter().map(|(name, text)| (name.to_ascii_lowercase().into(), text.as_str().into())).collect()
}

fn query_matches(
    raw: &Entries<String>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Vec<(Box<str>, Box<str>)> {
    limit(raw, defaults::MAX_MATCHES, |(name, _)| name.span.clone(), at, problems);
    for (name, text) in raw.iter() {
        if name.len().max(text.len()) > defaults::MAX_TEXT_BYTES {
            let help = format!("at most {} bytes", defaults::MAX_TEXT_BYTES);
            problems.error(&name.span, &at.key(name), "this parameter is too long to match", help);
        }
    }
    raw.iter().map(|(name, text)| (name.as_str().into(), text.as_str().into())).collect()
}

fn retries(raw: Option<&Spanned<raw::Retries>>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Retries {
    let default = Retries::default();
    let Some(raw) = raw else { return default };
    let attempts = raw.attempts.as_ref().and_then(|attempts| {
        value::within(attempts, 0..=defaults::MAX_RETRY_ATTEMPTS, &at.key("attempts"), problems)
    });
    let attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(default.attempts);
    let budget = value::share(&raw.budget, default.budget, &at.key("budget"), problems);
    let statuses_at = at.key("statuses");
    limit(&raw.statuses, defaults::MAX_MATCHES, |status| status.span.clone(), &statuses_at, problems);
    let statuses = raw.statuses.iter().enumerate().filter_map(|(index, status)| {
        value::within(status, 500..=599, &statuses_at.index(index), problems)
            .and_then(|status| u16::try_from(status).ok())
    });
    let statuses = statuses.collect();
    let per_try = at.key("per_try_timeout");
    Retries {
        attempts,
        budget,
        per_try_timeout: value::timeout_or_off(&raw.per_try_timeout, None, &per_try, problems),
        max_body: replayed(raw, default.max_body, &at.key("max_body"), problems),
        statuses,
        non_idempotent: raw.non_idempotent.as_ref().is_some_and(|flag| flag.value),
    }
}

/// How much of a body is kept for another attempt.
fn replayed(raw: &raw::Retries, default: usize, at: &Pointer<'_>, problems: &mut Problems<'_>) -> usize {
    let Some(size) = &raw.max_body else { return default };
    let bytes = value::size(size, at, problems).unwrap_or(0);
    let bytes = Spanned { span: size.span.clone(), value: bytes };
    let bytes = value::within(&bytes, 0..=defaults::MAX_RETRY_BODY, at, problems);
    bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(default)
}

fn rewrite(raw: &raw::Route, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<Box<str>> {
    let prefix = raw.rewrite.as_ref()?.prefix.as_ref()?;
    let rewrite_at = at.key("rewrite");
    let at = rewrite_at.key("prefix");
    if raw.path.as_ref().is_some_and(|path| path.starts_with('=')) {
        let help = "write the path without `=`, or take `rewrite` out".to_owned();
        problems.error(&prefix.span, &at, "a route with an exact path has no prefix to replace", help);
        return None;
    }
    path::replacement(prefix, &at, problems)
}

fn upgrades(
    raw: Option<&Spanned<Vec<Spanned<String>>>>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Box<str>> {
    let Some(raw) = raw else { return defaults::UPGRADES.iter().map(|name| (*name).into()).collect() };
    limit(raw, defaults::MAX_MATCHES, |name| name.span.clone(), at, problems);
    let mut seen = Seen::default();
    for (index, name) in raw.iter().enumerate() {
        let at = at.index(index);
        let (protocol, version) = name.split_once('/').unwrap_or((name, "1"));
        if !value::is_token(protocol) || !value::is_token(version) {
            let help = suggest::help(name, defaults::UPGRADES.iter().copied(), "such as");
            problems.error(&name.span, &at, format!("\"{}\" is no protocol", shortened(name)), help);
        } else if name.eq_ignore_ascii_case("h2c") {
            let help = "it would pass requests by every check and every route".to_owned();
            problems.error(&name.span, &at, "h2c is never upgraded to", help);
        }
        seen.is_new(name.to_ascii_lowercase(), "this protocol", &name.span, &at, problems);
    }
    raw.iter().map(|name| name.to_ascii_lowercase().into()).collect()
}
