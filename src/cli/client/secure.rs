//! Calls over TLS: whose certificate an instance has to show, and which one is shown to it.
//!
//! Invariant: an instance that can't prove to be the one of its address is not called; nothing turns that off.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;

use super::{super::Failure, source::TlsFiles};
use crate::tls;

/// What makes connections over TLS.
pub(super) fn connector(files: &TlsFiles) -> Result<TlsConnector, Failure> {
    let roots = match &files.ca {
        Some(path) => authorities(path)?,
        None => of_the_system()?,
    };
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Failed(format!("TLS can't be had: {error}")))?
        .with_root_certificates(roots);
    let config = match &files.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
            let chain =
                chain.map_err(|error| unusable(certificate, "a certificate", &tls::pem_fault(&error)))?;
            let own = PrivateKeyDer::from_pem_file(key);
            let own = own.map_err(|error| unusable(key, "a private key", &tls::pem_fault(&error)))?;
            let pair = builder.with_client_auth_cert(chain, own);
            pair.map_err(|error| unusable(certificate, "the certificate of this key", &error))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// By which name the instance at `host:port` is known.
pub(super) fn name(host: &str) -> io::Result<ServerName<'static>> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(name.to_owned()).map_err(io::Error::other)
}

fn authorities(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|error| unusable(path, "an authority's certificate", &tls::pem_fault(&error)));
    for certificate in found? {
        roots.add(certificate).map_err(|error| unusable(path, "an authority's certificate", &error))?;
    }
    if roots.is_empty() {
        return Err(Failure::Failed(format!("{} holds no certificate", path.display())));
    }
    Ok(roots)
}

/// The authorities that the system trusts.
fn of_the_system() -> Result<RootCertStore, Failure> {
    let roots = tls::roots_of_the_system();
    if roots.is_empty() {
        let words = "this machine trusts no authority: --ca FILE names that of the instance's certificate";
        return Err(Failure::Failed(words.to_owned()));
    }
    Ok(roots)
}

fn unusable(path: &Path, what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("{} holds nothing that can be used as {what}: {error}", path.display()))
}
