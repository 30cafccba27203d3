//! The TLS of one listener: its certificates in force, whose certificates it asks for, and how handshakes begin.
//!
//! Invariant: what is in force was read whole and is good. Certificates, what is asked of clients, and the keys of tickets are
//! each replaced whole or not at all, by one store; tickets that were given before are still good after it, unless other
//! clients may count.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};

use super::{
    certificates::Certificates,
    clients::{Clients, ClientsError},
    pair::PairError,
    settings::{MinVersion, PairFiles, Settings},
    tickets::{self, Source, TicketKeysError, Tickets},
};
use crate::model::name::Name;

/// The names of protocols in handshakes (RFC 7301 6, RFC 9113 3.1).
pub(super) const HTTP2: &[u8] = b"h2";
pub(super) const HTTP11: &[u8] = b"http/1.1";

/// The TLS of one listener.
#[derive(Debug)]
pub struct Front {
    /// The listener.
    pub listener: Name,
    /// What the file says.
    pub settings: Arc<Settings>,
    own: tickets::Shared,
    in_force: ArcSwap<InForce>,
    last: Mutex<Last>,
}

/// What a handshake needs, as one.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificates: Arc<Certificates>,
    /// Whose certificates count, if any are asked for.
    pub(super) clients: Option<Arc<Clients>>,
    tickets: Arc<Tickets>,
}

/// What became of the last reading of a pair, of what is asked of clients, or of the keys of tickets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Why the files are not in force as they are on disk.
    pub error: Option<String>,
}

/// What came of the last readings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standings {
    /// By the pair's place.
    pub pairs: Vec<Standing>,
    /// Of what is asked of clients.
    pub clients: Standing,
    /// Of the keys of tickets.
    pub tickets: Standing,
}

/// What came of the readings since the start.
#[derive(Debug, Default)]
struct Last {
    standings: Standings,
    reloaded: u64,
    failed: u64,
}

/// Why there is no TLS for a listener.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrontError {
    /// A pair is wrong: its place, and why.
    #[error("{1}")]
    Pair(usize, PairError),
    /// A file of what is asked of clients is wrong.
    #[error(transparent)]
    Clients(#[from] ClientsError),
    /// The file with the keys of tickets is wrong.
    #[error(transparent)]
    Tickets(#[from] TicketKeysError),
    /// rustls has refused the settings, or there is no randomness.
    #[error("TLS can't be had: {0}")]
    Tls(#[from] rustls::Error),
}

/// What signs, agrees on keys and encrypts: aws-lc, which prefers X25519MLKEM768.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl Front {
    /// Reads the files that the settings name. `own` makes the keys of tickets, where no file does.
    pub(super) fn open(
        listener: &Name,
        settings: &Arc<Settings>,
        own: &tickets::Shared,
    ) -> Result<Self, Vec<FrontError>> {
        let (provider, now) = (provider(), SystemTime::now());
        let mut errors = Vec::new();
        let certificates = taken(Certificates::read(settings, &provider), &mut errors);
        let clients = taken(clients(settings, &provider), &mut errors);
        let source = taken(source(settings, own), &mut errors);
        let (Some(certificates), Some(clients), Some(source)) = (certificates, clients, source) else {
            return Err(errors);
        };
        warn_of_open_keys(listener, settings);
        let tickets = Arc::new(Tickets::new(source, listener, clients.as_deref(), now));
        let in_force = InForce::new(settings, provider, Arc::new(certificates), clients, tickets);
        let in_force = in_force.map_err(|error| vec![FrontError::Tls(error)])?;
        let standings = Standings::of(settings.certificates.len());
        Ok(Self {
            listener: listener.clone(),
            settings: Arc::clone(settings),
            own: Arc::clone(own),
            in_force: ArcSwap::from_pointee(in_force),
            last: Mutex::new(Last { standings, ..Last::default() }),
        })
    }

    /// Reads the files again, and puts in force what of them is good and has changed. Answers whether anything was.
    pub(super) fn reload(&self) -> bool {
        let (now, mut errors) = (self.in_force.load_full(), Vec::new());
        let (settings, provider) = (&self.settings, now.config.crypto_provider());
        let certificates = taken(Certificates::read(settings, provider), &mut errors)
            .filter(|next| !next.is_same(&now.certificates))
            .map(Arc::new);
        let clients = taken(clients(settings, provider), &mut errors)
            .flatten()
            .filter(|next| now.clients.as_ref().is_some_and(|now| now.digest() != next.digest()));
        let source =
            taken(source(settings, &self.own), &mut errors).filter(|source| !now.tickets.is_from(source));
        self.note(errors);
        if certificates.is_none() && clients.is_none() && source.is_none() {
            return false;
        }
        self.put_in_force(&now, certificates, clients, source)
    }

    fn put_in_force(
        &self,
        now: &InForce,
        certificates: Option<Arc<Certificates>>,
        clients: Option<Arc<Clients>>,
        source: Option<Source>,
    ) -> bool {
        let (listener, time) = (&self.listener, SystemTime::now());
        let tickets = match (&source, &clients) {
            (None, None) => Arc::clone(&now.tickets),
            _ => {
                let source = source.clone().unwrap_or_else(|| now.tickets.source());
                let clients = clients.as_ref().or(now.clients.as_ref());
                Arc::new(Tickets::new(source, listener, clients.map(|clients| &**clients), time))
            }
        };
        let provider = Arc::clone(now.config.crypto_provider());
        let all = certificates.as_ref().unwrap_or(&now.certificates);
        let asked = clients.clone().or_else(|| now.clients.clone());
        let next = match InForce::new(&self.settings, provider, Arc::clone(all), asked, tickets) {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%listener, %error, "what was read can't be put in force; the old stays");
                return false;
            }
        };
        for (_, warning, help) in certificates.iter().flat_map(|news| news.warnings(time)) {
            tracing::warn!(%listener, "{warning}: {help}");
        }
        for (_, warning, help) in clients.iter().flat_map(|news| news.warnings(time)) {
            tracing::warn!(%listener, "{warning}: {help}");
        }
        if let Some(certificates) = &certificates {
            tracing::info!(%listener, certificates = certificates.pairs().len(), "certificates were reloaded");
        }
        if clients.is_some() {
            tracing::info!(%listener, "clients' authorities and lists of revocations were reloaded");
        }
        if source.is_some() {
            tracing::info!(%listener, "keys of tickets were reloaded");
        }
        self.in_force.store(Arc::new(next));
        self.last().reloaded += 1;
        true
    }

    /// Says once what is wrong, and once that it is good again; what was in force stays.
    fn note(&self, errors: Vec<FrontError>) {
        let listener = &self.listener;
        let mut last = self.last();
        last.failed += u64::from(!errors.is_empty());
        let mut standings = Standings::of(last.standings.pairs.len());
        for error in errors {
            let text = Some(error.to_string());
            match error {
                FrontError::Pair(at, _) => standings.pairs[at].error = text,
                FrontError::Clients(_) => standings.clients.error = text,
                FrontError::Tickets(_) | FrontError::Tls(_) => standings.tickets.error = text,
            }
        }
        for (now, before) in standings.all().zip(last.standings.all()) {
            match &now.error {
                Some(error) if now != before => {
                    tracing::error!(%listener, %error, "files of TLS are not reloaded; the old ones stay");
                }
                None if before.error.is_some() => {
                    tracing::info!(%listener, "files of TLS on disk are good again");
                }
                _ => {}
            }
        }
        last.standings = standings;
    }

    /// Whether something in force is out of date that was not when it was read.
    pub(super) fn is_stale(&self, now: SystemTime) -> bool {
        self.certificates().pairs().iter().any(|pair| pair.has_stale_staple(now))
    }

    /// Changes the keys of tickets if it is time.
    pub(super) fn turn_tickets(&self, now: SystemTime) {
        self.in_force.load().tickets.turn(now);
    }

    /// What a handshake that begins now needs.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// The certificates in force.
    pub fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.in_force.load().certificates)
    }

    /// Whose certificates count, if any are asked for.
    pub fn clients(&self) -> Option<Arc<Clients>> {
        self.in_force.load().clients.clone()
    }

    /// What became of the last reading.
    pub fn standings(&self) -> Standings {
        self.last().standings.clone()
    }

    /// How often files on disk were put in force, and how often they were refused.
    pub fn reloads(&self) -> (u64, u64) {
        let last = self.last();
        (last.reloaded, last.failed)
    }

    /// The files that it is made of.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let Settings { certificates, clients, ticket_keys, .. } = &*self.settings;
        let of_clients = clients
            .iter()
            .flat_map(|clients| std::iter::once(&clients.authorities).chain(&clients.revocations));
        certificates.iter().flat_map(PairFiles::all).chain(of_clients).chain(ticket_keys)
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // A panic while it was held can't leave it half changed in a way that matters: it is for reports alone.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is good of a reading; what is wrong with it is kept.
fn taken<T, E: Into<FrontError>>(read: Result<T, Vec<E>>, errors: &mut Vec<FrontError>) -> Option<T> {
    read.map_err(|found| errors.extend(found.into_iter().map(Into::into))).ok()
}

