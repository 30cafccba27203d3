//! The id that follows a request through the systems that serve it (`X-Request-Id`).

/// A request's id: one that was believed, or a new one.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestId {
    text: [u8; Self::MAX_LEN],
    length: u8,
}

impl RequestId {
    /// The longest id that is kept.
    const MAX_LEN: usize = 128;

    /// An id that a trusted peer sent, if it is one line of visible ASCII of a sane length.
    pub(super) fn believed(value: &[u8]) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        fits.then(|| {
            let mut text = [0; Self::MAX_LEN];
            text[..value.len()].copy_from_slice(value);
            Self { text, length: value.len() as u8 }
        })
    }

    /// A new one: 128 random bits in hexadecimal.
    pub(super) fn new(rng: &mut fastrand::Rng) -> Self {
        let mut text = [0; Self::MAX_LEN];
        let mut bits = rng.u128(..);
        for digit in &mut text[..32] {
            *digit = b"0123456789abcdef"[(bits & 15) as usize];
            bits >>= 4;
        }
        Self { text, length: 32 }
    }

    /// Its text.
    pub(super) fn text(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_id_is_believed() {
        assert_eq!(RequestId::believed(b"abc-1").unwrap().text(), b"abc-1");
        for bad in [&b""[..], b"a b", b"a\tb", "\u{e9}".as_bytes(), &[b'x'; 129]] {
            assert!(RequestId::believed(bad).is_none(), "{bad:?}");
        }
        let mut rng = fastrand::Rng::with_seed(7);
        let (first, second) = (RequestId::new(&mut rng), RequestId::new(&mut rng));
        assert!(first.text().len() == 32 && first.text() != second.text());
    }
}
