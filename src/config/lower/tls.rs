//! TLS of listeners.

use std::{path::PathBuf, time::SystemTime};

use super::{limit, value};
use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{MinVersion, PairFiles, TlsSettings},
        spanned::Spanned,
    },
    model::name::Name,
    tls::{self, Part},
};

pub(super) fn settings(
    raw: &Spanned<raw::ListenerTls>,
    listener: Option<&Name>,
    http2: bool,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<TlsSettings> {
    let list = raw.certificates.as_ref()?;
    let place = at.key("certificates");
    if list.is_empty() {
        let help = "{ cert = \"site.pem\", key = \"site.key\" }, at least once".to_owned();
        problems.error(&list.span, &place, "there is no certificate", help);
    }
    limit(list, defaults::MAX_CERTIFICATES, |pair| pair.span.clone(), &place, problems);
    let mut certificates = Vec::new();
    for (index, pair) in list.iter().enumerate() {
        let at = place.index(index);
        let certificate = pair.cert.as_ref().and_then(|text| path(text, &at.key("cert"), problems));
        let key = pair.key.as_ref().and_then(|text| path(text, &at.key("key"), problems));
        if let (Some(certificate), Some(key)) = (certificate, key) {
            let files = PairFiles { certificate, key };
            if problems.reads_files() {
                look_at(&files, pair, listener, &at, problems);
            }
            certificates.push(files);
        }
    }
    let timeout = &raw.handshake_timeout;
    Some(TlsSettings {
        certificates,
        min_version: raw.min_version.as_ref().map_or(defaults::MIN_TLS_VERSION, |version| {
            match version.value {
                raw::TlsVersion::V12 => MinVersion::V12,
                raw::TlsVersion::V13 => MinVersion::V13,
            }
        }),
        handshake_timeout: value::timeout(
            timeout,
            defaults::HANDSHAKE_TIMEOUT,
            &at.key("handshake_timeout"),
            problems,
        ),
        http2,
    })
}

fn path(text: &Spanned<String>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        problems.error(&text.span, at, "this is no path", "such as \"site.pem\"".to_owned());
        return None;
    }
    Some(PathBuf::from(text.as_str()))
}

/// Reports what is wrong with the files themselves, at the key that names the one that it is about.
fn look_at(
    files: &PairFiles,
    raw: &Spanned<raw::CertificatePair>,
    listener: Option<&Name>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    let of = listener.map_or_else(String::new, |name| format!("listener {name}: "));
    let place = |part| match part {
        Part::Certificate => (&raw.cert, at.key("cert")),
        Part::Key => (&raw.key, at.key("key")),
    };
    let span =
        |text: &Option<Spanned<String>>| text.as_ref().map_or(raw.span.clone(), |text| text.span.clone());
    match tls::Pair::read(files, &tls::provider()) {
        Ok(pair) => {
            for (part, message, help) in pair.warnings(SystemTime::now()) {
                let (text, at) = place(part);
                problems.warning(&span(text), &at, format!("{of}{message}"), help);
            }
        }
        Err(error) => {
            let (text, at) = place(error.part());
            problems.error(&span(text), &at, format!("{of}{error}"), error.remedy().to_owned());
        }
    }
}