fn clients(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<Clients>>, Vec<ClientsError>> {
    settings.clients.as_ref().map(|clients| Clients::read(clients, provider).map(Arc::new)).transpose()
}

fn source(settings: &Settings, own: &tickets::Shared) -> Result<Source, Vec<TicketKeysError>> {
    Source::read(settings.ticket_keys.as_deref(), own).map_err(|error| vec![error])
}

fn warn_of_open_keys(listener: &Name, settings: &Settings) {
    if let Some(path) = settings.ticket_keys.as_deref().filter(|path| Source::is_open(path)) {
        let file = path.display();
        tracing::warn!(%listener, "everybody on this machine may read the keys of tickets: chmod 600 {file}");
    }
}

impl InForce {
    fn new(
        settings: &Settings,
        provider: Arc<CryptoProvider>,
        certificates: Arc<Certificates>,
        clients: Option<Arc<Clients>>,
        tickets: Arc<Tickets>,
    ) -> Result<Self, rustls::Error> {
        let versions: &[&SupportedProtocolVersion] = match settings.min_version {
            MinVersion::V12 => &[&TLS13, &TLS12],
            MinVersion::V13 => &[&TLS13],
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificates>::clone(&certificates);
        let verifier = match &clients {
            Some(clients) => clients.verifier(),
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        let protocols: &[&[u8]] = if settings.http2 { &[HTTP2, HTTP11] } else { &[HTTP11] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // Sessions are resumed by tickets alone, whose keys are the same for all workers: nothing of a client is kept here.
        config.ticketer = Arc::<Tickets>::clone(&tickets);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), certificates, clients, tickets })
    }
}

impl Standings {
    fn of(pairs: usize) -> Self {
        Self { pairs: vec![Standing::default(); pairs], ..Self::default() }
    }

    /// All of them, pairs first.
    pub fn all(&self) -> impl Iterator<Item = &Standing> {
        self.pairs.iter().chain([&self.clients, &self.tickets])
    }
}
