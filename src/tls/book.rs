//! The TLS of all listeners: made ready for a configuration, put in force, and followed on disk.
//!
//! Invariant: a listener whose settings stay keeps its [`Front`], and any keeps the keys of its tickets. What is on disk is looked
//! at by its signs and judged by its content; connections are never touched.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};

use super::{
    clients::ClientPart,
    front::{Front, FrontError},
    pair::Part,
    settings::Settings,
    tickets::{self, Secret},
};
use crate::model::name::Name;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How long a file that has changed is left to settle: who writes both files of a pair is commonly done by then.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);
/// How often the log says that a certificate is about to expire.
const WARNS_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long before it expires that begins: what renews certificates does so by then.
const WARNS_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// When it becomes urgent.
const URGENT_BEFORE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The TLS of all listeners. Every clone is the same one.
#[derive(Debug, Clone)]
pub struct Book(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    fronts: Mutex<Fronts>,
    /// What the keys of tickets are made from, where no file names any.
    secret: tickets::Shared,
    asked: Notify,
}

/// The TLS of each listener that has it.
#[derive(Debug, Clone, Default)]
pub struct Fronts(BTreeMap<Name, Arc<Front>>);

/// The TLS of a configuration, ready. Dropped, it is given up.
#[derive(Debug)]
pub struct Prepared {
    book: Book,
    fronts: Fronts,
}

/// What is wrong with the TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands in the file, as a JSON pointer.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Fronts {
    /// That of a listener.
    pub fn of(&self, listener: &Name) -> Option<&Arc<Front>> {
        self.0.get(listener)
    }

    /// All, by the listeners' names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Front>> {
        self.0.values()
    }
}

impl Book {
    /// An empty one.
    pub fn new(secret: Secret) -> Self {
        let secret = Arc::new(Mutex::new(secret));
        Self(Arc::new(Shared { fronts: Mutex::default(), secret, asked: Notify::new() }))
    }

    /// That of one listener alone, which stays as long as the process.
    pub fn of_one(
        name: &Name,
        settings: &Arc<Settings>,
        secret: Secret,
    ) -> Result<(Self, Arc<Front>), Vec<Fault>> {
        let book = Self::new(secret);
        let front = match Front::open(name, settings, &book.0.secret) {
            Ok(front) => Arc::new(front),
            Err(errors) => return Err(errors.iter().map(|error| Fault::of(0, name, error)).collect()),
        };
        book.lock().0.insert(name.clone(), Arc::clone(&front));
        Ok((book, front))
    }

    /// What a successor makes the keys of tickets from.
    pub fn secret(&self) -> Secret {
        self.0.secret.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the certificates of listeners that have none yet, or other ones. The listeners are in the file's order.
    pub fn prepare<'a>(
        &self,
        listeners: impl Iterator<Item = (&'a Name, Option<&'a Arc<Settings>>)>,
    ) -> Result<Prepared, Vec<Fault>> {
        let now = self.fronts();
        let (mut next, mut faults) = (Fronts::default(), Vec::new());
        for (index, (name, settings)) in listeners.enumerate() {
            let Some(settings) = settings else { continue };
            let front = match now.of(name).filter(|front| front.settings == *settings) {
                Some(same) => Ok(Arc::clone(same)),
                None => Front::open(name, settings, &self.0.secret).map(Arc::new),
            };
            match front {
                Ok(front) => drop(next.0.insert(name.clone(), front)),
                Err(errors) => faults.extend(errors.iter().map(|error| Fault::of(index, name, error))),
            }
        }
        if faults.is_empty() { Ok(Prepared { book: self.clone(), fronts: next }) } else { Err(faults) }
    }

    /// What is in force.
    pub fn fronts(&self) -> Fronts {
        self.lock().clone()
    }

    /// Has the files read at once, whether or not they seem to have changed. Does not wait.
    pub fn ask(&self) {
        self.0.asked.notify_one();
    }

