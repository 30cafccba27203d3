//! Byte classes of RFC 9110, and the loops that run over them.

/// What a byte may be in a field name (RFC 9110 5.6.2, `tchar`).
const TOKEN: u8 = 1;
/// A token's byte that many applications read as `-`.
pub(super) const UNDERSCORE: u8 = 2;
/// A token's byte that is neither a letter nor `-`.
pub(super) const ODD: u8 = 4;

/// The class of each byte: 0 for those that no token holds.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'-' => TOKEN,
            b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'.' | b'^' | b'`' | b'|' | b'~' => TOKEN | ODD,
            b'_' => TOKEN | ODD | UNDERSCORE,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// Whether a byte may stand in a token.
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    CLASS[byte as usize] != 0
}

/// Where the token that begins at `at` ends, and the classes of its bytes, or-ed.
#[inline]
pub(super) fn token(bytes: &[u8], at: usize) -> (usize, u8) {
    let mut seen = 0;
    let mut end = at;
    for byte in &bytes[at.min(bytes.len())..] {
        let class = CLASS[usize::from(*byte)];
        if class == 0 {
            break;
        }
        seen |= class;
        end += 1;
    }
    (end, seen)
}

/// Whether a byte ends a field value or has no place in it: a control byte, HTAB apart (RFC 9110 5.5).
#[inline]
fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// The position of the first control byte (HTAB apart) from `at` on, or the length of `bytes`.
#[inline]
pub(super) fn control(bytes: &[u8], mut at: usize) -> usize {
    while let Some((block, _)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<8>) {
        let suspects = suspects(u64::from_le_bytes(*block));
        if suspects == 0 {
            at += 8;
            continue;
        }
        at += (suspects.trailing_zeros() / 8) as usize;
        if bytes[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(|byte| is_control(*byte)).map_or(bytes.len(), |offset| at + offset)
}

/// Marks, by their highest bits, the bytes under 0x20 and those that are 0x7f. Above the lowest mark there may be
/// false ones (a borrow runs upwards); the lowest is always true. See "Bit Twiddling Hacks", "Determine if a word has
/// a byte less than n".
#[inline]
fn suspects(block: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES << 7;
    let deletes = block ^ (ONES * 0x7f);
    let low = block.wrapping_sub(ONES * 0x20) & !block;
    let delete = deletes.wrapping_sub(ONES) & !deletes;
    (low | delete) & TOPS
}

/// The position of the first byte from `at` on that is not visible ASCII, or the length of `bytes`.
#[inline]
pub(super) fn not_visible(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|byte| !(0x21..=0x7e).contains(byte))
        .map_or(bytes.len(), |offset| at + offset)
}

/// A decimal number of digits alone that fits 64 bits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_finds_the_first_wherever_it_lies() {
        for length in 0..50 {
            for position in 0..length {
                for bad in [0u8, 1, b'\r', b'\n', 0x1f, 0x7f] {
                    let mut bytes = vec![b'\t'; length];
                    bytes[position] = bad;
                    assert_eq!(control(&bytes, 0), position);
                }
            }
            assert_eq!(control(&vec![0xff; length], 0), length);
        }
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"007"), Some(7));
        for bad in ["", "+5", "-5", "0x5", "5_0", "5 0", "18446744073709551616", "99999999999999999999999"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }
}
