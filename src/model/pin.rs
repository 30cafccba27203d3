//! A pin: what a client carries so that its session stays where it is.
//!
//! As text it is `v1.PAYLOAD.SIGNATURE`, or `u1.PAYLOAD` where a split does not sign its pins, both parts in base64url
//! without padding (RFC 4648 5). The payload is, in this order: the session (8 bytes), the moment of issue in
//! milliseconds since 1970 (6 bytes, both big-endian), the endpoint (the byte 0 for none, or 4 or 6 followed by an IPv4
//! or IPv6 address and a port of 2 bytes), and the names of the split and the pool with a `/` between them. The
//! signature is over the payload as text.
//!
//! Invariant: a text has one reading and a pin one text, so that whatever was changed is refused; nothing here panics
//! or allocates, whatever comes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    name::Name,
    pin_keys::{PinKeys, SIGNATURE},
};

/// A session's remembered place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin<'a> {
    /// Which session: drawn at random when it began, the same for as long as it lasts.
    pub session: u64,
    /// When it was issued, in milliseconds since 1970; under 2^48.
    pub issued: u64,
    /// The endpoint, where the split pins to endpoints.
    pub endpoint: Option<SocketAddr>,
    /// The split that it belongs to: it is nothing in another.
    pub split: &'a str,
    /// The pool.
    pub pool: &'a str,
}

/// Why a text is no pin of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPin {
    /// It has not the form of a pin of this version.
    #[error("it is malformed")]
    Malformed,
    /// It is not signed by any of the keys in use.
    #[error("no key in use has signed it")]
    Tampered,
    /// It belongs to another split.
    #[error("it belongs to another split")]
    Foreign,
}

/// Room for the text of a pin.
#[derive(Debug, Clone)]
pub struct PinText {
    bytes: [u8; MAX_TEXT],
    length: usize,
}

/// Room for the payload that a pin's names point into.
#[derive(Debug)]
pub struct PinBuffer([u8; ROOM]);

const SIGNED: &[u8] = b"v1.";
const UNSIGNED: &[u8] = b"u1.";
/// Session, moment of issue, and the kind of the endpoint.
const FIXED: usize = 8 + 6 + 1;
const MAX_PAYLOAD: usize = FIXED + 16 + 2 + 2 * Name::MAX_LEN + 1;
/// A decoder may ask for a little more room than it fills.
const ROOM: usize = MAX_PAYLOAD + 8;
/// The longest text of a pin.
pub const MAX_TEXT: usize = SIGNED.len() + encoded(MAX_PAYLOAD) + 1 + encoded(SIGNATURE);
/// The bits of a moment.
const MOMENT: u64 = (1 << 48) - 1;

