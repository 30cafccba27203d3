//! Which certificates of clients count: those of some authorities, but for what these have revoked.
//!
//! Invariant: where there is a list of revocations, a certificate counts only if a list in date says of each authority in
//! its chain that it has not revoked it. A session that is resumed is judged anew.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest as _, Sha256};
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::{files, pair::time, roots, settings::ClientSettings};

/// Which certificates of clients count.
#[derive(Debug)]
pub struct Clients {
    /// The lists of revocations.
    pub lists: Vec<List>,
    is_required: bool,
    verifier: Arc<dyn ClientCertVerifier>,
    /// Of all that was read: another one tells that other clients may count.
    digest: [u8; 32],
}

/// A list of revocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The file.
    pub path: PathBuf,
    /// Who issued it.
    pub issuer: String,
    /// When a newer one is to be there; from then on no certificate of this authority counts.
    pub next_update: Option<SystemTime>,
}

/// Which file of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientPart {
    /// That of the authorities.
    Authorities,
    /// That of a list of revocations, by its place.
    Revocations(usize),
}

/// Why it can't be told which certificates count.
#[derive(Debug, thiserror::Error)]
#[error("{} {why}", path.display())]
pub struct ClientsError {
    /// Which file.
    pub part: ClientPart,
    path: PathBuf,
    why: String,
}

impl ClientsError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self.part {
            ClientPart::Authorities => {
                "a PEM file with BEGIN CERTIFICATE: the authorities that issue certificates to clients"
            }
            ClientPart::Revocations(_) => {
                "a list of revocations (CRL) in PEM, with BEGIN X509 CRL, or in DER: openssl ca -gencrl"
            }
        }
    }
}

impl Clients {
    /// Reads all files, or finds out everything that is wrong with them.
    pub fn read(
        settings: &ClientSettings,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Vec<ClientsError>> {
        let mut errors = Vec::new();
        let mut digest = Sha256::new_with_prefix([u8::from(settings.is_required)]);
        let roots = authorities(&settings.authorities, &mut digest).map_err(|error| errors.push(error)).ok();
        let (mut lists, mut revocations) = (Vec::new(), Vec::new());
        for (place, path) in settings.revocations.iter().enumerate() {
            match revoked(path, place) {
                Ok(found) => {
                    for (list, der) in found {
                        add(&mut digest, &der);
                        lists.push(list);
                        revocations.push(der);
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        let Some(roots) = roots.filter(|_| errors.is_empty()) else { return Err(errors) };
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .with_crls(revocations)
            .enforce_revocation_expiration();
        if !settings.is_required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|error| {
            // The authorities are good; each list was read, but by another reader.
            let (part, path) = match settings.revocations.first() {
                Some(path) => (ClientPart::Revocations(0), path),
                None => (ClientPart::Authorities, &settings.authorities),
            };
            vec![ClientsError { part, path: path.clone(), why: format!("can't be used: {error}") }]
        })?;
        Ok(Self { lists, is_required: settings.is_required, verifier, digest: digest.finalize().into() })
    }

    /// Everything about them that is allowed and will surprise, with what to do.
    pub fn warnings(&self, now: SystemTime) -> Vec<(PathBuf, String, String)> {
        let is_over = |list: &&List| list.next_update.is_some_and(|next| next <= now);
        let warning = |list: &List| {
            let message = format!(
                "the list of revocations in {} is out of date: no client of {} is let in",
                list.path.display(),
                list.issuer
            );
            (list.path.clone(), message, "fetch a new one".to_owned())
        };
        self.lists.iter().filter(is_over).map(warning).collect()
    }

    /// What judges certificates in a handshake.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// What tells these from others.
    pub(super) fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// Judges what a session that was resumed had shown at its beginning.
    pub(super) fn judge(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<(), rustls::Error> {
        match chain {
            Some([own, above @ ..]) => {
                self.verifier.verify_client_cert(own, above, UnixTime::now()).map(|_| ())
            }
            _ if self.is_required => Err(rustls::Error::NoCertificatesPresented),
            _ => Ok(()),
        }
    }
}

fn authorities(path: &Path, digest: &mut Sha256) -> Result<RootCertStore, ClientsError> {
    let (roots, found) = roots::of_file(path).map_err(|why| ClientsError {
        part: ClientPart::Authorities,
        path: path.to_owned(),
        why,
    })?;
    found.iter().for_each(|certificate| add(digest, certificate));
    Ok(roots)
}

/// The lists of a file.
fn revoked(
    path: &Path,
    place: usize,
) -> Result<Vec<(List, CertificateRevocationListDer<'static>)>, ClientsError> {
    let part = ClientPart::Revocations(place);
    let fault = |why: String| ClientsError { part, path: path.to_owned(), why };
    let bytes =
        files::bytes(path, files::OF_A_LIST).map_err(|error| fault(format!("can't be read: {error}")))?;
    // What begins as a sequence does in DER is no text.
    let found = if bytes.first() == Some(&0x30) {
        Ok(vec![CertificateRevocationListDer::from(bytes)])
    } else {
        CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>()
    };
    let found = found.map_err(|error| fault(format!("can't be used: {}", files::pem_fault(&error))))?;
    if found.is_empty() {
        return Err(fault("holds no list of revocations".to_owned()));
    }
    let read = |der: CertificateRevocationListDer<'static>| {
        let (_, list) = CertificateRevocationList::from_der(&der)
            .map_err(|error| fault(format!("holds no list of revocations that can be used: {error}")))?;
        let issuer = list.issuer().to_string();
        let next_update = list.next_update().map(|next| time(next.timestamp()));
        Ok((List { path: path.to_owned(), issuer, next_update }, der))
    };
    found.into_iter().map(read).collect()
}

/// Adds bytes to a digest such that no two series of them come to the same.
fn add(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;
    use crate::tls::provider;

    #[test]
    fn a_session_that_is_resumed_is_judged_by_what_it_began_with() {
        let path = std::env::temp_dir().join(format!("switchback-clients-{}.pem", std::process::id()));
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let of_year = |year| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
            params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
        };
        let (good, late) = (of_year(2100), of_year(2021));
        for is_required in [true, false] {
            let settings = ClientSettings { authorities: path.clone(), is_required, revocations: Vec::new() };
            let clients = Clients::read(&settings, &provider()).unwrap();
            assert!(clients.judge(Some(std::slice::from_ref(&good))).is_ok());
            assert!(clients.judge(Some(std::slice::from_ref(&late))).is_err(), "it has expired since");
            assert_eq!(clients.judge(None).is_err(), is_required);
            assert_eq!(clients.judge(Some(&[])).is_err(), is_required);
        }
        fs::remove_file(path).unwrap();
    }
}
