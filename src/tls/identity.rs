//! Who a client is by its certificate, and how upstreams are told.
//!
//! Invariant: whatever a certificate says, the fields that are made of it are two lines, and no part of them can be taken for
//! another one: what would end or quote a part is escaped.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::FromDer as _,
    x509::{AttributeTypeAndValue, X509Name},
};

use super::pair::hexadecimal;

/// Who a client is by its certificate, which was verified.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// The subject (RFC 4514), in printable ASCII.
    pub subject: String,
    /// The URIs and DNS names in it (RFC 5280 4.2.1.6), as `URI:…,DNS:…`.
    pub names: String,
    /// The SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// The values of the two fields that tell an upstream.
    certificate: String,
    summary: String,
}

impl Identity {
    /// That of a certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let fingerprint = hexadecimal(&Sha256::digest(certificate));
        let (subject, names) = match X509Certificate::from_der(certificate) {
            Ok((_, parsed)) => (distinguished(parsed.subject()), alternatives(&parsed)),
            // It was good enough to be verified; its fingerprint says who it is.
            Err(_) => (String::new(), Vec::new()),
        };
        // RFC 9440 2.2: the certificate in DER, as a byte sequence of structured fields.
        let certificate = format!(":{}:", STANDARD.encode(certificate));
        let mut summary = format!("Hash={fingerprint};Subject=\"{subject}\"");
        for (kind, name) in &names {
            let _ = write!(summary, ";{kind}={name}");
        }
        let names: Vec<_> = names.iter().map(|(kind, name)| format!("{kind}:{name}")).collect();
        Self { subject, names: names.join(","), fingerprint, certificate, summary }
    }

    /// The fields that tell an upstream: the certificate itself, and what most applications want of it.
    #[inline]
    pub fn fields(&self) -> [(&'static str, &str); 2] {
        [("Client-Cert", &self.certificate), ("X-Forwarded-Client-Cert", &self.summary)]
    }
}

/// A name by RFC 4514: the part that stands last in it comes first.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        let mut separator = if text.is_empty() { "" } else { "," };
        for attribute in part.iter() {
            text.push_str(separator);
            add_attribute(&mut text, attribute);
            separator = "+";
        }
    }
    text
}

fn add_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let kind = attribute.attr_type();
    match oid2abbrev(kind, oid_registry()) {
        Ok(short) => text.push_str(short),
        Err(_) => text.push_str(&kind.to_id_string()),
    }
    text.push('=');
    match attribute.as_str() {
        Ok(value) => add_escaped(text, value),
        // What is no text is shown as it is encoded (RFC 4514 2.4).
        Err(_) => {
            text.push('#');
            text.push_str(&hexadecimal(attribute.as_slice()));
        }
    }
}

/// Escapes by two hexadecimal digits whatever is special somewhere: to RFC 4514, in quotes, or in a field of HTTP.
fn add_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        let is_plain = match byte {
            b' ' => at != 0 && at != last,
            b'#' => at != 0,
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'=' | b'\\' => false,
            byte => byte.is_ascii_graphic(),
        };
        if is_plain {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\{byte:02X}");
        }
    }
}

/// The URIs and DNS names, with what would end one of them in percent encoding.
fn alternatives(certificate: &X509Certificate<'_>) -> Vec<(&'static str, String)> {
    let found = certificate.subject_alternative_name().ok().flatten();
    let names = found.map(|found| &found.value.general_names[..]).unwrap_or_default();
    let shown = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(("URI", encoded(uri, true))),
        GeneralName::DNSName(name) => Some(("DNS", encoded(name, false))),
        _ => None,
    });
    shown.collect()
}

fn encoded(name: &str, keeps_percent: bool) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        let is_plain = match byte {
            b',' | b';' | b'=' | b'"' | b'\\' => false,
            b'%' => keeps_percent,
            byte => byte.is_ascii_graphic(),
        };
        if is_plain {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn identity(name: &str, unit: &str, uri: &str) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, unit);
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.extend(uri.try_into().ok().map(SanType::URI));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Identity::of(certificate.der())
    }

    #[test]
    fn a_client_is_told_of_by_its_certificate_its_subject_and_its_names() {
        let identity = identity("deploy", "a company", "spiffe://example.com/deploy");
        assert_eq!(identity.subject, "CN=deploy,O=a company");
        assert_eq!(identity.names, "URI:spiffe://example.com/deploy");
        let [(_, certificate), (_, summary)] = identity.fields();
        assert!(certificate.starts_with(":MII") && certificate.ends_with(':'), "{certificate}");
        let expected = format!(
            "Hash={};Subject=\"CN=deploy,O=a company\";URI=spiffe://example.com/deploy",
            identity.fingerprint
        );
        assert_eq!(summary, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_name_can_forge_another(name in "[ -~äß\r\n]{1,20}", unit in "[ -~]{1,20}", uri in "[!-~]{1,20}") {
            let identity = identity(&name, &unit, &uri);
            let [(_, certificate), (_, told)] = identity.fields();
            prop_assert!(certificate.bytes().chain(told.bytes()).all(|each| (b' '..=b'~').contains(&each)));
            prop_assert_eq!(told.matches('"').count(), 2, "{}", told);
            // Hash, Subject and the URI: nothing else has been made of what is in it.
            prop_assert_eq!(told.matches(';').count(), 2, "{}", told);
            prop_assert_eq!(identity.subject.matches(',').count(), 1, "{}", identity.subject);
            prop_assert_eq!(identity.subject.matches('=').count(), 2, "{}", identity.subject);
        }
    }
}
