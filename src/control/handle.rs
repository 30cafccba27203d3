//! The handle by which the control plane is asked and read.
//!
//! Invariant: whoever holds it changes nothing; the controller does, one order at a time, and an order that was taken
//! is carried out whether or not anybody waits for the answer.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    command::{Change, Command, Origin},
    names::{self, Findings},
    own_addresses::OwnAddresses,
    refusal::Refusal,
    snapshot::Snapshot,
    tally::{Outcome, Tally},
};
use crate::{telemetry::registry::Registry as Series, upstream::outcomes::Alarm};

/// Why a command did not come into force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The caller's mistake.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many commands are waiting. Nothing changed; trying again is safe.
    #[error("too many changes are waiting: try again in a moment")]
    Busy,
    /// The process is ending. Nothing changed.
    #[error("Switchback is stopping and takes no changes")]
    Stopped,
    /// A fault of Switchback. Nothing changed.
    #[error("a fault in Switchback stopped this change; what was in force still is (the log says more)")]
    Failed,
}

/// The handle by which the control plane is asked and read.
#[derive(Debug, Clone)]
pub struct Control {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) series: Arc<Series>,
    pub(super) tally: Arc<Tally>,
    pub(super) alarm: Arc<Alarm>,
    pub(super) names: Arc<names::Book>,
    pub(super) own: OwnAddresses,
}

/// What is on its way to the controller.
#[derive(Debug)]
pub(super) enum Order {
    Change { command: Command, origin: Origin, answer: oneshot::Sender<Result<Change, ControlError>> },
    Resolve { findings: Findings, answer: oneshot::Sender<Result<(), ControlError>> },
}

impl Control {
    /// Makes a change, and answers when it is in force on every worker's next request.
    pub async fn change(&self, command: Command, origin: Origin) -> Result<Change, ControlError> {
        let kind = command.kind();
        let (answer, answered) = oneshot::channel();
        let unheard = match self.orders.try_send(Order::Change { command, origin, answer }) {
            Ok(()) => return answered.await.unwrap_or(Err(ControlError::Stopped)),
            Err(mpsc::error::TrySendError::Full(_)) => ControlError::Busy,
            Err(mpsc::error::TrySendError::Closed(_)) => ControlError::Stopped,
        };
        self.tally.count(kind, Outcome::Busy);
        Err(unheard)
    }

    /// Puts what names stand for in force, and answers when it is. It waits for its turn, but is not turned away: there
    /// is nobody who would try again.
    pub async fn resolve(&self, findings: Findings) -> Result<(), ControlError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.orders.send(Order::Resolve { findings, answer }).await;
        sent.map_err(|_| ControlError::Stopped)?;
        answered.await.unwrap_or(Err(ControlError::Stopped))
    }

    /// What a change would do now. Nothing changes.
    pub fn preview(&self, command: &Command, origin: Origin) -> Result<Change, Refusal> {
        let snapshot = self.snapshot();
        self.own.check(&snapshot.config, command)?;
        snapshot.state.apply(&snapshot.config, command, origin, SystemTime::now()).map(|(_, change)| change)
    }

    /// What is in force now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Sees each snapshot that comes into force, or the newest of several.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// What is raised when an endpoint has failed too often in a row.
    pub fn alarm(&self) -> Arc<Alarm> {
        Arc::clone(&self.alarm)
    }

    /// What is known of the names of endpoints.
    pub fn names(&self) -> &Arc<names::Book> {
        &self.names
    }

    /// The counts of requests.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Says at which addresses this process listens: none of them is taken for an endpoint's.
    pub fn listens_at(&self, addresses: Vec<SocketAddr>) {
        self.own.bound(addresses);
    }

    /// The counts of commands.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether the controller still serves commands.
    pub fn is_alive(&self) -> bool {
        !self.orders.is_closed()
    }
}
