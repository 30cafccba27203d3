//! Replacing this process by a successor: how that is asked for, what is known of a predecessor, and what it is told.
//!
//! Invariant: whoever asks does nothing; the composition does, one replacement at a time. A predecessor decides what it
//! still serves by what is in force here: a change is answered when it does, or when it is known that it does not.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::model::name::Name;

/// How long a successor has to serve, unless the caller says otherwise: the names of endpoints and the first probes have
/// their own, shorter limits.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time that a caller may give it: changes are refused meanwhile.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a predecessor may take to go by what it is told: it compiles a table, and has little else to do. Half of it is
/// for its own predecessor, so that one that hangs is given up by the next alone.
pub const GOES_BY_WITHIN: Duration = Duration::from_secs(2);

/// Asks for a successor, and knows of a predecessor. Every clone is the same one.
#[derive(Debug, Clone)]
pub struct Succession {
    orders: mpsc::Sender<Order>,
    predecessor: Arc<watch::Sender<Option<Predecessor>>>,
    line: Arc<Mutex<Option<Line>>>,
}

/// By which the predecessor is told.
#[derive(Debug)]
struct Line {
    last: u64,
    told: blocking::Sender<Told>,
}

/// What a predecessor is told to decide by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told {
    /// Counts up from 1; the predecessor says it again when it decides by this.
    pub number: u64,
    /// The revision that is in force.
    pub revision: u64,
    /// The file that is in force.
    pub file: String,
    /// The live state, as it is written down with every revision.
    pub state: String,
    /// How long it is waited for, in milliseconds.
    pub within_ms: u64,
}

/// A replacement that is asked for.
#[derive(Debug)]
pub struct Order {
    /// The program of the successor; that of this process if `None`.
    pub binary: Option<PathBuf>,
    /// How long it has to serve.
    pub timeout: Duration,
    /// Where the outcome is told.
    pub answer: oneshot::Sender<Result<Successor, SuccessionError>>,
}

/// A successor that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// The number of its process.
    pub pid: u32,
    /// What it says of its version.
    pub version: String,
    /// Its program.
    pub binary: PathBuf,
}

/// The process that this one has replaced and that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// The number of its process.
    pub pid: u32,
    /// Since when this process serves in its place.
    pub since: Instant,
    /// How it stood when it last said so.
    pub standing: Standing,
}

/// How far a process that was replaced has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The clients' connections that it has.
    pub connections: u64,
    /// The number of what it decides by; `None` if it goes on by what was in force when it was replaced, as an earlier
    /// version does.
    pub goes_by: Option<u64>,
    /// What is in flight there, and in older processes that say so.
    pub left: Vec<Left>,
    /// The clients' connections of older processes that go on by what was in force when they were replaced.
    pub unheard: u64,
}

/// What is in flight at one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The endpoint's pool.
    pub pool: Name,
    /// Its address.
    pub address: SocketAddr,
    /// Requests, streams among them.
    pub in_flight: u64,
}

impl Standing {
    /// How many requests may be in flight at an endpoint of a pool, or at all of them. Of one that does not say where its
    /// requests are, each connection may have one there.
    pub fn in_flight(&self, pool: &Name, address: Option<SocketAddr>) -> u64 {
        let here = match self.goes_by {
            None => self.connections,
            // It was told, and has not answered yet.
            Some(0) => self.connections.max(1),
            Some(_) => {
                let there = |left: &&Left| {
                    left.pool == *pool && address.is_none_or(|address| left.address == address)
                };
                self.left.iter().filter(there).map(|left| left.in_flight).sum()
            }
        };
        here + self.unheard
    }

    /// With what is left in a process before this one, too.
    #[must_use]
    pub fn and(mut self, older: Option<Predecessor>) -> Self {
        let Some(Predecessor { standing: older, .. }) = older else { return self };
        self.unheard += older.unheard;
        match older.goes_by {
            None => self.unheard += older.connections,
            Some(0) => self.unheard += older.connections.max(1),
            Some(_) => self.left.extend(older.left),
        }
        self
    }
}

