//! A file of secret keys: one to a line, in hex or base64.
//!
//! Invariant: why a file is refused tells lines and lengths, and nothing of a key.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};

/// The fewest bytes of a key: as many as SHA-256 has, below which HMAC loses strength (RFC 2104 3).
pub const LEAST: usize = 32;
/// The most keys: a new one, the one in use and a few old ones. Each costs what is forged a try.
pub const MOST: usize = 8;

/// Why a file of keys is refused. No part of a key is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// No line holds a key.
    #[error("it holds no key: write one to a line, {LEAST} bytes at least, in hex or base64")]
    None,
    /// More than [`MOST`].
    #[error("it holds more than {MOST} keys: what comes is tried with each of them")]
    TooMany,
    /// A line that is neither.
    #[error("line {0} is neither hex nor base64")]
    Malformed(usize),
    /// A key that could be guessed.
    #[error("the key in line {0} has less than {LEAST} bytes")]
    Short(usize),
    /// The same key twice: most likely the wrong line was edited.
    #[error("the key in line {0} stands above it already")]
    Repeated(usize),
}

/// Reads the keys of a file: one to a line, in hex or base64 (with or without padding, of either alphabet); empty lines and
/// those that begin with `#` count for nothing.
pub fn parse(text: &str) -> Result<Vec<Vec<u8>>, InvalidKeys> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = decode(line).ok_or(InvalidKeys::Malformed(number))?;
        if key.len() < LEAST {
            return Err(InvalidKeys::Short(number));
        }
        if keys.contains(&key) {
            return Err(InvalidKeys::Repeated(number));
        }
        if keys.len() == MOST {
            return Err(InvalidKeys::TooMany);
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(InvalidKeys::None) } else { Ok(keys) }
}

/// Hex comes first: 64 hex digits would be base64, too, and hex is what `openssl rand -hex 32` writes.
fn decode(line: &str) -> Option<Vec<u8>> {
    let is_hex = line.len().is_multiple_of(2) && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex {
        let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).ok();
        return (0..line.len()).step_by(2).map(byte).collect();
    }
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|form| form.decode(line).ok())
}