    /// Looks at the files again and again, so that they can be changed without a restart. Never ends.
    pub async fn follow(self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looker = Looker::default();
        loop {
            let is_asked = tokio::select! {
                () = self.0.asked.notified() => true,
                _ = looks.tick() => false,
            };
            let fronts = self.fronts();
            if fronts.0.is_empty() {
                continue;
            }
            // A file system that hangs must not hold up the control plane.
            let looked = tokio::task::spawn_blocking(move || {
                looker.look(&fronts, is_asked);
                looker
            });
            looker = looked.await.unwrap_or_default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Fronts> {
        // It is replaced whole.
        self.0.fronts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prepared {
    /// The TLS of each listener.
    pub fn fronts(&self) -> &Fronts {
        &self.fronts
    }

    /// From now on this is followed and shown.
    pub fn put_in_force(self) {
        *self.book.lock() = self.fronts;
    }
}

impl Fault {
    fn of(listener: usize, name: &Name, error: &FrontError) -> Self {
        let at = format!("/listener/{listener}/tls");
        let message = format!("listener {name}: {error}");
        match error {
            FrontError::Pair(place, error) => {
                let key = match error.part() {
                    Part::Certificate => "cert",
                    Part::Key => "key",
                    Part::Ocsp => "ocsp",
                };
                let pointer = format!("{at}/certificates/{place}/{key}");
                Self { pointer, message, help: error.remedy().to_owned() }
            }
            FrontError::Clients(error) => {
                let pointer = match error.part {
                    ClientPart::Authorities => format!("{at}/client_ca"),
                    ClientPart::Revocations(place) => format!("{at}/crl/{place}"),
                };
                Self { pointer, message, help: error.remedy().to_owned() }
            }
            FrontError::Tickets(_) => {
                let help =
                    "a file with a key of 32 bytes in hex on each line: openssl rand -hex 32".to_owned();
                Self { pointer: format!("{at}/ticket_keys"), message, help }
            }
            FrontError::Tls(_) => Self { pointer: at, message, help: "take other certificates".to_owned() },
        }
    }
}

/// What can be told of a file without reading it: its identity, its size, and when anything of it last changed.
type Sign = Result<(u64, u64, u64, (i64, i64), (i64, i64)), io::ErrorKind>;

/// What was seen of the files so far.
#[derive(Debug, Default)]
struct Looker {
    seen: HashMap<Name, (Arc<Front>, Vec<Sign>)>,
    /// When it was last said of a certificate, by its fingerprint, or of a list, by its file, that it expires.
    warned: HashMap<String, SystemTime>,
}

impl Looker {
    /// Reloads what has changed, all of it if it is asked for.
    fn look(&mut self, fronts: &Fronts, is_asked: bool) {
        self.seen.retain(|name, _| fronts.of(name).is_some());
        let now = SystemTime::now();
        for front in fronts.iter() {
            front.turn_tickets(now);
            let signs = signs(front);
            // What is seen for the first time may have changed since it was opened.
            let known = self.seen.get(&front.listener).filter(|(known, _)| Arc::ptr_eq(known, front));
            let has_changed = known.is_none_or(|(_, known)| *known != signs);
            if is_asked || has_changed || front.is_stale(now) {
                let signs = if known.is_some() { settled(front, signs) } else { signs };
                front.reload();
                self.seen.insert(front.listener.clone(), (Arc::clone(front), signs));
            }
            self.warn_of_expiry(front, now);
            self.warn_of_lists(front, now);
        }
    }

    fn warn_of_expiry(&mut self, front: &Front, now: SystemTime) {
        for pair in front.certificates().pairs() {
            let facts = &pair.facts;
            let left = facts.not_after.duration_since(now).unwrap_or_default();
            let is_known = self
                .warned
                .get(&facts.fingerprint)
                .is_some_and(|at| now.duration_since(*at).is_ok_and(|since| since < WARNS_EVERY));
            if left > WARNS_BEFORE || is_known {
                continue;
            }
            self.warned.insert(facts.fingerprint.clone(), now);
            let (listener, file) = (&front.listener, pair.files.certificate.display());
            let days = left.as_secs() / (24 * 60 * 60);
            if left <= URGENT_BEFORE {
                tracing::error!(%listener, %file, days, "a certificate expires, or has: renew it now");
            } else {
                tracing::warn!(%listener, %file, days, "a certificate expires soon");
            }
        }
    }
}

impl Looker {
    /// A list of revocations that is out of date shuts all clients of its authority out.
    fn warn_of_lists(&mut self, front: &Front, now: SystemTime) {
        for (path, warning, help) in front.clients().iter().flat_map(|clients| clients.warnings(now)) {
            let said = self.warned.entry(path.display().to_string()).or_insert(SystemTime::UNIX_EPOCH);
            if now.duration_since(*said).is_ok_and(|since| since >= WARNS_EVERY) {
                *said = now;
                tracing::error!(listener = %front.listener, "{warning}: {help}");
            }
        }
    }
}

/// Waits until the files stand still, for a few rounds at most, and answers their signs then.
fn settled(front: &Front, mut known: Vec<Sign>) -> Vec<Sign> {
    for _ in 0..4 {
        thread::sleep(SETTLES_WITHIN);
        let now = signs(front);
        if now == known {
            break;
        }
        known = now;
    }
    known
}

fn signs(front: &Front) -> Vec<Sign> {
    front.files().map(|path: &PathBuf| sign(path)).collect()
}

fn sign(path: &Path) -> Sign {
    let found = fs::metadata(path).map_err(|error| error.kind())?;
    let (modified, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Ok((found.dev(), found.ino(), found.len(), modified, changed))
}
