//! The handle by which the control plane is asked and read.
//!
//! Invariant: whoever holds it changes nothing; the controller does, one order at a time, and an order that was taken
//! is carried out whether or not anybody waits for the answer.

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    time::SystemTime,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    change::{Author, Change},
    command::Command,
    events::Events,
    names::{self, Findings},
    own_addresses::OwnAddresses,
    refusal::Refusal,
    snapshot::Snapshot,
    state::{Object, State},
    store::{Store, StoreError},
    succession::Told,
    surroundings::{Port, Surroundings},
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
    /// The process is being replaced. Nothing changed; the successor takes changes in a moment.
    #[error("this process is being replaced by another, which takes changes in a moment: try again")]
    HandedOver,
    /// The object is not as the caller has seen it. Nothing changed.
    #[error("{0}")]
    Moved(Moved),
    /// The key of the call stands for another one. Nothing changed.
    #[error("this Idempotency-Key was used for another call: give each call a key of its own")]
    OtherCall,
    /// It could not be made durable. Nothing changed.
    #[error(transparent)]
    NotKept(#[from] StoreError),
    /// A fault of Switchback. The change is kept, and not in force yet.
    #[error(
        "a fault in Switchback: revision {0} is kept, but not in force; the next change tries it again, and a restart goes on \
         from it (the log says more)"
    )]
    NotInForce(u64),
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
    pub(super) surroundings: Port,
    pub(super) store: Store,
    pub(super) events: Events,
}

/// A command, who gives it, and on which terms.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is to be done.
    pub command: Command,
    /// Who wants it.
    pub author: Author,
    /// What must hold before it.
    pub expected: Option<Expected>,
    /// By what a repeated call is known.
    pub idempotency: Option<Idempotency>,
}

/// The revisions of an object that the caller has seen; with any other in force, nothing is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The object; `None` is the whole live state.
    pub object: Option<Object>,
    /// Any of these.
    pub revisions: Vec<u64>,
}

/// What a caller gives with a call that he may have to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// His key.
    pub key: String,
    /// What he asks for, digested.
    pub asked: [u8; 32],
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The change.
    pub change: Change,
    /// It is the answer to an earlier call with the same key: this one has done nothing.
    pub is_replayed: bool,
}

/// An object is not as the caller has seen it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has changed since: revision {now} is in force{}", list(.expected))]
pub struct Moved {
    /// What the caller has seen.
    pub expected: Vec<u64>,
    /// What is in force.
    pub now: u64,
}

/// `, not 3 or 4`; nothing if the caller has named no revision that could ever be in force.
fn list(revisions: &[u64]) -> String {
    let named = revisions.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
    if named.is_empty() { named } else { format!(", not {named}") }
}

impl Request {
    /// A command without terms.
    pub fn new(command: Command, author: Author) -> Self {
        Self { command, author, expected: None, idempotency: None }
    }
}

impl Expected {
    /// Whether it holds.
    pub fn check(&self, state: &State) -> Result<(), ControlError> {
        let now = self.object.as_ref().map_or(state.revision(), |object| state.touched(object));
        // What is not there has not moved: that it is not there is what the caller has to be told.
        let is_there = self.object.as_ref().is_none_or(|object| state.has(object));
        if self.revisions.contains(&now) || !is_there {
            return Ok(());
        }
        Err(ControlError::Moved(Moved { expected: self.revisions.clone(), now }))
    }
}

/// What is on its way to the controller.
#[derive(Debug)]
pub(super) enum Order {
    Change { request: Box<Request>, answer: oneshot::Sender<Result<Answered, ControlError>> },
    Resolve { findings: Findings, answer: oneshot::Sender<Result<(), ControlError>> },
    Begin { answer: SyncSender<Result<(), ControlError>> },
    RefuseChanges { answer: oneshot::Sender<Result<(), ControlError>> },
    HandOver { answer: oneshot::Sender<Result<(), ControlError>> },
    GoBy { told: Told, answer: oneshot::Sender<Result<(), ControlError>> },
    TakeBack { answer: oneshot::Sender<Result<(), ControlError>> },
}

impl Control {
    /// Makes a change, and answers when it is in force on every worker's next request.
    pub async fn change(&self, request: Request) -> Result<Change, ControlError> {
        self.ask(request).await.map(|answered| answered.change)
    }

    /// As [`Self::change`]; says besides whether the call was a repeated one.
    pub async fn ask(&self, request: Request) -> Result<Answered, ControlError> {
        let kind = request.command.kind();
        let (answer, answered) = oneshot::channel();
        let request = Box::new(request);
        let unheard = match self.orders.try_send(Order::Change { request, answer }) {
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
        self.order(|answer| Order::Resolve { findings, answer }).await
    }

    /// Makes durable what a controller that was prepared begins with, and takes changes from now on. It waits for that, for a
    /// start that has nothing else to do.
    pub fn begin(&self) -> Result<(), ControlError> {
        let (answer, answered) = sync_channel(1);
        self.orders.try_send(Order::Begin { answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ControlError::Busy,
            mpsc::error::TrySendError::Closed(_) => ControlError::Stopped,
        })?;
        answered.recv().unwrap_or(Err(ControlError::Stopped))
    }

    /// Refuses changes from now on. What was answered before is in the store.
    pub async fn refuse_changes(&self) -> Result<(), ControlError> {
        self.order(|answer| Order::RefuseChanges { answer }).await
    }

    /// Gives the store up as well.
    pub async fn hand_over(&self) -> Result<(), ControlError> {
        self.order(|answer| Order::HandOver { answer }).await
    }

    /// Takes the store and changes again: there is no successor. What it may have changed comes into force. If that
    /// fails, each change that is asked for tries it again.
    pub async fn take_back(&self) -> Result<(), ControlError> {
        self.order(|answer| Order::TakeBack { answer }).await
    }

    /// Has a process that was replaced decide by what its successor says to be in force.
    pub async fn go_by(&self, told: Told) -> Result<(), ControlError> {
        self.order(|answer| Order::GoBy { told, answer }).await
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), ControlError>>) -> Order,
    ) -> Result<(), ControlError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| ControlError::Stopped)?;
        answered.await.unwrap_or(Err(ControlError::Stopped))
    }

    /// What a change would do now. Nothing changes.
    pub fn preview(&self, request: &Request) -> Result<Change, ControlError> {
        let Request { command, author, expected, .. } = request;
        let snapshot = self.snapshot();
        expected.iter().try_for_each(|expected| expected.check(&snapshot.state))?;
        let (state, config) = (&snapshot.state, &snapshot.config);
        self.own.check(config, state.live(), command)?;
        let (_, change) = state.apply(config, command, author, state.moment(SystemTime::now()))?;
        Ok(change)
    }

    /// What happens besides changes.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Where revisions are kept.
    pub fn store(&self) -> &Store {
        &self.store
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

    /// Where this process listens: none of these addresses is taken for an endpoint's.
    pub fn own_addresses(&self) -> &OwnAddresses {
        &self.own
    }

    /// Says what has to follow a file that is loaded, beside the table.
    pub fn surrounded_by(&self, surroundings: Arc<dyn Surroundings>) {
        self.surroundings.connect(surroundings);
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
