//! A listener's certificates, and which of them a client is shown.
//!
//! Invariant: all of them were read in one moment and are good, and each client is shown one that is for its name and that
//! it can check, if there is one.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    SupportedCipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    front::FrontError,
    names::Names,
    pair::{Pair, Part},
    settings::Settings,
};

/// A listener's certificates, all of one moment.
#[derive(Debug)]
pub struct Certificates {
    pairs: Vec<Pair>,
    names: Names,
}

impl Certificates {
    /// Reads all pairs, or finds out everything that is wrong with them.
    pub(super) fn read(settings: &Settings, provider: &CryptoProvider) -> Result<Self, Vec<FrontError>> {
        let (mut pairs, mut errors) = (Vec::new(), Vec::new());
        for (at, files) in settings.certificates.iter().enumerate() {
            match Pair::read(files, provider) {
                Ok(pair) => pairs.push(pair),
                Err(error) => errors.push(FrontError::Pair(at, error)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let names = Names::of(pairs.iter().map(|pair| &pair.facts.names[..]));
        Ok(Self { pairs, names })
    }

    /// In the file's order.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Whether a host has a certificate of its own, and it is not the one that a client who asked for `name` was shown.
    pub fn is_of_others(&self, host: &str, name: &str) -> bool {
        self.names.is_of_others(host, name)
    }

    /// Everything about them that is allowed and will surprise, with what to do.
    pub(super) fn warnings(&self, now: SystemTime) -> Vec<(Part, String, String)> {
        self.pairs.iter().flat_map(|pair| pair.warnings(now)).collect()
    }

    /// Whether others are the same pairs, as far as clients and those who look after them see.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.pairs.iter().zip(&other.pairs).all(|(one, other)| one.is_same(other))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let group = self.names.select(name.as_deref());
        let keys = group.iter().map(|index| &self.pairs[*index].certified);
        let verifiable =
            keys.clone().filter(|key| key.key.choose_scheme(hello.signature_schemes()).is_some());
        // A signature by ECDSA costs a tenth of one by RSA; but a suite of TLS 1.2 is for one kind of key, and whether the
        // client will speak 1.3 is not known here.
        let cheapest = verifiable.min_by_key(|key| (!has_suite_for(key, &hello), is_rsa(key)));
        // One that does not fit ends the handshake with the alert that says so.
        cheapest.or_else(|| keys.clone().next()).cloned()
    }
}

fn is_rsa(key: &CertifiedKey) -> bool {
    key.key.algorithm() == rustls::SignatureAlgorithm::RSA
}

/// Whether a client names a cipher suite of TLS 1.2 for a key.
fn has_suite_for(key: &CertifiedKey, hello: &ClientHello<'_>) -> bool {
    let schemes = hello.signature_schemes();
    aws_lc_rs::ALL_CIPHER_SUITES.iter().any(|suite| match suite {
        SupportedCipherSuite::Tls12(suite) if hello.cipher_suites().contains(&suite.common.suite) => {
            key.key.choose_scheme(&suite.resolve_sig_schemes(schemes)).is_some()
        }
        _ => false,
    })
}
