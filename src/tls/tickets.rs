//! The keys of session tickets (RFC 5077, RFC 8446 4.6.1): where they are from, and how they change.
//!
//! Invariant: a ticket is opened only where it could have been made: by a listener of the same name that asks clients for the same
//! certificates, with the same lists of revocations. Keys change every six hours and are gone twelve hours after; from the
//! secret of a process, those of before can't be found again.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::server::ProducesTickets;

use super::{clients::Clients, files};
use crate::model::{
    key_lines::{self, InvalidKeys},
    name::Name,
};

/// How long a key seals. It opens for as long again.
const PERIOD: Duration = Duration::from_secs(6 * 60 * 60);
/// The bytes of a key's name, and of what makes each ticket's own key.
const NAME: usize = 16;
const SALT: usize = 16;
/// The largest ticket: one holds the client's certificates, which a handshake limits to this.
const MAX_TICKET: usize = 64 << 10;
/// The permissions of others than the owner and its group.
const OTHERS: u32 = 0o007;

/// What the keys of a process are made from, where no file names any, and of those that succeed it. Nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Periods since 1970.
    period: u64,
    now: [u8; 32],
    before: [u8; 32],
}

/// The secret that all listeners of a process share.
pub(super) type Shared = Arc<Mutex<Secret>>;

/// Where the keys of a listener are from.
#[derive(Clone)]
pub(super) enum Source {
    /// The secret of this process.
    Own(Shared),
    /// The keys of a file: the first seals, all open.
    Filed(Vec<Vec<u8>>),
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum TicketKeysError {
    /// The file can't be read.
    #[error("the keys of tickets in {} can't be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    /// The file is malformed.
    #[error("the keys of tickets in {} are refused: {error}", path.display())]
    Invalid { path: PathBuf, error: InvalidKeys },
}

/// What makes and opens the tickets of a listener.
pub(super) struct Tickets {
    source: Source,
    context: Vec<u8>,
    ring: ArcSwap<Ring>,
}

/// The keys of one period.
struct Ring {
    period: u64,
    /// The first seals.
    keys: Vec<Key>,
}

/// A key, and the name by which a ticket says that it was made with it.
struct Key {
    name: [u8; NAME],
    secret: hmac::Key,
}

impl Secret {
    /// A new one.
    pub fn random(now: SystemTime) -> Result<Self, getrandom::Error> {
        let mut secret = Self { period: period(now), now: [0; 32], before: [0; 32] };
        getrandom::fill(&mut secret.now)?;
        getrandom::fill(&mut secret.before)?;
        Ok(secret)
    }

    /// The secret as a successor is told it.
    pub fn to_text(&self) -> String {
        STANDARD.encode([&self.period.to_be_bytes()[..], &self.now, &self.before].concat())
    }

    /// What a predecessor has told.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let (period, rest) = bytes.split_first_chunk()?;
        let (now, rest) = rest.split_first_chunk()?;
        let before = rest.try_into().ok()?;
        Some(Self { period: u64::from_be_bytes(*period), now: *now, before })
    }

    /// Goes on to a period, by steps that can't be taken back. A clock that is set back changes nothing.
    fn advance(&mut self, period: u64) {
        // Two processes that start from one secret come to the same ones; what is skipped nobody needs.
        for _ in self.period..period.min(self.period + MAX_STEPS) {
            let next = mac(&self.now, &[b"next period"]);
            self.before = std::mem::replace(&mut self.now, next);
        }
        self.period = self.period.max(period);
    }
}

/// Steps that are taken at once: a year, after which nobody waits with a ticket.
const MAX_STEPS: u64 = 1_500;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn period(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / PERIOD.as_secs()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Source {
    /// The keys of a file, or the process' own.
    pub(super) fn read(path: Option<&Path>, own: &Shared) -> Result<Self, TicketKeysError> {
        let Some(path) = path else { return Ok(Self::Own(Arc::clone(own))) };
        let bytes = files::bytes(path, files::OF_A_CERTIFICATE)
            .map_err(|error| TicketKeysError::Unreadable { path: path.to_owned(), error })?;
        let invalid = |error| TicketKeysError::Invalid { path: path.to_owned(), error };
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid(InvalidKeys::Malformed(1)))?;
        key_lines::parse(text).map(Self::Filed).map_err(invalid)
    }

    /// Whether everybody may read the file.
    pub(super) fn is_open(path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| found.mode() & OTHERS != 0)
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own(_), Self::Own(_)) => true,
            (Self::Filed(one), Self::Filed(other)) => one == other,
            _ => false,
        }
    }

    fn ring(&self, period: u64, context: &[u8]) -> Ring {
        let key = |material: &[u8], period: u64| Key::new(material, period, context);
        match self {
            Self::Own(secret) => {
                let mut secret = lock(secret);
                secret.advance(period);
                let Secret { period, now, before } = &*secret;
                Ring { period: *period, keys: vec![key(now, *period), key(before, period.wrapping_sub(1))] }
            }
            Self::Filed(materials) => {
                // The clocks of a fleet differ: the next period may have begun elsewhere.
                let periods = [period, period.wrapping_sub(1), period + 1];
                let keys = materials.iter().flat_map(|material| periods.map(|period| key(material, period)));
                Ring { period, keys: keys.collect() }
            }
        }
    }
}

