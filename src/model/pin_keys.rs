//! The keys that sign pins.
//!
//! Invariant: a key never leaves this module, neither as bytes nor by `Debug`, and a signature is compared in the same
//! time whatever differs.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::key_lines::{self, InvalidKeys};

/// The bytes of a signature: HMAC-SHA-256 (RFC 2104, FIPS 180-4).
pub const SIGNATURE: usize = 32;

/// What every signed text begins with, so that a key that is used for something else, too, signs nothing that is a pin.
const PURPOSE: &[u8] = b"switchback pin v1\0";

/// Keys: the first signs, all are accepted. There may be none: then nothing is signed and nothing accepted.
#[derive(Clone, Default)]
pub struct PinKeys(Vec<Hmac<Sha256>>);

impl PinKeys {
    /// The fewest bytes of a key: as many as the hash has, below which HMAC loses strength (RFC 2104 3).
    pub const LEAST: usize = key_lines::LEAST;

    /// Reads a file of keys (see [`key_lines`]).
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        key_lines::parse(text).map(|keys| Self(keys.iter().map(|key| keyed(key)).collect()))
    }

    /// One key of these bytes.
    pub fn of(key: &[u8; Self::LEAST]) -> Self {
        Self(vec![keyed(key)])
    }

    /// A file that holds one key, to be written where there is none yet.
    pub fn file_of(key: &[u8; Self::LEAST]) -> String {
        format!(
            "# Keys that sign pins, one to a line (hex or base64). The first signs, all are accepted.\n{}\n",
            STANDARD.encode(key)
        )
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Signs a text with the first key; `None` if there is none.
    pub fn sign(&self, text: &[u8]) -> Option<[u8; SIGNATURE]> {
        let mut mac = self.0.first()?.clone();
        mac.update(text);
        Some(mac.finalize().into_bytes().into())
    }

    /// Whether any of the keys has signed a text.
    pub fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        self.0.iter().any(|key| {
            let mut mac = key.clone();
            mac.update(text);
            mac.verify_slice(signature).is_ok()
        })
    }
}

impl fmt::Debug for PinKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinKeys({} keys)", self.0.len())
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(PURPOSE);
    mac
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn a_file_is_read_in_every_form_of_a_key() {
        let hex = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let base64 = STANDARD.encode([0xfb; 33]);
        let url = URL_SAFE_NO_PAD.encode([0xfc; 40]);
        let keys = PinKeys::parse(&format!("# mine\n\n{hex}\r\n  {base64}\n{url}")).unwrap();
        assert_eq!(keys.count(), 3);
        let bytes: Vec<u8> = (0..32).map(|at: u8| (at % 16) * 0x11).collect();
        let same = PinKeys::of(&bytes.try_into().unwrap());
        assert_eq!(keys.sign(b"text"), same.sign(b"text"));
        let written = PinKeys::parse(&PinKeys::file_of(&[9; 32])).unwrap();
        assert_eq!(written.sign(b"text"), PinKeys::of(&[9; 32]).sign(b"text"));
        assert_eq!(format!("{keys:?}"), "PinKeys(3 keys)", "no key is in the log");
    }

    #[test]
    fn a_wrong_file_is_refused_by_line_without_telling_a_key() {
        let good = "ab".repeat(32);
        for (text, error) in [
            (String::new(), InvalidKeys::None),
            ("# only\n\n".into(), InvalidKeys::None),
            (format!("{good}\nnot a key!"), InvalidKeys::Malformed(2)),
            ("ab".repeat(31), InvalidKeys::Short(1)),
            (format!("{good}\n#\n{good}"), InvalidKeys::Repeated(3)),
            ((0..9).map(|key| format!("{key:02x}").repeat(32) + "\n").collect(), InvalidKeys::TooMany),
        ] {
            assert_eq!(PinKeys::parse(&text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn the_first_key_signs_and_all_are_accepted() {
        let (old, new) = (PinKeys::of(&[1; 32]), PinKeys::of(&[2; 32]));
        let both = PinKeys::parse(&format!("{}\n{}", "02".repeat(32), "01".repeat(32))).unwrap();
        let [by_old, by_new] = [&old, &new].map(|keys| keys.sign(b"text").unwrap());
        assert_eq!(both.sign(b"text"), Some(by_new));
        assert!(both.verify(b"text", &by_old) && both.verify(b"text", &by_new));
        assert!(!old.verify(b"text", &by_new) && !both.verify(b"texts", &by_new));
        assert!(!both.verify(b"text", &by_new[..31]) && !both.verify(b"text", b""));
        let none = PinKeys::default();
        assert!(none.sign(b"text").is_none() && !none.verify(b"text", &by_new));
    }
}
