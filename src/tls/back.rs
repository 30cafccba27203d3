//! TLS towards the endpoints of a pool: what is in force of its files, and how connections begin.
//!
//! Invariant: what is in force was read whole and is good; a bad file replaces nothing. What is put in force has a number of
//! its own, so that a connection tells by which terms it was made. An endpoint that can't prove to be the one that is meant is
//! sent nothing, unless the file says that no proof is asked for.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, SupportedProtocolVersion,
    client::{ResolvesClientCert, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::ServerName,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval},
};

use super::{
    endpoint::{self, EndpointStream, Unfit},
    files::{self, Sign},
    front::{HTTP2, HTTP11},
    pair::Pair,
    provider, roots,
    settings::{BackSettings, MinVersion, PairFiles},
    unverified::Unverified,
};
use crate::model::protocol::Protocol;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// The numbers below it are of connections without TLS.
const FIRST_NUMBER: u64 = 16;

static NUMBERS: AtomicU64 = AtomicU64::new(FIRST_NUMBER);

/// TLS towards the endpoints of the pools with these settings.
#[derive(Debug)]
pub struct Back {
    /// What the file says.
    pub settings: Arc<BackSettings>,
    in_force: ArcSwap<InForce>,
    last: Mutex<Last>,
}

/// What a handshake needs, as one.
#[derive(Debug)]
struct InForce {
    /// `None` if the files were never good.
    terms: Option<Terms>,
    number: u64,
}

#[derive(Debug)]
struct Terms {
    config: Arc<ClientConfig>,
    /// The same, for who can speak HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
    /// Of all that was read.
    digest: [u8; 32],
}

/// What was seen of the files last.
#[derive(Debug, Default)]
struct Last {
    signs: Vec<Sign>,
    error: Option<String>,
}

/// Which file of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackPart {
    /// That of the authorities.
    Authorities,
    /// That of our certificate.
    Certificate,
    /// That of its key.
    Key,
}

/// Why a pool's TLS can't be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BackError {
    /// Which file, if it is one's fault.
    pub part: Option<BackPart>,
    message: String,
    help: &'static str,
}

impl BackError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        self.help
    }
}

impl BackSettings {
    /// Reads the files; answers everything that is wrong with them.
    pub fn check(&self) -> Result<(), Vec<BackError>> {
        Terms::read(self).map(drop)
    }
}

impl Back {
    /// Reads the files. If they are bad, no connection can be made until they are good.
    fn open(settings: &Arc<BackSettings>) -> Self {
        let signs = signs(settings);
        let (terms, error) = match Terms::read(settings) {
            Ok(terms) => (Some(terms), None),
            Err(errors) => (None, Some(joined(&errors))),
        };
        if let Some(error) = &error {
            tracing::error!(%error, "a pool's TLS can't be had, so its endpoints can't be connected to");
        }
        if !settings.is_verified {
            tracing::warn!("a pool's endpoints are not asked to prove who they are: verify = false");
        }
        Self {
            settings: Arc::clone(settings),
            in_force: ArcSwap::from_pointee(InForce::new(terms)),
            last: Mutex::new(Last { signs, error }),
        }
    }

    /// What tells connections by these terms from those by others.
    pub fn number(&self) -> u64 {
        self.in_force.load().number
    }

    /// Speaks TLS on a connection to the endpoint of an address. `alone` asks for HTTP/1.1 and nothing else.
    pub async fn begin(
        &self,
        socket: TcpStream,
        address: IpAddr,
        alone: bool,
    ) -> Result<(EndpointStream, u64), Unfit> {
        let in_force = self.in_force.load_full();
        let terms = in_force.terms.as_ref().ok_or(Unfit::Ours)?;
        let config = if alone { &terms.http1 } else { &terms.config };
        let name = match &self.settings.name {
            Some(name) => ServerName::try_from(name.to_string()).map_err(|_| Unfit::Ours)?,
            None => ServerName::from(address),
        };
        let stream = endpoint::handshake(socket, Arc::clone(config), name).await?;
        if self.settings.protocol == Protocol::Http2 && !alone && !stream.is_http2() {
            return Err(Unfit::NoProtocol);
        }
        Ok((stream, in_force.number))
    }

