//! What follows the file beside the table: listeners, the access log, the keys of pins.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use super::descriptors::{self, Shares};
use crate::{
    config::{Config, Pins},
    control::{
        lifecycle::{Lifecycle, Phase},
        own_addresses::OwnAddresses,
        pin_keys::{self, KeyFile, PassingKey},
        refusal::FileFault,
        surroundings::{Ready, Surroundings, Told},
    },
    proxy::{self, Listeners, ProxyError},
    routing::pins::SharedKeys,
    telemetry::{
        access_log::{self, AccessLog, Trial},
        counter::Counter,
    },
    tls,
};

/// How long the end of an access log waits for its last lines to be taken. A file takes them in milliseconds; a reader that
/// needs longer has most likely stopped reading.
pub(super) const LOG_LIMIT: Duration = Duration::from_secs(1);

/// The access log of the process, which a reload may replace. Every clone is the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<Option<AccessLog>>>);

/// What the composition connects to the control plane.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) listeners: Listeners,
    pub(super) log: Log,
    /// Lines that the log has lost.
    pub(super) lost: Arc<Counter>,
    pub(super) keys: SharedKeys,
    pub(super) own_key: PassingKey,
    pub(super) key_files: mpsc::UnboundedSender<Option<KeyFile>>,
    pub(super) certificates: tls::Book,
    pub(super) lifecycle: Lifecycle,
    pub(super) own: OwnAddresses,
    /// Where else this process listens.
    pub(super) others: Vec<SocketAddr>,
}

struct Prepared {
    listeners: proxy::Prepared,
    shares: Shares,
    drain: Duration,
    log: NextLog,
    pins: Option<pin_keys::Prepared>,
    certificates: tls::Prepared,
    around: Shown,
}

/// Who is told where this process listens.
#[derive(Clone)]
struct Shown {
    listeners: Listeners,
    log: Log,
    keys: SharedKeys,
    key_files: mpsc::UnboundedSender<Option<KeyFile>>,
    lifecycle: Lifecycle,
    own: OwnAddresses,
    others: Vec<SocketAddr>,
}

/// What becomes of the access log.
enum NextLog {
    Same,
    /// The same one, with another share of the requests.
    Sample(f64),
    Other(Option<(Trial, f64)>),
}

impl Log {
    pub(super) fn new(log: Option<AccessLog>) -> Self {
        Self(Arc::new(Mutex::new(log)))
    }

    /// The log, if there is one.
    pub(super) fn get(&self) -> MutexGuard<'_, Option<AccessLog>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Surroundings for Around {
    fn prepare(&self, now: &Config, next: &Config) -> Result<Box<dyn Ready>, Vec<FileFault>> {
        if self.lifecycle.phase() >= Phase::Draining {
            let message = "the process is stopping".to_owned();
            return Err(vec![FileFault {
                pointer: String::new(),
                message,
                help: "the next one reads the file".into(),
            }]);
        }
        let mut faults = Vec::new();
        let shares = taken(shares(next), &mut faults);
        let certificates = certificates(&self.certificates, next);
        let certificates = certificates.map_err(|found| faults.extend(found)).ok();
        let listeners = certificates.as_ref().and_then(|ready| taken(self.bound(next, ready), &mut faults));
        let log = taken(self.log(now, next), &mut faults);
        let pins = taken(keys(&now.pins, &next.pins, &self.own_key), &mut faults);
        match (shares, listeners, log, pins, certificates) {
            (Some(shares), Some(listeners), Some(log), Some(pins), Some(certificates)) => {
                listeners.listen().map_err(|error| vec![unbound(next, &error)])?;
                let (drain, around) = (next.shutdown.deadline, self.shown());
                Ok(Box::new(Prepared { listeners, shares, drain, log, pins, certificates, around }))
            }
            _ => Err(faults),
        }
    }
}

