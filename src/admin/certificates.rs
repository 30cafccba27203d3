//! What the API and the metrics tell of listeners' certificates.
//!
//! Invariant: nothing of a private key is told but where its file is.

use std::{sync::Arc, time::SystemTime};

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use super::{metrics::MAX_SERIES, reading::timestamp, router::Admin};
use crate::{
    telemetry::{prometheus::Text, registry::HandshakeResult},
    tls::{self, Front, Pair, Standing},
};

/// The answer to `GET /v1/certificates`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Listed {
    /// The certificates in force: by the names of their listeners, of one listener in the order of the file; and last those of
    /// the admin API, whose listener is `[admin]`.
    certificates: Vec<CertificateView>,
    /// What is asked of clients, by the names of the listeners that ask for certificates.
    clients: Vec<ClientsView>,
}

/// A certificate in force.
#[derive(Debug, Serialize, JsonSchema)]
struct CertificateView {
    listener: String,
    /// The DNS names that it is for.
    names: Vec<String>,
    issuer: String,
    /// In hexadecimal.
    serial: String,
    not_before: String,
    not_after: String,
    /// SHA-256 of the certificate, in hexadecimal.
    fingerprint: String,
    /// The file of the certificate.
    cert: String,
    /// The file of its key.
    key: String,
    /// The OCSP response that clients are shown with it; `null` if the file names none.
    ocsp: Option<OcspView>,
    /// When it was read.
    loaded_at: String,
    /// Why what is on disk is not in force instead; `null` if it is.
    error: Option<String>,
}

/// What clients are told of a certificate's revocation.
#[derive(Debug, Serialize, JsonSchema)]
struct OcspView {
    /// The file.
    file: String,
    /// Until when clients are shown it; `null` if they are not.
    until: Option<String>,
    /// Why clients are not shown it; `null` if they are.
    error: Option<String>,
}

/// What is asked of the clients of a listener.
#[derive(Debug, Serialize, JsonSchema)]
struct ClientsView {
    listener: String,
    /// `required` or `optional`.
    client_auth: &'static str,
    /// The file of the authorities.
    client_ca: String,
    /// The lists of revocations.
    crl: Vec<ListView>,
    /// Why what is on disk is not in force instead; `null` if it is.
    error: Option<String>,
}

/// A list of revocations.
#[derive(Debug, Serialize, JsonSchema)]
struct ListView {
    file: String,
    issuer: String,
    /// From when on no certificate of the issuer counts, unless there is a newer list.
    next_update: Option<String>,
}

/// `GET /v1/certificates`.
pub(super) async fn list(State(admin): State<Admin>) -> Json<Listed> {
    let fronts = fronts(&admin);
    Json(Listed {
        certificates: fronts.iter().flat_map(|(listener, front)| of_listener(listener, front)).collect(),
        clients: fronts.iter().filter_map(|(listener, front)| ClientsView::of(listener, front)).collect(),
    })
}

/// Whose TLS it is, and that: of this API last, by a name that no listener can have.
fn fronts(admin: &Admin) -> Vec<(String, Arc<Front>)> {
    let listeners = admin.certificates.fronts();
    let listeners = listeners.iter().map(|front| (front.listener.to_string(), Arc::clone(front)));
    listeners.chain(admin.own_tls.iter().map(|front| ("[admin]".to_owned(), Arc::clone(front)))).collect()
}

fn of_listener(listener: &str, front: &Front) -> Vec<CertificateView> {
    let (certificates, standings) = (front.certificates(), front.standings());
    let pairs = certificates.pairs().iter().zip(standings.pairs);
    pairs.map(|(pair, standing)| CertificateView::of(listener, pair, standing)).collect()
}