    /// Reads files that have changed, and puts them in force if they are good.
    fn look(&self) {
        let signs = signs(&self.settings);
        if self.last().signs == signs {
            return;
        }
        match Terms::read(&self.settings) {
            Ok(terms) => {
                let mut last = self.last();
                *last = Last { signs, error: None };
                let now = self.in_force.load();
                if now.terms.as_ref().is_none_or(|now| now.digest != terms.digest) {
                    self.in_force.store(Arc::new(InForce::new(Some(terms))));
                    tracing::info!("files of TLS towards endpoints were reloaded");
                }
            }
            Err(errors) => {
                let error = joined(&errors);
                let mut last = self.last();
                if last.error.as_ref() != Some(&error) {
                    tracing::error!(%error, "files of TLS towards endpoints are not reloaded; the old ones stay");
                }
                *last = Last { signs, error: Some(error) };
            }
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // It is replaced whole.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InForce {
    fn new(terms: Option<Terms>) -> Self {
        Self { terms, number: NUMBERS.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Terms {
    fn read(settings: &BackSettings) -> Result<Self, Vec<BackError>> {
        let (provider, mut digest, mut errors) = (provider(), Sha256::new(), Vec::new());
        let verifier = verifier(settings, &provider, &mut digest).map_err(|error| errors.push(error)).ok();
        let own = settings.identity.as_ref().map(|files| own(files, &provider, &mut digest)).transpose();
        let own = own.map_err(|error| errors.push(error)).ok();
        let (Some(verifier), Some(own)) = (verifier, own) else { return Err(errors) };
        let versions: &[&SupportedProtocolVersion] = match settings.min_version {
            MinVersion::V12 => &[&TLS13, &TLS12],
            MinVersion::V13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| vec![BackError::of_tls(&error)])?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match own {
            Some(own) => builder.with_client_cert_resolver(own),
            None => builder.with_no_client_auth(),
        };
        let mut http1 = config.clone();
        http1.alpn_protocols = vec![HTTP11.to_vec()];
        config.alpn_protocols = match settings.protocol {
            Protocol::Http1 => vec![HTTP11.to_vec()],
            Protocol::Http2 => vec![HTTP2.to_vec()],
            Protocol::Agreed => vec![HTTP2.to_vec(), HTTP11.to_vec()],
        };
        Ok(Self { config: Arc::new(config), http1: Arc::new(http1), digest: digest.finalize().into() })
    }
}

impl BackError {
    fn of_tls(error: &dyn std::fmt::Display) -> Self {
        Self { part: None, message: format!("TLS can't be had: {error}"), help: "take other settings" }
    }
}

/// Whether a text is a name that a certificate can have: a host's, or an address.
pub fn is_name(text: &str) -> bool {
    ServerName::try_from(text).is_ok()
}

/// What judges the certificates of endpoints.
fn verifier(
    settings: &BackSettings,
    provider: &Arc<CryptoProvider>,
    digest: &mut Sha256,
) -> Result<Arc<dyn ServerCertVerifier>, BackError> {
    if !settings.is_verified {
        return Ok(Arc::new(Unverified::new(provider)));
    }
    let roots = match &settings.authorities {
        Some(path) => {
            let (roots, found) = roots::of_file(path).map_err(|why| BackError {
                part: Some(BackPart::Authorities),
                message: format!("{} {why}", path.display()),
                help: "a PEM file with BEGIN CERTIFICATE: the authorities that issue certificates to endpoints",
            })?;
            found.iter().for_each(|certificate| add(digest, certificate));
            roots
        }
        None => roots::of_the_system(),
    };
    if roots.is_empty() {
        return Err(BackError {
            part: None,
            message: "this machine trusts no authority".to_owned(),
            help: "ca = \"ca.pem\" names those whose certificates endpoints have",
        });
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(verifier.build().map_err(|error| BackError::of_tls(&error))?)
}

/// The certificate that endpoints are shown.
fn own(
    files: &PairFiles,
    provider: &CryptoProvider,
    digest: &mut Sha256,
) -> Result<Arc<dyn ResolvesClientCert>, BackError> {
    use super::pair::Part;
    let pair = Pair::read(files, provider).map_err(|error| BackError {
        part: Some(if error.part() == Part::Key { BackPart::Key } else { BackPart::Certificate }),
        message: error.to_string(),
        help: error.remedy(),
    })?;
    pair.certified.cert.iter().for_each(|certificate| add(digest, certificate));
    Ok(Arc::new(SingleCertAndKey::from((*pair.certified).clone())))
}

fn add(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

fn joined(errors: &[BackError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn signs(settings: &BackSettings) -> Vec<Sign> {
    let pair = settings.identity.iter().flat_map(PairFiles::all);
    settings.authorities.iter().chain(pair).map(|path| files::sign(path)).collect()
}

/// All that is spoken with endpoints: one [`Back`] for all pools with the same settings. Every clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Backs(Arc<Mutex<Vec<Weak<Back>>>>);

impl Backs {
    /// That of these settings.
    pub fn of(&self, settings: &Arc<BackSettings>) -> Arc<Back> {
        let mut known = self.lock();
        known.retain(|back| back.strong_count() > 0);
        if let Some(back) = known.iter().filter_map(Weak::upgrade).find(|back| back.settings == *settings) {
            return back;
        }
        let back = Arc::new(Back::open(settings));
        known.push(Arc::downgrade(&back));
        back
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Back>>> {
        // Entries are added or dropped whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the files of what is in force again and again, so that they can be changed without a restart. Never ends.
pub async fn follow(in_force: impl Fn() -> Vec<Arc<Back>>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let backs = in_force();
        if backs.is_empty() {
            continue;
        }
        // A file system that hangs must not hold up the control plane.
        let looked = tokio::task::spawn_blocking(move || backs.iter().for_each(|back| back.look()));
        if looked.await.is_err() {
            tracing::error!("looking at files of TLS was stopped by a bug; they are looked at again");
        }
    }
}
