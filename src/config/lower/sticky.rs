//! Pins: the cookie that makes sessions stay, and what signs it.

use std::path::PathBuf;

use super::{request_key, value};
use crate::config::{
    defaults,
    pointer::Pointer,
    problems::Problems,
    raw,
    settings::{PinTo, Pins, SameSite, Sticky},
    shape::shortened,
    spanned::Spanned,
};

pub(super) fn sticky(
    raw: &Spanned<raw::Sticky>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Sticky> {
    let cookie = raw.cookie.as_ref()?;
    let is_cookie = request_key::token(cookie, &at.key("cookie"), problems);
    let plain = Sticky::named(cookie.as_str());
    let same_site = raw.same_site.as_ref().map_or(plain.same_site, |same_site| match same_site.value {
        raw::SameSite::Lax => SameSite::Lax,
        raw::SameSite::Strict => SameSite::Strict,
        raw::SameSite::None => SameSite::None,
    });
    let secure = raw.secure.as_ref().map(|secure| secure.value);
    if same_site == SameSite::None && secure != Some(true) {
        let span = raw.same_site.as_ref().map_or(&raw.span, |same_site| &same_site.span);
        let message = "browsers drop a cookie of SameSite=None that is not Secure";
        let help = "secure = true, or same_site = \"lax\"".to_owned();
        problems.error(span, &at.key("same_site"), message, help);
    }
    if let Some(fault) = prefix_fault(cookie, raw, secure) {
        problems.error(&cookie.span, &at.key("cookie"), "browsers drop this cookie", fault.to_owned());
    }
    let flag = |flag: &Option<Spanned<bool>>, plain| flag.as_ref().map_or(plain, |flag| flag.value);
    let query = raw.query.as_ref().filter(|name| request_key::token(name, &at.key("query"), problems));
    let path = &raw.path;
    let path = attribute(path, &at.key("path"), |path| path.starts_with('/'), "a path from / on", problems);
    Some(Sticky {
        cookie: is_cookie.then_some(plain.cookie)?,
        ttl: value::timeout_or_off(&raw.ttl, plain.ttl, &at.key("ttl"), problems),
        to: raw.to.as_ref().map_or(plain.to, |to| match to.value {
            raw::PinTo::Pool => PinTo::Pool,
            raw::PinTo::Endpoint => PinTo::Endpoint,
        }),
        path: path.unwrap_or(plain.path),
        domain: attribute(&raw.domain, &at.key("domain"), is_domain, "a host name: example.com", problems),
        secure,
        http_only: flag(&raw.http_only, plain.http_only),
        same_site,
        signed: flag(&raw.signed, plain.signed),
        query: query.map(|name| name.as_str().into()),
    })
}

/// What a browser demands of a cookie by the prefix of its name (RFC 6265bis, 4.1.3).
fn prefix_fault(name: &str, raw: &raw::Sticky, secure: Option<bool>) -> Option<&'static str> {
    let has = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let is_root = raw.path.as_ref().is_none_or(|path| path.as_str() == "/");
    if has("__Host-") && (secure != Some(true) || raw.domain.is_some() || !is_root) {
        return Some("__Host- asks for secure = true, path = \"/\" and no domain");
    }
    (has("__Secure-") && secure != Some(true)).then_some("__Secure- asks for secure = true")
}

/// A text that stands in the cookie as it is.
fn attribute(
    text: &Option<Spanned<String>>,
    at: &Pointer<'_>,
    is_good: impl Fn(&str) -> bool,
    form: &str,
    problems: &mut Problems<'_>,
) -> Option<Box<str>> {
    let text = text.as_ref()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    if !is_plain || !is_good(text) || text.len() > defaults::MAX_ATTRIBUTE_BYTES {
        let message = format!("\"{}\" can't stand in a cookie", shortened(text));
        problems.error(&text.span, at, message, form.to_owned());
        return None;
    }
    Some(text.as_str().into())
}

fn is_domain(text: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.bytes().all(of_name)
}

pub(super) fn pins(raw: Option<&Spanned<raw::Pins>>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Pins {
    let Some(path) = raw.and_then(|raw| raw.key_file.as_ref()) else { return Pins::default() };
    if path.is_empty() || path.contains('\0') {
        let help = "such as \"pins.keys\"".to_owned();
        problems.error(&path.span, &at.key("key_file"), "this is no path", help);
    }
    Pins { key_file: Some(PathBuf::from(path.as_str())) }
}