fn lock(secret: &Shared) -> MutexGuard<'_, Secret> {
    // Each step is whole before the next begins.
    secret.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Key {
    fn new(material: &[u8], period: u64, context: &[u8]) -> Self {
        let of_period = mac(material, &[b"switchback tls ticket v1\0", &period.to_be_bytes(), context]);
        let name = mac(&of_period, &[b"name"]);
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &mac(&of_period, &[b"secret"]));
        Self { name: *name.first_chunk().expect("32 bytes are more"), secret }
    }

    /// The key of one ticket. Each seals a single text, so that its nonce need not differ.
    fn of_ticket(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let key = hmac::sign(&self.secret, salt);
        UnboundKey::new(&AES_256_GCM, key.as_ref()).ok().map(LessSafeKey::new)
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl Tickets {
    /// For a listener, and the clients that it lets in.
    pub(super) fn new(source: Source, listener: &Name, clients: Option<&Clients>, now: SystemTime) -> Self {
        let mut context = listener.as_str().as_bytes().to_vec();
        // No name has a zero byte.
        context.push(0);
        context.extend_from_slice(clients.map_or(&[], Clients::digest));
        let ring = ArcSwap::from_pointee(source.ring(period(now), &context));
        Self { source, context, ring }
    }

    /// Where its keys are from.
    pub(super) fn source(&self) -> Source {
        self.source.clone()
    }

    /// Whether these keys are those of a reading.
    pub(super) fn is_from(&self, source: &Source) -> bool {
        self.source.is_same(source)
    }

    /// Changes the keys if it is time.
    pub(super) fn turn(&self, now: SystemTime) {
        let period = period(now);
        if self.ring.load().period < period {
            self.ring.store(Arc::new(self.source.ring(period, &self.context)));
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(..)")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        2 * PERIOD.as_secs() as u32
    }

    /// A ticket is the key's name, a salt, and the sealed text with its tag.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let ring = self.ring.load();
        let key = ring.keys.first()?;
        let mut head = [0; NAME + SALT];
        head[..NAME].copy_from_slice(&key.name);
        getrandom::fill(&mut head[NAME..]).ok()?;
        let mut sealed = plain.to_vec();
        key.of_ticket(&head[NAME..])?
            .seal_in_place_append_tag(nonce(), Aad::from(&head), &mut sealed)
            .ok()?;
        let ticket = [&head[..], &sealed].concat();
        (ticket.len() <= MAX_TICKET).then_some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (head, sealed) = ticket.split_first_chunk::<{ NAME + SALT }>()?;
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let ring = self.ring.load();
        // Names are no secret: they are in each ticket.
        let key = ring.keys.iter().find(|key| key.name == head[..NAME])?;
        let mut text = sealed.to_vec();
        let length =
            key.of_ticket(&head[NAME..])?.open_in_place(nonce(), Aad::from(head), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 60 * 60)
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn own(secret: &Secret) -> Source {
        Source::Own(Arc::new(Mutex::new(secret.clone())))
    }

    fn opens(one: &Tickets, other: &Tickets) -> bool {
        let ticket = one.encrypt(b"a session").unwrap();
        other.decrypt(&ticket).is_some_and(|text| text == b"a session")
    }

    #[test]
    fn a_ticket_is_opened_for_six_to_twelve_hours_and_then_never_again() {
        let secret = Secret::random(at(0)).unwrap();
        let tickets = Tickets::new(own(&secret), &name("web"), None, at(0));
        let ticket = tickets.encrypt(b"a session").unwrap();
        for (hours, is_open) in [(0, true), (5, true), (6, true), (11, true), (12, false), (0, false)] {
            tickets.turn(at(hours));
            assert_eq!(tickets.decrypt(&ticket).is_some(), is_open, "after {hours} hours");
        }
    }

    #[test]
    fn a_successor_opens_what_its_predecessor_made_and_the_other_way_round_whenever_it_starts() {
        let secret = Secret::random(at(1)).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let told = Secret::from_text(&secret.to_text()).unwrap();
        assert!(told == secret);
        for hours in [1, 7, 100] {
            let [one, other] =
                [&secret, &told].map(|secret| Tickets::new(own(secret), &name("web"), None, at(hours)));
            assert!(opens(&one, &other) && opens(&other, &one), "after {hours} hours");
        }
        for wrong in ["", "c2hvcnQ=", "no secret"] {
            assert!(Secret::from_text(wrong).is_none());
        }
    }

    #[test]
    fn a_file_is_shared_by_a_fleet_and_changes_key_by_key() {
        let source = |keys: &[u8]| Source::Filed(keys.iter().map(|key| vec![*key; 32]).collect());
        let tickets = |keys: &[u8], hours| Tickets::new(source(keys), &name("web"), None, at(hours));
        assert!(opens(&tickets(&[1], 10), &tickets(&[1], 10)));
        assert!(opens(&tickets(&[1], 12), &tickets(&[1], 11)), "its clock is behind");
        assert!(opens(&tickets(&[1], 11), &tickets(&[1], 12)));
        assert!(!opens(&tickets(&[1], 0), &tickets(&[1], 12)), "the key changes by itself, too");
        assert!(opens(&tickets(&[1], 0), &tickets(&[2, 1], 0)), "an old one still opens");
        assert!(!opens(&tickets(&[2, 1], 0), &tickets(&[1], 0)), "the first seals");
    }

    #[test]
    fn another_listener_opens_none_and_what_was_changed_is_refused() {
        let secret = Secret::random(at(0)).unwrap();
        let [web, other] =
            ["web", "other"].map(|listener| Tickets::new(own(&secret), &name(listener), None, at(0)));
        assert!(opens(&web, &web) && !opens(&web, &other));
        let ticket = web.encrypt(b"a session").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert!(web.decrypt(&changed).is_none(), "byte {at}");
            assert!(web.decrypt(&ticket[..at]).is_none(), "{at} bytes");
        }
        assert!(web.decrypt(&[0; MAX_TICKET + 1]).is_none());
        assert_ne!(web.encrypt(b"a session"), web.encrypt(b"a session"));
    }
}
