//! The one form of a request's path: what is routed is what is forwarded.
//!
//! Invariant: normalising is idempotent, never makes a path longer, and never lets an escape become a separator
//! (`%2f` stays as it is). So no application behind Switchback can see another path than the one that was routed.

use memchr::memmem;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("a path begins with /")]
    NotAbsolute,
    /// Its `..` segments leave the root.
    #[error("the path climbs above the root")]
    AboveRoot,
    /// A `%` without two hexadecimal digits behind it.
    #[error("a percent sign has two hexadecimal digits behind it")]
    BadEscape,
    /// `%00`, at which software written in C ends a path.
    #[error("the path holds an escaped NUL")]
    Nul,
    /// `\` or `%5c`, which some servers read as `/`.
    #[error("the path holds a backslash")]
    Backslash,
    /// A control character, a space, `?`, `#`, or a byte beyond ASCII: none may stand in a path unescaped.
    #[error("the path holds a byte that must be escaped")]
    Unescaped,
}

/// Brings a path into its one form (RFC 3986, 6.2.2): dot segments are removed, escapes of unreserved characters are
/// undone (so `%2e` counts as a dot), other escapes get upper-case digits, `//` is kept.
///
/// `Ok(true)` says that `into` holds the form; `Ok(false)` that the path has its form already. Otherwise `into` holds
/// nothing of use. The usual path is seen to be in its form at a glance, and nothing is allocated for it.
///
/// A backslash is refused escaped, too: servers that read it as `/` do so after they have unescaped it, and
/// `..%5c..` would climb behind the back of these rules.
pub fn normalise(path: &[u8], into: &mut Vec<u8>) -> Result<bool, PathError> {
    if path.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if !is_remarkable(path) {
        return Ok(false);
    }
    into.clear();
    rewrite(path, into)?;
    Ok(into != path)
}

/// Reads every run of slashes as one. Returns as [`normalise`] does.
pub fn merge_slashes(path: &[u8], into: &mut Vec<u8>) -> bool {
    if memmem::find(path, b"//").is_none() {
        return false;
    }
    into.clear();
    for &byte in path {
        if byte != b'/' || into.last() != Some(&b'/') {
            into.push(byte);
        }
    }
    true
}

/// Whether a path holds anything that may be changed or refused: the usual one does not, and this is all it costs.
fn is_remarkable(path: &[u8]) -> bool {
    let mut before = 0;
    for &byte in path {
        if !PLAIN[usize::from(byte)] || (byte == b'.' && before == b'/') {
            return true;
        }
        before = byte;
    }
    false
}

/// Bytes that stand for themselves in a path. Beyond RFC 3986 they include the printable characters that browsers
/// send unescaped (such as `|` and `[`), which are forwarded as they came.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        plain[byte] = !matches!(byte as u8, b'%' | b'\\' | b'?' | b'#');
        byte += 1;
    }
    plain
};

/// Remove-dot-segments (RFC 3986, 5.2.4) over the unescaped segments.
fn rewrite(path: &[u8], into: &mut Vec<u8>) -> Result<(), PathError> {
    let mut segments = path[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let start = into.len();
        into.push(b'/');
        unescape(segment, into)?;
        let climbs = match &into[start + 1..] {
            b"." => false,
            b".." => true,
            _ => continue,
        };
        into.truncate(start);
        if climbs {
            let parent = memchr::memrchr(b'/', into).ok_or(PathError::AboveRoot)?;
            into.truncate(parent);
        }
        if segments.peek().is_none() {
            into.push(b'/');
        }
    }
    Ok(())
}

/// Appends a segment, its escapes in their one form.
fn unescape(segment: &[u8], into: &mut Vec<u8>) -> Result<(), PathError> {
    let mut rest = segment;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'%' => {
                let Some((digits, behind)) = rest.split_first_chunk::<2>() else {
                    return Err(PathError::BadEscape);
                };
                rest = behind;
                let value = hex_pair(*digits).ok_or(PathError::BadEscape)?;
                match value {
                    0 => return Err(PathError::Nul),
                    b'\\' => return Err(PathError::Backslash),
                    value if is_unreserved(value) => into.push(value),
                    _ => into.extend([b'%', digits[0].to_ascii_uppercase(), digits[1].to_ascii_uppercase()]),
                }
            }
            b'\\' => return Err(PathError::Backslash),
            byte if PLAIN[usize::from(byte)] => into.push(byte),
            _ => return Err(PathError::Unescaped),
        }
    }
    Ok(())
}