impl CertificateView {
    fn of(listener: &str, pair: &Pair, standing: Standing) -> Self {
        let facts = &pair.facts;
        Self {
            listener: listener.to_owned(),
            names: facts.names.clone(),
            issuer: facts.issuer.clone(),
            serial: facts.serial.clone(),
            not_before: timestamp(facts.not_before),
            not_after: timestamp(facts.not_after),
            fingerprint: facts.fingerprint.clone(),
            cert: pair.files.certificate.display().to_string(),
            key: pair.files.key.display().to_string(),
            ocsp: pair.files.ocsp.as_ref().map(|file| OcspView {
                file: file.display().to_string(),
                until: pair.staple.as_ref().and_then(|read| read.as_ref().ok()).map(|it| timestamp(it.until)),
                error: pair.staple.as_ref().and_then(|read| read.as_ref().err()).cloned(),
            }),
            loaded_at: timestamp(pair.loaded_at),
            error: standing.error,
        }
    }
}

impl ClientsView {
    fn of(listener: &str, front: &Front) -> Option<Self> {
        let (settings, clients) = (front.settings.clients.as_ref()?, front.clients()?);
        let list = |list: &tls::List| ListView {
            file: list.path.display().to_string(),
            issuer: list.issuer.clone(),
            next_update: list.next_update.map(timestamp),
        };
        Some(Self {
            listener: listener.to_owned(),
            client_auth: if settings.is_required { "required" } else { "optional" },
            client_ca: settings.authorities.display().to_string(),
            crl: clients.lists.iter().map(list).collect(),
            error: front.standings().clients.error,
        })
    }
}

/// Writes the metrics of TLS.
pub(super) fn metrics(admin: &Admin, text: &mut Text) {
    let workers = admin.control.series().workers();
    let help = "TLS handshakes of clients, by what came of them.";
    let mut family = text.counter("switchback_tls_handshakes_total", help);
    for result in HandshakeResult::ALL {
        let count = workers.iter().map(|counts| counts.handshakes[result as usize].value()).sum::<u64>();
        family.sample(&[("result", result.name())], count);
    }
    let fronts = fronts(admin);
    let help = "When a listener's certificate expires, in seconds since 1970; name is its first.";
    let mut family = text.gauge("switchback_certificate_not_after_seconds", help);
    let mut shown = 0;
    for (listener, front) in &fronts {
        for (place, pair) in front.certificates().pairs().iter().enumerate() {
            shown += 1;
            if shown > MAX_SERIES {
                break;
            }
            let name = pair.facts.names.first().map_or("", String::as_str);
            let place = place.to_string();
            let labels = [("listener", listener.as_str()), ("name", name), ("place", &place)];
            let since = pair.facts.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            family.sample(&labels, since.as_secs());
        }
    }
    let help = "Readings of a listener's certificates after a change on disk, by what became of them.";
    let mut family = text.counter("switchback_certificate_reloads_total", help);
    for (listener, front) in &fronts {
        let (applied, refused) = front.reloads();
        for (result, count) in [("applied", applied), ("refused", refused)] {
            family.sample(&[("listener", listener.as_str()), ("result", result)], count);
        }
    }
    let help = "When a list of revocations is out of date, in seconds since 1970: no client of its issuer counts then.";
    let mut family = text.gauge("switchback_crl_next_update_seconds", help);
    for (listener, front) in &fronts {
        let clients = front.clients();
        let lists = clients.iter().flat_map(|clients| &clients.lists).take(MAX_SERIES);
        for (place, list) in lists.enumerate() {
            let Some(next) = list.next_update else { continue };
            let place = place.to_string();
            let labels =
                [("listener", listener.as_str()), ("issuer", list.issuer.as_str()), ("place", &place)];
            family.sample(&labels, next.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
        }
    }
    let help = "1 while certificates on disk can't be used, so that older ones are in force.";
    let mut family = text.gauge("switchback_certificates_refused", help);
    for (listener, front) in &fronts {
        let refused = front.standings().all().any(|standing| standing.error.is_some());
        family.sample(&[("listener", listener.as_str())], u8::from(refused));
    }
}
