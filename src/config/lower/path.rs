//! Paths as patterns and as replacements.
//!
//! A pattern must be written in the form that request paths are brought into before they are matched, or it would
//! never match; whatever differs is refused and the right form is said.

use crate::config::{
    defaults, pointer::Pointer, problems::Problems, settings::PathPattern, shape::shortened, spanned::Spanned,
};

/// The path of a route: `/x` for a prefix by whole segments, `=/x` for this path alone.
pub(super) fn pattern(
    text: &Spanned<String>,
    merge_slashes: bool,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<PathPattern> {
    let (exact, path) = match text.strip_prefix('=') {
        Some(path) => (true, path),
        None => (false, text.as_str()),
    };
    if merge_slashes && path.contains("//") {
        let message = "this path would never match: `merge_slashes` makes `//` to `/` in requests";
        problems.error(&text.span, at, message, "write it with single slashes".to_owned());
        return None;
    }
    if !check(text, path, at, problems) {
        return None;
    }
    let path = with_capital_escapes(path);
    Some(if exact { PathPattern::Exact(path.into()) } else { PathPattern::Prefix(without_last_slash(&path)) })
}

/// The path that replaces a prefix, without its last slash.
pub(super) fn replacement(
    text: &Spanned<String>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Box<str>> {
    check(text, text, at, problems).then(|| without_last_slash(&with_capital_escapes(text)))
}

/// The path and query of a redirect's target.
pub(super) fn target(
    text: &Spanned<String>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Box<str>> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if !check(text, path, at, problems) {
        return None;
    }
    if !query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') || bad_escape(query) {
        let help = "visible ASCII without `#`; the rest percent-encoded".to_owned();
        problems.error(&text.span, at, "the query holds a character that must be escaped", help);
        return None;
    }
    if text.starts_with("//") {
        let help = "browsers read `//name` as a host; begin with one slash".to_owned();
        problems.error(&text.span, at, "the path begins with two slashes", help);
        return None;
    }
    Some(text.as_str().into())
}

/// Escapes with capital digits (RFC 3986, 6.2.2.1), as requests have them when they are matched.
fn with_capital_escapes(path: &str) -> String {
    let mut parts = path.split('%');
    let mut capital = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        capital.push('%');
        capital.push_str(&digits.to_ascii_uppercase());
        capital.push_str(rest);
    }
    capital
}

fn without_last_slash(path: &str) -> Box<str> {
    path.strip_suffix('/').unwrap_or(path).into()
}

fn check(text: &Spanned<String>, path: &str, at: &Pointer<'_>, problems: &mut Problems<'_>) -> bool {
    let Some((fault, help)) = fault(path) else { return true };
    problems.error(&text.span, at, format!("\"{}\" is no path: {fault}", shortened(text)), help);
    false
}

/// What is wrong with a path, and what to write.
fn fault(path: &str) -> Option<(&'static str, String)> {
    let plain = |text: &str| Some(text.to_owned());
    let (fault, help) = if !path.starts_with('/') {
        ("it doesn't begin with `/`", format!("did you mean \"/{}\"?", shortened(path)).into())
    } else if path.len() > defaults::MAX_TEXT_BYTES {
        ("it is too long", format!("at most {} bytes", defaults::MAX_TEXT_BYTES).into())
    } else if let Some(character) = path.chars().find(|character| !character.is_ascii_graphic()) {
        let mut utf8 = [0; 4];
        let escaped: String =
            character.encode_utf8(&mut utf8).bytes().map(|byte| format!("%{byte:02X}")).collect();
        ("requests have such characters percent-encoded", format!("write {escaped} for it").into())
    } else if path.contains(['?', '#']) {
        ("it holds `?` or `#`", plain("a query is matched by `query`; fragments never reach a server"))
    } else if path.contains('*') {
        ("it holds a `*`", plain("a prefix needs none: \"/shop\" takes everything below /shop"))
    } else if path.contains('\\') {
        ("it holds a `\\`", plain("requests with one are refused"))
    } else if bad_escape(path) {
        ("a `%` is not followed by two hexadecimal digits", plain("write %25 for `%` itself"))
    } else if let Some(byte) = escapes(path).find(|byte| is_unreserved(*byte)) {
        ("it escapes what needs no escape", format!("write `{}` for %{byte:02X}", char::from(byte)).into())
    } else if escapes(path).any(|byte| byte == 0 || byte == b'\\') {
        ("it holds %00 or %5C", plain("requests with one are refused"))
    } else if path.split('/').any(|segment| segment == "." || segment == "..") {
        (
            "it holds a segment `.` or `..`",
            plain("requests never do when they are matched: write the path they lead to"),
        )
    } else {
        return None;
    };
    help.map(|help| (fault, help))
}

/// The bytes that escapes stand for, in a text in which every `%` is followed by two digits.
fn escapes(path: &str) -> impl Iterator<Item = u8> + '_ {
    path.split('%').skip(1).filter_map(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok())
}

fn bad_escape(path: &str) -> bool {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    !path.split('%').skip(1).all(is_escape)
}

/// RFC 3986, 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_get_capital_digits() {
        assert_eq!(with_capital_escapes("/a%2fb%C3%a4c"), "/a%2Fb%C3%A4c");
        assert_eq!(with_capital_escapes("/abc"), "/abc");
    }

    #[test]
    fn a_path_is_written_as_requests_have_it() {
        for good in
            ["/", "/a", "/a/b/", "/a//b", "/a%2Fb", "/a%20b", "/.well-known/x", "/...", "/a;b=c,d", "/%C3%A4"]
        {
            assert_eq!(fault(good), None, "{good}");
        }
        for (bad, help) in [
            ("", "\"/\""),
            ("a/b", "\"/a/b\""),
            ("/ä", "%C3%A4"),
            ("/a b", "%20"),
            ("/a?b", "query"),
            ("/a#b", "query"),
            ("/a/*", "prefix"),
            ("/a\\b", "refused"),
            ("/a%", "%25"),
            ("/a%2", "%25"),
            ("/a%zz", "%25"),
            ("/a%+1", "%25"),
            ("/%41", "`A`"),
            ("/%2e%2e/a", "`.`"),
            ("/a%00", "refused"),
            ("/a/../b", "lead to"),
            ("/.", "lead to"),
        ] {
            let (_, said) = fault(bad).unwrap_or_else(|| panic!("{bad:?} was taken"));
            assert!(said.contains(help), "{bad:?}: {said}");
        }
    }
}
