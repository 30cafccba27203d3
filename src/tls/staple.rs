//! What an OCSP responder says of a certificate (RFC 6960), as a file holds it, to be shown to clients (RFC 6066 8).
//!
//! Invariant: what clients are shown says that this certificate is good, and is in date. Who signed it is not judged here: each
//! client does that.

use std::{path::Path, time::SystemTime};

use x509_parser::{prelude::FromDer as _, time::ASN1Time};

use super::{
    files,
    pair::{hexadecimal, time},
};

/// A response that may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    /// The response in DER.
    pub(super) bytes: Vec<u8>,
    /// When it is out of date.
    pub until: SystemTime,
}

/// What a response says of one certificate.
struct Single<'d> {
    serial: &'d [u8],
    status: u8,
    since: SystemTime,
    until: Option<SystemTime>,
}

/// The identifier of a basic response, 1.3.6.1.5.5.7.48.1.1 (RFC 6960 4.2.1).
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
/// `[0]`, holding a value of its own; and `[1]`.
const TAG_0: u8 = 0xa0;
const TAG_1: u8 = 0xa1;

impl Staple {
    /// Reads the response about the certificate of a serial number, which is in hexadecimal; or says why it is not to be
    /// shown.
    pub(super) fn read(path: &Path, serial: &str, now: SystemTime) -> Result<Self, String> {
        let bytes = files::bytes(path, files::OF_A_CERTIFICATE).map_err(|error| error.to_string())?;
        let until = judge(&bytes, serial, now)?;
        Ok(Self { bytes, until })
    }
}

/// Until when a response may be shown.
fn judge(bytes: &[u8], serial: &str, now: SystemTime) -> Result<SystemTime, String> {
    let malformed = || "it is no OCSP response in DER".to_owned();
    let mut whole = Der(bytes);
    let mut response = Der(whole.take(SEQUENCE).ok_or_else(malformed)?);
    let status = response.take(ENUMERATED).ok_or_else(malformed)?;
    if status != [0] || !whole.0.is_empty() {
        return Err(format!("the responder refused to answer ({})", hexadecimal(status)));
    }
    let singles = singles(response).ok_or_else(malformed)?;
    let single = singles.iter().find(|single| hexadecimal(single.serial) == serial);
    let single = single.ok_or("it is about another certificate")?;
    match single.status {
        0x80 => {}
        TAG_1 => return Err("it says that the certificate is revoked".to_owned()),
        _ => return Err("it says that the responder does not know the certificate".to_owned()),
    }
    if single.since > now {
        return Err("it is not valid yet".to_owned());
    }
    match single.until {
        Some(until) if until > now => Ok(until),
        Some(_) => Err("it is out of date".to_owned()),
        // Newer information is there at any time (RFC 6960 2.4): nobody can tell how long this may be shown.
        None => Err("it does not say until when it is valid".to_owned()),
    }
}