/// Why there is no successor. This process serves and takes changes as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// One is being started.
    #[error("a successor is being started already")]
    Busy,
    /// Nobody is there who could start one.
    #[error("this process can't be replaced: it is a demo, or it is ending")]
    Unable,
    /// The end of this process would be the end of all.
    #[error(
        "this process is the first of its container, which ends with it, and any successor, too: replace the container"
    )]
    First,
    /// The program can't be used.
    #[error("{} can't be the successor: {why}", .path.display())]
    Binary {
        /// The program.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It was started and does not serve.
    #[error("the successor did not come to serve: {why}{}", ending(.said))]
    Failed {
        /// What happened.
        why: String,
        /// The end of what it has written to its standard error.
        said: String,
    },
}

fn ending(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; it said: {}", said.trim_end()) }
}

impl Succession {
    /// The port, and the orders that come in by it.
    pub fn new() -> (Self, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::channel(1);
        (Self { orders, predecessor: Arc::default(), line: Arc::default() }, receiver)
    }

    /// Replaces this process, and answers when the successor serves.
    pub async fn replace(
        &self,
        binary: Option<PathBuf>,
        timeout: Duration,
    ) -> Result<Successor, SuccessionError> {
        let (answer, answered) = oneshot::channel();
        match self.orders.try_send(Order { binary, timeout, answer }) {
            Ok(()) => answered.await.unwrap_or(Err(SuccessionError::Unable)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(SuccessionError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SuccessionError::Unable),
        }
    }

    /// The process that this one has replaced, if it has not ended.
    pub fn predecessor(&self) -> Option<Predecessor> {
        self.predecessor.borrow().clone()
    }

    /// How many requests a predecessor that has not ended may have in flight at an endpoint of a pool, or at all of them.
    pub fn in_flight(&self, pool: &Name, address: Option<SocketAddr>) -> u64 {
        self.predecessor
            .borrow()
            .as_ref()
            .map_or(0, |predecessor| predecessor.standing.in_flight(pool, address))
    }

    /// Says how the predecessor stands.
    pub fn set_predecessor(&self, mut predecessor: Option<Predecessor>) {
        let mut line = self.line();
        match &mut predecessor {
            Some(Predecessor { standing, .. }) if standing.goes_by.is_some() => {
                // One that is told no more does not go by what it was told last.
                standing.goes_by = standing.goes_by.filter(|_| line.is_some());
            }
            _ => *line = None,
        }
        self.predecessor.send_replace(predecessor);
    }

    /// Has a predecessor told, from now on, of what is in force; answers where that comes out.
    pub fn lead(&self, pid: u32) -> blocking::Receiver<Told> {
        let (told, hears) = blocking::channel();
        *self.line() = Some(Line { last: 0, told });
        let standing = Standing { goes_by: Some(0), ..Standing::default() };
        self.predecessor.send_replace(Some(Predecessor { pid, since: Instant::now(), standing }));
        hears
    }

    /// Whether there is a predecessor to be told.
    pub fn leads(&self) -> bool {
        self.line().is_some()
    }

    /// Tells the predecessor what is in force; answers the number of that, if there is a predecessor that hears it.
    pub fn tell(&self, told: Told) -> Option<u64> {
        let mut line = self.line();
        let Line { last, told: sender } = line.as_mut()?;
        *last += 1;
        sender.send(Told { number: *last, ..told }).is_ok().then_some(*last)
    }

    /// Waits until the predecessor decides by what it was told, has ended, or has taken longer than `within`.
    pub async fn gone_by(&self, number: u64, within: Duration) {
        let mut predecessor = self.predecessor.subscribe();
        let goes_by_it = |predecessor: &Option<Predecessor>| {
            let goes_by = predecessor.as_ref().and_then(|predecessor| predecessor.standing.goes_by);
            goes_by.is_none_or(|goes_by| goes_by >= number)
        };
        let waited = tokio::time::timeout(within, predecessor.wait_for(goes_by_it)).await;
        if waited.is_err() {
            tracing::error!(
                "the process that was replaced does not hear what changes; what it still serves goes by what was"
            );
            *self.line() = None;
            self.predecessor.send_modify(|predecessor| {
                if let Some(Predecessor { standing, .. }) = predecessor {
                    // One that has not said anything may have anything.
                    if standing.goes_by.take() == Some(0) {
                        standing.connections = standing.connections.max(1);
                    }
                }
            });
        }
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    /// What a signal asks for.
    pub fn by_signal() -> Self {
        Self { binary: None, timeout: TIMEOUT, answer: oneshot::channel().0 }
    }
}

impl Default for Succession {
    /// The port of a process that can't be replaced.
    fn default() -> Self {
        Self::new().0
    }
}
