//! TLS with the endpoints of a pool, and the protocol that is spoken with them.

use std::{collections::HashSet, sync::Arc};

use crate::{
    config::{
        lower::tls,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{BackSettings, EndpointAddress, EndpointSettings, PairFiles, Protocol},
        spanned::Spanned,
    },
    tls::{BackPart, is_name},
};

pub(super) fn protocol(raw: &Spanned<raw::Pool>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Protocol {
    let Some(protocol) = &raw.protocol else { return Protocol::default() };
    match protocol.value {
        raw::Protocol::Http1 => Protocol::Http1,
        raw::Protocol::Http2 => Protocol::Http2,
        raw::Protocol::Agreed => {
            if raw.tls.is_none() {
                let help =
                    "tls = {}, or protocol = \"h2\" for endpoints that speak HTTP/2 in cleartext".to_owned();
                let message = "only in the handshake of TLS can a protocol be agreed on";
                problems.error(&protocol.span, &at.key("protocol"), message, help);
            }
            Protocol::Agreed
        }
    }
}

pub(super) fn settings(
    raw: &Spanned<raw::Pool>,
    protocol: Protocol,
    endpoints: &[EndpointSettings],
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Arc<BackSettings>> {
    let raw = raw.tls.as_ref()?;
    let at = at.key("tls");
    let before = problems.count();
    let authorities = raw.ca.as_ref().and_then(|text| tls::path(text, &at.key("ca"), problems));
    let is_verified = raw.verify.as_ref().is_none_or(|verify| verify.value);
    if let (false, Some(ca)) = (is_verified, &raw.ca) {
        let help = "without verify = false".to_owned();
        problems.error(&ca.span, &at.key("ca"), "authorities whose certificates nobody looks at", help);
    }
    let settings = BackSettings {
        authorities,
        name: name(raw, is_verified, endpoints, &at, problems),
        is_verified,
        identity: identity(raw, &at, problems),
        min_version: tls::min_version(&raw.min_version),
        protocol,
    };
    if problems.reads_files() && problems.count() == before {
        look_at(&settings, raw, &at, problems);
    }
    Some(Arc::new(settings))
}

/// The name that endpoints have to prove.
fn name(
    raw: &Spanned<raw::PoolTls>,
    is_verified: bool,
    endpoints: &[EndpointSettings],
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Box<str>> {
    if let Some(text) = &raw.name {
        if !is_name(text) {
            let help = "a host name or an address, such as \"app.internal\"".to_owned();
            problems.error(&text.span, &at.key("name"), "this is no name that a certificate has", help);
            return None;
        }
        return Some(text.as_str().into());
    }
    let names: HashSet<Option<&str>> = endpoints
        .iter()
        .map(|endpoint| match &endpoint.address {
            EndpointAddress::Host { name, .. } => Some(&**name),
            _ => None,
        })
        .collect();
    let has_names = endpoints.iter().any(|endpoint| endpoint.address.socket().is_none());
    match (has_names, names.iter().next()) {
        (true, Some(Some(only))) if names.len() == 1 => Some(only.trim_end_matches('.').into()),
        (true, _) if is_verified => {
            let help = "name = \"app.internal\" is the name in the certificates of all of them".to_owned();
            let message = "the endpoints of this pool are declared by several names: which one they have to prove is not clear";
            problems.error(&raw.span, at, message, help);
            None
        }
        _ => None,
    }
}

/// Our own certificate.
fn identity(raw: &Spanned<raw::PoolTls>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<PairFiles> {
    match (&raw.cert, &raw.key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(PairFiles {
            certificate: tls::path(certificate, &at.key("cert"), problems)?,
            key: tls::path(key, &at.key("key"), problems)?,
            ocsp: None,
        }),
        (Some(alone), None) => {
            let help = "key = \"client.key\"".to_owned();
            problems.error(&alone.span, &at.key("cert"), "a certificate without its key", help);
            None
        }
        (None, Some(alone)) => {
            let help = "cert = \"client.pem\"".to_owned();
            problems.error(&alone.span, &at.key("key"), "a key without its certificate", help);
            None
        }
    }
}

/// Reports what is wrong with the files themselves, at the key that names the one that it is about.
fn look_at(
    settings: &BackSettings,
    raw: &Spanned<raw::PoolTls>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    for error in settings.check().err().into_iter().flatten() {
        let (text, at) = match error.part {
            Some(BackPart::Authorities) => (raw.ca.as_ref(), at.key("ca")),
            Some(BackPart::Certificate) => (raw.cert.as_ref(), at.key("cert")),
            Some(BackPart::Key) => (raw.key.as_ref(), at.key("key")),
            None => (None, at.key("ca")),
        };
        let span = text.map_or(raw.span.clone(), |text| text.span.clone());
        problems.error(&span, &at, error.to_string(), error.remedy().to_owned());
    }
}