/// The length of a number of bytes in base64 without padding.
const fn encoded(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

impl<'a> Pin<'a> {
    /// Reads the text of a pin of `split`. With keys it must be signed by one of them; without, it must be unsigned.
    pub fn read(
        text: &[u8],
        split: &Name,
        keys: Option<&PinKeys>,
        buffer: &'a mut PinBuffer,
    ) -> Result<Self, InvalidPin> {
        if text.len() > MAX_TEXT {
            return Err(InvalidPin::Malformed);
        }
        let payload = match keys {
            None => text.strip_prefix(UNSIGNED).ok_or(InvalidPin::Malformed)?,
            Some(keys) => verified(text.strip_prefix(SIGNED).ok_or(InvalidPin::Malformed)?, keys)?,
        };
        let length =
            URL_SAFE_NO_PAD.decode_slice(payload, &mut buffer.0).map_err(|_| InvalidPin::Malformed)?;
        let pin = Self::parse(&buffer.0[..length]).ok_or(InvalidPin::Malformed)?;
        if pin.split == split.as_str() { Ok(pin) } else { Err(InvalidPin::Foreign) }
    }

    fn parse(payload: &'a [u8]) -> Option<Self> {
        let (session, rest) = payload.split_first_chunk::<8>()?;
        let (issued, rest) = rest.split_first_chunk::<6>()?;
        let (kind, rest) = rest.split_first()?;
        let (address, rest): (Option<IpAddr>, &[u8]) = match kind {
            0 => (None, rest),
            4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (Some(Ipv4Addr::from(*ip).into()), rest))?,
            6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (Some(Ipv6Addr::from(*ip).into()), rest))?,
            _ => return None,
        };
        let (endpoint, names) = match address {
            None => (None, rest),
            Some(ip) => {
                let (port, rest) = rest.split_first_chunk::<2>()?;
                (Some(SocketAddr::new(ip, u16::from_be_bytes(*port))), rest)
            }
        };
        let (split, pool) = std::str::from_utf8(names).ok()?.split_once('/')?;
        if !Name::is_one(split) || !Name::is_one(pool) {
            return None;
        }
        let mut moment = [0; 8];
        moment[2..].copy_from_slice(issued);
        let (session, issued) = (u64::from_be_bytes(*session), u64::from_be_bytes(moment));
        Some(Self { session, issued, endpoint, split, pool })
    }

    /// The text of this pin, signed if there are keys; `None` if there are, but none of them can sign.
    ///
    /// The names are those of a [`Name`].
    pub fn write(&self, keys: Option<&PinKeys>) -> Option<PinText> {
        let mut payload = PinText { bytes: [0; MAX_TEXT], length: 0 };
        payload.push(&self.session.to_be_bytes());
        payload.push(&self.issued.min(MOMENT).to_be_bytes()[2..]);
        match self.endpoint.map(|endpoint| (endpoint.ip(), endpoint.port())) {
            None => payload.push(&[0]),
            Some((IpAddr::V4(ip), port)) => {
                payload.push(&[4]);
                payload.push(&ip.octets());
                payload.push(&port.to_be_bytes());
            }
            Some((IpAddr::V6(ip), port)) => {
                payload.push(&[6]);
                payload.push(&ip.octets());
                payload.push(&port.to_be_bytes());
            }
        }
        payload.push(self.split.as_bytes());
        payload.push(b"/");
        payload.push(self.pool.as_bytes());
        let mut text = PinText { bytes: [0; MAX_TEXT], length: 0 };
        text.push(if keys.is_some() { SIGNED } else { UNSIGNED });
        let start = text.length;
        text.push_encoded(payload.as_bytes());
        if let Some(keys) = keys {
            let signature = keys.sign(&text.bytes[start..text.length])?;
            text.push(b".");
            text.push_encoded(&signature);
        }
        Some(text)
    }
}

/// The payload of `PAYLOAD.SIGNATURE`, if the signature is right.
fn verified<'a>(text: &'a [u8], keys: &PinKeys) -> Result<&'a [u8], InvalidPin> {
    let dot = memchr::memchr(b'.', text).ok_or(InvalidPin::Malformed)?;
    let (payload, signature) = (&text[..dot], &text[dot + 1..]);
    if signature.len() != encoded(SIGNATURE) {
        return Err(InvalidPin::Malformed);
    }
    let mut bytes = [0; SIGNATURE + 8];
    let length = URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes).map_err(|_| InvalidPin::Malformed)?;
    if keys.verify(payload, &bytes[..length]) { Ok(payload) } else { Err(InvalidPin::Tampered) }
}

impl PinText {
    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    fn push_encoded(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.length..];
        self.length +=
            URL_SAFE_NO_PAD.encode_slice(bytes, room).expect("a pin's text is as long as its longest parts");
    }
}

