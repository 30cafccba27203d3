//! TLS of listeners.

use std::{path::PathBuf, time::SystemTime};

use super::{limit, value};
use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{ClientSettings, Hsts, MinVersion, PairFiles, TlsSettings},
        spanned::Spanned,
    },
    tls::{self, ClientPart, Part},
};

/// The keys that a listener and the admin API both have.
struct Shared<'r> {
    span: &'r std::ops::Range<usize>,
    certificates: &'r Option<Spanned<Vec<Spanned<raw::CertificatePair>>>>,
    min_version: &'r Option<Spanned<raw::TlsVersion>>,
    handshake_timeout: &'r Option<Spanned<raw::DurationText>>,
    client_ca: &'r Option<Spanned<String>>,
    client_auth: &'r Option<Spanned<raw::ClientAuth>>,
    crl: &'r [Spanned<String>],
}

/// Those of a listener.
pub(super) fn settings(
    raw: &Spanned<raw::ListenerTls>,
    of: &str,
    http2: bool,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<TlsSettings> {
    let shared = Shared {
        span: &raw.span,
        certificates: &raw.certificates,
        min_version: &raw.min_version,
        handshake_timeout: &raw.handshake_timeout,
        client_ca: &raw.client_ca,
        client_auth: &raw.client_auth,
        crl: &raw.crl,
    };
    let settings = shared.settings(of, at, problems);
    let keys = &raw.ticket_keys;
    let ticket_keys = keys.as_ref().and_then(|text| path(text, &at.key("ticket_keys"), problems));
    let hsts = raw.hsts.as_ref().map(|raw| hsts(raw, &at.key("hsts"), problems));
    Some(TlsSettings { http2, ticket_keys, hsts, ..settings? })
}

/// Those of the admin API.
pub(super) fn of_admin(
    raw: &Spanned<raw::AdminTls>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<TlsSettings> {
    let shared = Shared {
        span: &raw.span,
        certificates: &raw.certificates,
        min_version: &raw.min_version,
        handshake_timeout: &raw.handshake_timeout,
        client_ca: &raw.client_ca,
        client_auth: &raw.client_auth,
        crl: &raw.crl,
    };
    shared.settings("the admin API: ", at, problems)
}

impl Shared<'_> {
    fn settings(&self, of: &str, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<TlsSettings> {
        let place = at.key("certificates");
        let certificates = certificates(self.certificates.as_ref(), of, &place, problems);
        let clients = clients(self, of, at, problems);
        let min_version =
            self.min_version.as_ref().map_or(defaults::MIN_TLS_VERSION, |version| match version.value {
                raw::TlsVersion::V12 => MinVersion::V12,
                raw::TlsVersion::V13 => MinVersion::V13,
            });
        let (timeout, place) = (self.handshake_timeout, at.key("handshake_timeout"));
        let handshake_timeout = value::timeout(timeout, defaults::HANDSHAKE_TIMEOUT, &place, problems);
        Some(TlsSettings {
            certificates: certificates?,
            min_version,
            handshake_timeout,
            // The admin API speaks HTTP/1.1 alone.
            http2: false,
            clients,
            ticket_keys: None,
            hsts: None,
        })
    }
}

fn certificates(
    list: Option<&Spanned<Vec<Spanned<raw::CertificatePair>>>>,
    of: &str,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Vec<PairFiles>> {
    let list = list?;
    if list.is_empty() {
        let help = "{ cert = \"site.pem\", key = \"site.key\" }, at least once".to_owned();
        problems.error(&list.span, at, "there is no certificate", help);
    }
    limit(list, defaults::MAX_CERTIFICATES, |pair| pair.span.clone(), at, problems);
    let mut certificates = Vec::new();
    for (index, pair) in list.iter().enumerate() {
        let at = at.index(index);
        let mut file = |text: &Option<Spanned<String>>, key| {
            text.as_ref().and_then(|text| path(text, &at.key(key), problems))
        };
        let (certificate, key, ocsp) =
            (file(&pair.cert, "cert"), file(&pair.key, "key"), file(&pair.ocsp, "ocsp"));
        if let (Some(certificate), Some(key)) = (certificate, key) {
            let files = PairFiles { certificate, key, ocsp };
            if problems.reads_files() {
                look_at(&files, pair, of, &at, problems);
            }
            certificates.push(files);
        }
    }
    Some(certificates)
}

/// What is asked of clients.
fn clients(
    raw: &Shared<'_>,
    of: &str,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<ClientSettings> {
    let Some(authorities) = raw.client_ca else {
        let alone = raw.client_auth.as_ref().map(|auth| (auth.span.clone(), "client_auth"));
        let lists = raw.crl.first().map(|list| (list.span.clone(), "crl"));
        for (span, key) in [alone, lists].into_iter().flatten() {
            let help =
                "client_ca = \"ca.pem\" names the authorities whose certificates clients show".to_owned();
            let message = format!("\"{key}\" has no meaning without \"client_ca\"");
            problems.error(&span, &at.key(key), message, help);
        }
        return None;
    };
    let lists = at.key("crl");
    limit(raw.crl, defaults::MAX_REVOCATION_LISTS, |text| text.span.clone(), &lists, problems);
    let revocations = raw.crl.iter().enumerate();
    let revocations: Vec<_> =
        revocations.filter_map(|(index, text)| path(text, &lists.index(index), problems)).collect();
    let settings = ClientSettings {
        authorities: path(authorities, &at.key("client_ca"), problems)?,
        is_required: !raw
            .client_auth
            .as_ref()
            .is_some_and(|auth| matches!(auth.value, raw::ClientAuth::Optional)),
        revocations,
    };
    if problems.reads_files() && settings.revocations.len() == raw.crl.len() {
        look_at_clients(&settings, raw, of, at, problems);
    }
    Some(settings)
}

/// Reports what is wrong with the files themselves, at the key that names the one that it is about.
fn look_at_clients(
    settings: &ClientSettings,
    raw: &Shared<'_>,
    of: &str,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    let span = |part| match part {
        ClientPart::Authorities => raw.client_ca.as_ref().map(|text| text.span.clone()),
        ClientPart::Revocations(place) => raw.crl.get(place).map(|text| text.span.clone()),
    };
    let lists = at.key("crl");
    match tls::Clients::read(settings, &tls::provider()) {
        Ok(clients) => {
            for (file, message, help) in clients.warnings(SystemTime::now()) {
                let place = settings.revocations.iter().position(|known| *known == file).unwrap_or_default();
                let span = span(ClientPart::Revocations(place)).unwrap_or(raw.span.clone());
                problems.warning(&span, &lists.index(place), format!("{of}{message}"), help);
            }
        }
        Err(errors) => {
            for error in errors {
                let span = span(error.part).unwrap_or(raw.span.clone());
                let (message, help) = (format!("{of}{error}"), error.remedy().to_owned());
                match error.part {
                    ClientPart::Authorities => problems.error(&span, &at.key("client_ca"), message, help),
                    ClientPart::Revocations(place) => {
                        problems.error(&span, &lists.index(place), message, help);
                    }
                }
            }
        }
    }
}

fn hsts(raw: &Spanned<raw::Hsts>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Hsts {
    let most = defaults::MAX_HSTS_MAX_AGE;
    let age = value::span_of_time(&raw.max_age, defaults::HSTS_MAX_AGE, most, &at.key("max_age"), problems);
    let is_set = |choice: &Option<Spanned<bool>>| choice.as_ref().is_some_and(|choice| choice.value);
    let (subdomains, preload) = (is_set(&raw.include_subdomains), is_set(&raw.preload));
    if preload && (!subdomains || age < defaults::HSTS_MAX_AGE) {
        let help = "include_subdomains = true, and a max_age of \"8760h\" or more".to_owned();
        let message = "the lists that browsers bring along take no host by these terms";
        problems.error(&raw.span, &at.key("preload"), message, help);
    }
    Hsts::new(age, subdomains, preload)
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
    of: &str,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    let place = |part| match part {
        Part::Certificate => (&raw.cert, at.key("cert")),
        Part::Key => (&raw.key, at.key("key")),
        Part::Ocsp => (&raw.ocsp, at.key("ocsp")),
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
