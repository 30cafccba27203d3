//! The TLS of one listener: its certificates in force, and how handshakes begin.
//!
//! Invariant: what is in force was read whole and is good. Replacing it is one store; tickets that were given before are
//! still good after it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::{
    names::Names,
    pair::{Pair, PairError},
    settings::{MinVersion, Settings},
};
use crate::model::name::Name;

/// The names of protocols in handshakes (RFC 7301 6, RFC 9113 3.1).
pub(super) const HTTP2: &[u8] = b"h2";
const HTTP11: &[u8] = b"http/1.1";

/// The TLS of one listener.
#[derive(Debug)]
pub struct Front {
    /// The listener.
    pub listener: Name,
    /// What the file says.
    pub settings: Arc<Settings>,
    in_force: ArcSwap<InForce>,
    last: Mutex<Last>,
}

/// What a handshake needs, as one.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificates: Arc<Certificates>,
}

/// A listener's certificates, all of one moment.
#[derive(Debug)]
pub struct Certificates {
    pairs: Vec<Pair>,
    names: Names,
}

/// What became of the last reading of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Why the files are not in force as they are on disk.
    pub error: Option<String>,
}

/// What came of the readings since the start.
#[derive(Debug, Default)]
struct Last {
    /// By the pair's place.
    standings: Vec<Standing>,
    reloaded: u64,
    failed: u64,
}

/// Why there is no TLS for a listener.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrontError {
    /// A pair is wrong: its place, and why.
    #[error("{1}")]
    Pair(usize, PairError),
    /// rustls has refused the settings, or there is no randomness.
    #[error("TLS can't be had: {0}")]
    Tls(#[from] rustls::Error),
}

/// What signs, agrees on keys and encrypts: aws-lc, which prefers X25519MLKEM768.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl Front {
    /// Reads the certificates that the settings name.
    pub(super) fn open(listener: &Name, settings: &Arc<Settings>) -> Result<Self, Vec<FrontError>> {
        let provider = provider();
        let certificates = Certificates::read(settings, &provider).map_err(|errors| {
            errors.into_iter().map(|(at, error)| FrontError::Pair(at, error)).collect::<Vec<_>>()
        })?;
        let versions: &[&SupportedProtocolVersion] = match settings.min_version {
            MinVersion::V12 => &[&TLS13, &TLS12],
            MinVersion::V13 => &[&TLS13],
        };
        let certificates = Arc::new(certificates);
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificates>::clone(&certificates);
        let tls = |error| vec![FrontError::Tls(error)];
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(tls)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        let protocols: &[&[u8]] = if settings.http2 { &[HTTP2, HTTP11] } else { &[HTTP11] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // Sessions are resumed by tickets alone, whose key rotates and is the same for all workers: nothing of a client is
        // kept here.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(tls)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let standings = vec![Standing::default(); settings.certificates.len()];
        Ok(Self {
            listener: listener.clone(),
            settings: Arc::clone(settings),
            in_force: ArcSwap::from_pointee(InForce { config: Arc::new(config), certificates }),
            last: Mutex::new(Last { standings, ..Last::default() }),
        })
    }

    /// Reads the files again, and puts them in force if all of them are good and any has changed. Answers whether that
    /// was done.
    pub(super) fn reload(&self) -> bool {
        let now = self.in_force.load_full();
        let listener = &self.listener;
        match Certificates::read(&self.settings, now.config.crypto_provider()) {
            Ok(next) => {
                let is_news = !next.is_same(&now.certificates);
                let mut last = self.last();
                for standing in last.standings.iter_mut().filter(|standing| standing.error.is_some()) {
                    *standing = Standing::default();
                    tracing::info!(%listener, "certificates on disk are good again");
                }
                if is_news {
                    last.reloaded += 1;
                    drop(last);
                    self.put_in_force(&now, next);
                }
                is_news
            }
            Err(errors) => {
                self.complain(errors);
                false
            }
        }
    }

    fn put_in_force(&self, now: &InForce, next: Certificates) {
        let certificates = Arc::new(next);
        let mut config = ServerConfig::clone(&now.config);
        config.cert_resolver = Arc::<Certificates>::clone(&certificates);
        for pair in certificates.pairs() {
            for (_, warning, help) in pair.warnings(SystemTime::now()) {
                tracing::warn!(listener = %self.listener, "{warning}: {help}");
            }
        }
        tracing::info!(listener = %self.listener, certificates = certificates.pairs.len(), "certificates were reloaded");
        self.in_force.store(Arc::new(InForce { config: Arc::new(config), certificates }));
    }

    /// Says once what is wrong; what was in force stays.
    fn complain(&self, errors: Vec<(usize, PairError)>) {
        let mut last = self.last();
        last.failed += 1;
        let mut standings = vec![Standing::default(); last.standings.len()];
        for (at, error) in errors {
            standings[at].error = Some(error.to_string());
        }
        for (standing, before) in standings.iter().zip(&last.standings) {
            if let Some(error) = standing.error.as_ref().filter(|_| standing != before) {
                tracing::error!(listener = %self.listener, %error, "certificates are not reloaded; the old ones stay");
            }
        }
        last.standings = standings;
    }

    /// What a handshake that begins now needs.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// The certificates in force.
    pub fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.in_force.load().certificates)
    }

    /// What became of the last reading, by the pair's place.
    pub fn standings(&self) -> Vec<Standing> {
        self.last().standings.clone()
    }

    /// How often certificates on disk were put in force, and how often they were refused.
    pub fn reloads(&self) -> (u64, u64) {
        let last = self.last();
        (last.reloaded, last.failed)
    }

    /// The files that it is made of.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.settings.certificates.iter().flat_map(|pair| [&pair.certificate, &pair.key])
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // A panic while it was held can't leave it half changed in a way that matters: it is for reports alone.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Certificates {
    /// Reads all pairs, or finds out everything that is wrong with them.
    fn read(settings: &Settings, provider: &CryptoProvider) -> Result<Self, Vec<(usize, PairError)>> {
        let (mut pairs, mut errors) = (Vec::new(), Vec::new());
        for (at, files) in settings.certificates.iter().enumerate() {
            match Pair::read(files, provider) {
                Ok(pair) => pairs.push(pair),
                Err(error) => errors.push((at, error)),
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

    fn is_same(&self, other: &Self) -> bool {
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
