//! Replacing this process by a successor: how that is asked for, and what is known of a predecessor.
//!
//! Invariant: whoever asks does nothing; the composition does, one replacement at a time.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

/// How long a successor has to serve, unless the caller says otherwise: the names of endpoints and the first probes have
/// their own, shorter limits.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time that a caller may give it: changes are refused meanwhile.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Asks for a successor, and knows of a predecessor. Every clone is the same one.
#[derive(Debug, Clone)]
pub struct Succession {
    orders: mpsc::Sender<Order>,
    predecessor: Arc<watch::Sender<Option<Predecessor>>>,
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
    /// The clients' connections that it still had when it last said so.
    pub connections: u64,
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
        (Self { orders, predecessor: Arc::default() }, receiver)
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

    /// Says how the predecessor stands.
    pub fn set_predecessor(&self, predecessor: Option<Predecessor>) {
        self.predecessor.send_replace(predecessor);
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