/// The value of two hexadecimal digits.
pub fn hex_pair(digits: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

/// The characters whose escapes mean the same as themselves (RFC 3986, 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> Result<String, PathError> {
        let mut into = b"left over".to_vec();
        let changed = normalise(path.as_bytes(), &mut into)?;
        Ok(if changed { String::from_utf8(into).unwrap() } else { path.to_owned() })
    }

    #[test]
    fn nothing_is_allocated_for_a_path_in_its_form() {
        let mut into = Vec::new();
        assert_eq!(normalise(b"/shop/a.b/c-d_e~1", &mut into), Ok(false));
        assert_eq!(into.capacity(), 0);
    }

    #[test]
    fn a_path_gets_its_one_form() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/./", "/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/%2e/a", "/a"),
            ("//a//b", "//a//b"),
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            ("/%41%7e%2d", "/A~-"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2F../b", "/a%2F../b"),
            ("/..%2f..", "/..%2F.."),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/a;v=1/b|c[0]", "/a;v=1/b|c[0]"),
            ("/caf%c3%a9", "/caf%C3%A9"),
        ] {
            assert_eq!(normal(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn a_dangerous_path_is_refused() {
        for (path, error) in [
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("/..", PathError::AboveRoot),
            ("/a/../..", PathError::AboveRoot),
            ("/%2e%2e/etc", PathError::AboveRoot),
            ("/a/../../a", PathError::AboveRoot),
            ("/%", PathError::BadEscape),
            ("/%2", PathError::BadEscape),
            ("/%2/a", PathError::BadEscape),
            ("/%zz", PathError::BadEscape),
            ("/%+1", PathError::BadEscape),
            ("/a%00", PathError::Nul),
            ("/a\\b", PathError::Backslash),
            ("/a%5cb", PathError::Backslash),
            ("/a%5C..%5C", PathError::Backslash),
            ("/a b", PathError::Unescaped),
            ("/a\tb", PathError::Unescaped),
            ("/a\0", PathError::Unescaped),
            ("/a?b", PathError::Unescaped),
            ("/a#b", PathError::Unescaped),
            ("/\x7f", PathError::Unescaped),
            ("/ä", PathError::Unescaped),
        ] {
            assert_eq!(normal(path), Err(error), "{path:?}");
        }
    }

    #[test]
    fn slashes_merge_where_asked() {
        let mut into = Vec::new();
        assert!(!merge_slashes(b"/a/b/", &mut into));
        assert!(merge_slashes(b"//a///b//", &mut into));
        assert_eq!(into, b"/a/b/");
    }

    /// Texts in which every rule meets every other.
    fn paths() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop_oneof![
            8 => prop::sample::select(vec!["/", ".", "..", "a", "%2e", "%2E", "%2f", "%41", "%c3", "%25", "//", "~"]),
            1 => prop::sample::select(vec!["\\", "%5c", "%00", "%", "%2", "%zz", "?", "#", " ", "\n", "é"]),
        ];
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()).into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn normalising_is_idempotent_and_leaves_nothing_dangerous(path in paths()) {
            let mut once = Vec::new();
            let Ok(changed) = normalise(&path, &mut once) else { return Ok(()) };
            let once = if changed { once } else { path.clone() };
            prop_assert_eq!(changed, once != path);
            prop_assert!(once.len() <= path.len());
            prop_assert_eq!(normalise(&once, &mut Vec::new()), Ok(false));
            prop_assert!(once.starts_with(b"/"));
            prop_assert!(!once.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")));
            prop_assert!(once.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'\\'));
        }

        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(path in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = normalise(&path, &mut Vec::new());
        }
    }
}