impl Default for PinBuffer {
    fn default() -> Self {
        Self([0; ROOM])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> PinKeys {
        PinKeys::of(&[7; 32])
    }

    fn names() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}"
    }

    fn read<'a>(
        text: &[u8],
        split: &str,
        keys: Option<&PinKeys>,
        buffer: &'a mut PinBuffer,
    ) -> Result<Pin<'a>, InvalidPin> {
        Pin::read(text, &Name::new(split).unwrap(), keys, buffer)
    }

    /// Computed with Python's hmac and base64, by the program in `docs/sticky.md`.
    #[test]
    fn the_published_vectors_hold() {
        let endpoint = Some("127.0.0.1:9001".parse().unwrap());
        let pin = |endpoint| Pin {
            session: 0x0123_4567_89ab_cdef,
            issued: 1_700_000_000_000,
            endpoint,
            split: "shop",
            pool: "green",
        };
        for (pin, keys, text) in [
            (pin(None), None, "u1.ASNFZ4mrze8Bi8_laAAAc2hvcC9ncmVlbg"),
            (
                pin(None),
                Some(keys()),
                "v1.ASNFZ4mrze8Bi8_laAAAc2hvcC9ncmVlbg.2-dl9eyEoXtqjUbGbrLF2OgRS2utJB02xiQIjdIRFnA",
            ),
            (
                pin(endpoint),
                Some(keys()),
                "v1.ASNFZ4mrze8Bi8_laAAEfwAAASMpc2hvcC9ncmVlbg.-BNNNuhbGDKsUzwDky0LXLfq3tm5ry9SQGCU9kDwrrA",
            ),
        ] {
            assert_eq!(std::str::from_utf8(pin.write(keys.as_ref()).unwrap().as_bytes()), Ok(text));
            assert_eq!(read(text.as_bytes(), "shop", keys.as_ref(), &mut PinBuffer::default()), Ok(pin));
        }
    }

    #[test]
    fn a_pin_is_nothing_in_another_split_nor_in_the_other_form() {
        let pin = Pin { session: 1, issued: 2, endpoint: None, split: "shop", pool: "green" };
        let (signed, unsigned) = (pin.write(Some(&keys())).unwrap(), pin.write(None).unwrap());
        let buffer = &mut PinBuffer::default();
        for (text, keys, error) in [
            (&signed, None, InvalidPin::Malformed),
            (&unsigned, Some(keys()), InvalidPin::Malformed),
            (&signed, Some(PinKeys::of(&[8; 32])), InvalidPin::Tampered),
            (&signed, Some(PinKeys::default()), InvalidPin::Tampered),
        ] {
            assert_eq!(read(text.as_bytes(), "shop", keys.as_ref(), buffer), Err(error));
        }
        for (text, keys) in [(&signed, Some(&keys())), (&unsigned, None)] {
            assert_eq!(read(text.as_bytes(), "cart", keys, buffer), Err(InvalidPin::Foreign));
        }
        assert!(pin.write(Some(&PinKeys::default())).is_none(), "what can't be signed is not issued");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn what_is_written_is_read_and_any_change_of_it_is_refused(
            session: u64, issued in 0..=MOMENT, endpoint: Option<SocketAddr>, split in names(), pool in names(),
            place: prop::sample::Index, byte: u8, cut: prop::sample::Index,
        ) {
            // A scope or flow of IPv6 is of one machine, and no endpoint has one.
            let endpoint = endpoint.map(|endpoint| SocketAddr::new(endpoint.ip(), endpoint.port()));
            let pin = Pin { session, issued, endpoint, split: &split, pool: &pool };
            for keys in [None, Some(keys())] {
                let keys = keys.as_ref();
                let text = pin.write(keys).unwrap();
                prop_assert!(text.as_bytes().len() <= MAX_TEXT);
                let whole = &mut PinBuffer::default();
                prop_assert_eq!(read(text.as_bytes(), &split, keys, whole), Ok(pin));
                let mut changed = text.as_bytes().to_vec();
                let place = place.index(changed.len());
                changed[place] = byte;
                let buffer = &mut PinBuffer::default();
                if keys.is_some() && byte != text.as_bytes()[place] {
                    prop_assert!(read(&changed, &split, keys, buffer).is_err());
                }
                if let Ok(other) = read(&changed, &split, keys, buffer) {
                    // Unsigned, another text is another pin: none has two texts.
                    let again = other.write(keys).unwrap();
                    prop_assert_eq!(again.as_bytes(), &changed[..]);
                }
                let cut = &text.as_bytes()[..cut.index(text.as_bytes().len())];
                prop_assert!(keys.is_none() || read(cut, &split, keys, &mut PinBuffer::default()).is_err());
                let longer = [text.as_bytes(), b"A"].concat();
                prop_assert!(keys.is_none() || read(&longer, &split, keys, &mut PinBuffer::default()).is_err());
            }
        }

        #[test]
        fn nothing_that_comes_is_a_panic(text: Vec<u8>, payload in prop::collection::vec(any::<u8>(), 0..400)) {
            let encoded = URL_SAFE_NO_PAD.encode(&payload);
            let signature = URL_SAFE_NO_PAD.encode([0; SIGNATURE]);
            let signed = format!("v1.{encoded}.{signature}").into_bytes();
            let unsigned = format!("u1.{encoded}").into_bytes();
            for text in [&text, &signed, &unsigned] {
                prop_assert!(read(text, "shop", Some(&keys()), &mut PinBuffer::default()).is_err());
                if let Ok(pin) = read(text, "shop", None, &mut PinBuffer::default()) {
                    let again = pin.write(None).unwrap();
                    prop_assert_eq!(again.as_bytes(), &text[..]);
                }
            }
        }
    }
}
