//! The authorities whose certificates count: those of a file, or those that the system trusts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::files;

/// The authorities of a file, all of which must be good, and their certificates as they stand there.
pub(super) fn of_file(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let text =
        files::bytes(path, files::OF_A_CERTIFICATE).map_err(|error| format!("can't be read: {error}"))?;
    let (mut roots, mut found) = (RootCertStore::empty(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let unusable = |error: String| format!("holds a certificate that can't be used: {error}");
        let certificate = certificate.map_err(|error| unusable(files::pem_fault(&error)))?;
        roots.add(certificate.clone()).map_err(|error| unusable(error.to_string()))?;
        found.push(certificate);
    }
    if roots.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    Ok((roots, found))
}

/// The authorities that the system trusts: those of its file of all, or else of its folders. It may be none.
pub fn of_the_system() -> RootCertStore {
    let places = openssl_probe::probe();
    let mut roots = RootCertStore::empty();
    // What can't be read is one less that is trusted.
    let mut add = |path: PathBuf| {
        let found = CertificateDer::pem_file_iter(path).into_iter().flatten().flatten();
        roots.add_parsable_certificates(found).0 > 0
    };
    if !places.cert_file.is_some_and(&mut add) {
        let folders = places.cert_dir.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        for entry in folders.flatten() {
            add(entry.path());
        }
    }
    roots
}