fn taken<T>(result: Result<T, FileFault>, faults: &mut Vec<FileFault>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

/// Reads the certificates of listeners that have none yet, or other ones.
pub(super) fn certificates(book: &tls::Book, next: &Config) -> Result<tls::Prepared, Vec<FileFault>> {
    let listeners = next.listeners.iter().map(|listener| (&listener.name, listener.tls.as_ref()));
    let fault = |tls::Fault { pointer, message, help }| FileFault { pointer, message, help };
    book.prepare(listeners).map_err(|faults| faults.into_iter().map(fault).collect())
}

fn shares(next: &Config) -> Result<Shares, FileFault> {
    Shares::of(descriptors::limit(), next).map_err(|error| FileFault {
        pointer: "/listener".into(),
        message: error.to_string(),
        help: "take listeners away, or raise the limit and restart".into(),
    })
}

fn unbound(next: &Config, error: &ProxyError) -> FileFault {
    let place = match error {
        ProxyError::Bind { name, .. } => {
            next.listeners.iter().position(|listener| listener.name.as_str() == name)
        }
        ProxyError::Worker(_) => None,
    };
    let pointer = place.map_or("/listener".into(), |place| format!("/listener/{place}/listen"));
    let help = "take an address of this machine that nobody else listens on".into();
    FileFault { pointer, message: error.to_string(), help }
}

fn keys(now: &Pins, next: &Pins, own: &PassingKey) -> Result<Option<pin_keys::Prepared>, FileFault> {
    if now == next {
        return Ok(None);
    }
    pin_keys::prepare(next, own).map(Some).map_err(|error| FileFault {
        pointer: "/pins/key_file".into(),
        message: error.to_string(),
        help: "name a file of keys that Switchback may read".into(),
    })
}

impl Around {
    fn bound(&self, next: &Config, certificates: &tls::Prepared) -> Result<proxy::Prepared, FileFault> {
        self.listeners.prepare(next, certificates.fronts()).map_err(|error| unbound(next, &error))
    }

    fn log(&self, now: &Config, next: &Config) -> Result<NextLog, FileFault> {
        let (now, next) = (&now.access_log, &next.access_log);
        if now == next {
            return Ok(NextLog::Same);
        }
        let Some(next) = next else { return Ok(NextLog::Other(None)) };
        if now.as_ref().is_some_and(|now| (&now.path, &now.format) == (&next.path, &next.format)) {
            return Ok(NextLog::Sample(next.sample));
        }
        let started = Trial::start(next, Arc::clone(&self.lost));
        started.map(|log| NextLog::Other(Some((log, next.sample)))).map_err(|error| FileFault {
            pointer: "/access_log/path".into(),
            message: format!("the access log {} can't be opened: {error}", next.path.display()),
            help: "name a file that Switchback may write".into(),
        })
    }

    fn shown(&self) -> Shown {
        Shown {
            listeners: self.listeners.clone(),
            log: self.log.clone(),
            keys: self.keys.clone(),
            key_files: self.key_files.clone(),
            lifecycle: self.lifecycle.clone(),
            own: self.own.clone(),
            others: self.others.clone(),
        }
    }

    /// Says where this process listens.
    pub(super) fn show(&self) {
        self.shown().show();
    }
}

impl Shown {
    fn show(&self) {
        let addresses = self.listeners.addresses();
        self.lifecycle.listening_at(addresses.clone());
        self.own.bound(addresses.into_iter().chain(self.others.iter().copied()).collect());
    }
}

impl Ready for Prepared {
    fn put_in_force(self: Box<Self>) -> Told {
        let Self { listeners, shares, drain, log, pins, certificates, around } = *self;
        around.listeners.allow(shares.proxy);
        if let Err(error) = listeners.put_in_force(drain) {
            // It listens already, or has the port of a listener of ours: there is no known way to come here.
            tracing::error!(%error, "the listeners stay as they were");
        }
        certificates.put_in_force();
        around.show();
        log.put_in_force(&around);
        if let Some(pins) = pins {
            let file = pins.put_in_force(&around.keys);
            // Who would follow it ends with the process.
            let _ = around.key_files.send(file);
        }
        Box::pin(around.listeners.told())
    }
}

impl NextLog {
    fn put_in_force(self, around: &Shown) {
        let mut log = around.log.get();
        let old = match self {
            Self::Same => return,
            Self::Sample(sample) => {
                around.listeners.log_to(log.as_ref().map(|log| (log, sample)));
                return;
            }
            Self::Other(None) => {
                around.listeners.log_to(None);
                log.take()
            }
            Self::Other(Some((next, sample))) => {
                let next = next.accepted();
                around.listeners.log_to(Some((&next, sample)));
                log.replace(next)
            }
        };
        if let Some(old) = old {
            // Its last lines are still on their way from the workers.
            let ending = thread::Builder::new().name("access-log-end".into()).spawn(move || finish(old));
            if let Err(error) = ending {
                tracing::warn!(%error, "the access log that is replaced ends without its last lines");
            }
        }
    }
}

/// Ends an access log.
pub(super) fn finish(log: access_log::AccessLog) {
    let left = log.finish(LOG_LIMIT);
    if left > 0 {
        tracing::warn!(lines = left, "the access log's reader has stalled; its last lines are lost");
    }
}