/// What the response, behind its status, says of certificates; `None` if it is malformed.
fn singles(mut response: Der<'_>) -> Option<Vec<Single<'_>>> {
    let mut of_kind = Der(Der(response.take(TAG_0)?).take(SEQUENCE)?);
    if of_kind.take(OID)? != BASIC {
        return None;
    }
    let mut basic = Der(Der(of_kind.take(OCTETS)?).take(SEQUENCE)?);
    let mut data = Der(basic.take(SEQUENCE)?);
    // The version, the responder and the time of the response, up to the list.
    data.take(TAG_0);
    data.any()?;
    data.any()?;
    let mut list = Der(data.take(SEQUENCE)?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        found.push(single(Der(list.take(SEQUENCE)?))?);
    }
    Some(found)
}

fn single(mut of_one: Der<'_>) -> Option<Single<'_>> {
    let mut certificate = Der(of_one.take(SEQUENCE)?);
    // How names and keys are hashed, and both hashes.
    certificate.take(SEQUENCE)?;
    certificate.take(OCTETS)?;
    certificate.take(OCTETS)?;
    let serial = certificate.take(INTEGER)?;
    let (status, _) = of_one.any()?;
    let since = of_one.time()?;
    let until = match of_one.take(TAG_0) {
        Some(until) => Some(Der(until).time()?),
        None => None,
    };
    Some(Single { serial, status, since, until })
}

/// What is left to read of a value in DER (X.690).
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The content of the next value if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        if *self.0.first()? != tag {
            return None;
        }
        self.any().map(|(_, content)| content)
    }

    /// The next value's tag and content.
    fn any(&mut self) -> Option<(u8, &'d [u8])> {
        let (tag, length, rest) = match self.0 {
            [tag, length @ 0..=0x7f, rest @ ..] => (*tag, usize::from(*length), rest),
            [tag, 0x81, length, rest @ ..] => (*tag, usize::from(*length), rest),
            [tag, 0x82, high, low, rest @ ..] => (*tag, usize::from(u16::from_be_bytes([*high, *low])), rest),
            [tag, 0x83, top, high, low, rest @ ..] => {
                (*tag, u32::from_be_bytes([0, *top, *high, *low]) as usize, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn time(&mut self) -> Option<SystemTime> {
        let (rest, found) = ASN1Time::from_der(self.0).ok()?;
        self.0 = rest;
        Some(time(found.timestamp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = content.len() as u16;
        [&[tag, 0x82], &length.to_be_bytes()[..], &content].concat()
    }

    fn generalized(year: u16) -> Vec<u8> {
        der(0x18, &[format!("{year}0101000000Z").as_bytes()])
    }

    /// A response about the certificate with the serial number 7f; what is no part of the judgement is left empty.
    fn response(status: u8, since: u16, until: Option<u16>) -> Vec<u8> {
        let algorithm = der(SEQUENCE, &[]);
        let (names, keys, serial) = (der(OCTETS, &[]), der(OCTETS, &[]), der(INTEGER, &[&[0x7f]]));
        let certificate = der(SEQUENCE, &[&algorithm, &names, &keys, &serial]);
        let until = until.map_or(Vec::new(), |year| der(TAG_0, &[&generalized(year)]));
        let single = der(SEQUENCE, &[&certificate, &der(status, &[]), &generalized(since), &until]);
        let responder = der(0xa2, &[]);
        let data = der(SEQUENCE, &[&responder, &generalized(since), &der(SEQUENCE, &[&single])]);
        let basic = der(OCTETS, &[&der(SEQUENCE, &[&data])]);
        let of_kind = der(SEQUENCE, &[&der(OID, &[BASIC]), &basic]);
        der(SEQUENCE, &[&der(ENUMERATED, &[&[0]]), &der(TAG_0, &[&of_kind])])
    }

    #[test]
    fn only_what_says_in_time_that_this_certificate_is_good_is_shown() {
        let now = SystemTime::now();
        let (good, revoked, unknown) = (0x80, TAG_1, 0x82);
        let judged = |status, since, until, serial| judge(&response(status, since, until), serial, now);
        assert!(judged(good, 2020, Some(2100), "7f").is_ok_and(|until| until > now));
        for (status, since, until, serial, why) in [
            (good, 2020, Some(2021), "7f", "out of date"),
            (good, 2020, None, "7f", "until when"),
            (good, 2099, Some(2100), "7f", "not valid yet"),
            (revoked, 2020, Some(2100), "7f", "revoked"),
            (unknown, 2020, Some(2100), "7f", "does not know"),
            (good, 2020, Some(2100), "7e", "another certificate"),
        ] {
            let said = judged(status, since, until, serial).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
        let whole = response(good, 2020, Some(2100));
        for length in 0..whole.len() {
            judge(&whole[..length], "7f", now).unwrap_err();
        }
    }

    #[test]
    fn what_is_cut_or_garbled_is_refused() {
        let mut rng = fastrand::Rng::with_seed(7);
        for length in 0..200 {
            let mut bytes: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
            judge(&bytes, "01", SystemTime::now()).unwrap_err();
            bytes.splice(0..0, [SEQUENCE, 0x81, length as u8, ENUMERATED, 1, 0, TAG_0]);
            judge(&bytes, "01", SystemTime::now()).unwrap_err();
        }
    }

    #[test]
    fn a_refusal_of_the_responder_is_said() {
        let said = judge(&[SEQUENCE, 3, ENUMERATED, 1, 3], "01", SystemTime::now()).unwrap_err();
        assert!(said.contains("refused"), "{said}");
    }
}
