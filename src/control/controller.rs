//! The one task that changes what Switchback does.
//!
//! Invariant: only [`Controller`] publishes tables, one command at a time: apply (pure), compile, make durable, publish,
//! answer. A command that fails before it is durable, by a bug even, leaves the state and the table as they were; what is
//! durable comes into force before anything else is changed.

mod custody;
mod departures;
mod following;
mod opening;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Instant, SystemTime},
};

use custody::Custody;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};

use super::{
    announcement::announce,
    change::{Author, Change, Effect},
    command::Command,
    drains::{self, Drains},
    handle::{Answered, ControlError, Order, Request},
    names::{self, Findings},
    own_addresses::OwnAddresses,
    refusal::Refusal,
    situation::Situation,
    snapshot::Snapshot,
    state::State,
    store::{Entry, Receipt, Store, document::Document},
    succession::{GOES_BY_WITHIN, Succession},
    surroundings::{Port, Ready},
    tally::{Outcome, Tally},
};
use crate::{
    config::Config,
    model::{live_state::LiveState, resolved::Resolved},
    routing::{live::Live, table::Table},
    telemetry::registry::Registry as Series,
    upstream,
};

/// Commands that may wait. Each takes well under a millisecond, so a longer queue would only hide that something
/// sends them in a loop.
const MAX_WAITING: usize = 64;

/// Compiles a table; [`crate::routing::build::build`] but in tests.
pub type Compile = fn(
    u64,
    &Config,
    &LiveState,
    &Resolved,
    &mut upstream::registry::Registry,
    &Series,
    Option<&Table>,
) -> Table;

/// The only writer of the live state and of the routing table.
#[derive(Debug)]
pub struct Controller {
    endpoints: upstream::registry::Registry,
    series: Arc<Series>,
    live: Live,
    compile: Compile,
    orders: mpsc::Receiver<Order>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    tally: Arc<Tally>,
    own: OwnAddresses,
    surroundings: Port,
    drains: Drains,
    store: Store,
    /// Until when endpoints whose drain has ended are left where they are: the last attempt to write that failed.
    forgets_again: Option<Instant>,
    custody: Custody,
    /// What is to be made durable when the process begins to serve.
    first: Vec<Entry>,
    /// What is kept and could not be put in force.
    behind: Option<Behind>,
    /// Knows of a process that was replaced by this one.
    succession: Succession,
}

/// What is kept and not in force.
#[derive(Debug, Clone)]
struct Behind {
    config: Arc<Config>,
    state: State,
}

/// What a change makes, before anybody sees it.
struct Prepared {
    config: Arc<Config>,
    state: State,
    table: Arc<Table>,
    change: Change,
}

impl Controller {
    /// Serves commands, and drives the drains, until no handle is left.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(drains::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_busy = self.drains.is_busy() || self.is_anyone_leaving() || self.is_any_to_retire();
            tokio::select! {
                order = self.orders.recv() => {
                    let Some(order) = order else { return };
                    self.take(order).await;
                }
                _ = ticks.tick(), if is_busy => {
                    self.tick();
                    self.forget().await;
                    self.retire();
                }
            }
        }
    }

    /// Does what an order asks for. Whoever asked may have gone; what was done stands all the same.
    async fn take(&mut self, order: Order) {
        match order {
            Order::Change { request, answer } => {
                let _ = answer.send(self.obey(*request).await);
            }
            Order::Resolve { findings, answer } => {
                let _ = answer.send(self.guarded(|controller| controller.resolve(findings)));
            }
            Order::Begin { answer } => {
                let _ = answer.send(self.begin().await);
            }
            Order::RefuseChanges { answer } => {
                self.custody = Custody::HandedOver;
                let _ = answer.send(Ok(()));
            }
            Order::HandOver { answer } => {
                let _ = answer.send(self.hand_over().await);
            }
            Order::GoBy { told, answer } => {
                let _ = answer.send(self.go_by(told).await);
            }
            Order::TakeBack { answer } => {
                self.custody = Custody::Wanted;
                let _ = answer.send(self.take_back().await);
            }
        }
    }

    /// Does what a command says, whatever it runs into.
    async fn obey(&mut self, request: Request) -> Result<Answered, ControlError> {
        let kind = request.command.kind();
        let result = self.change(request).await;
        self.tally.count(kind, outcome(&result));
        result
    }

    /// Does some work, so that a bug in it ends nothing but the work.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        // State and table are replaced only after everything that can panic, so unwinding leaves them whole; what the
        // registry of endpoints has gained is in no table and is retired, and drains are carried out from the state anew.
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            tracing::error!("a bug stopped some work of the control plane; what was in force still is");
            Err(ControlError::Failed)
        })
    }

    /// Drives the drains.
    fn tick(&mut self) {
        if self.drains.tick() {
            let draining = self.drains.shown();
            let snapshot = Snapshot { draining, ..Snapshot::clone(&self.snapshot.borrow()) };
            self.snapshot.send_replace(Arc::new(snapshot));
        }
    }

    /// Applies a command to the state, makes what comes of it durable, and puts it in force.
    async fn change(&mut self, request: Request) -> Result<Answered, ControlError> {
        match self.custody {
            Custody::Ours => {}
            Custody::Awaited => return Err(ControlError::Busy),
            Custody::HandedOver => return Err(ControlError::HandedOver),
            Custody::Wanted => self.take_back().await?,
        }
        self.catch_up()?;
        if let Some(change) = self.answered(&request).await? {
            return Ok(Answered { change, is_replayed: true });
        }
        let Request { command, author, expected, idempotency } = request;
        let prepared = self.guarded(|controller| {
            let before = Arc::clone(&controller.snapshot.borrow());
            expected.iter().try_for_each(|expected| expected.check(&before.state))?;
            controller.prepare(&command, &author)
        })?;
        let receipt = idempotency.map(|given| Receipt {
            key: given.key,
            asked: given.asked,
            change: prepared.change.clone(),
        });
        let ready = self.made_ready(&prepared).await?;
        if prepared.change.changed() || receipt.is_some() {
            let text = || Document::of(&prepared.state).to_text();
            let state = self.guarded(|_| Ok(prepared.change.changed().then(text)))?;
            let applied = self.newly_applied(&prepared);
            self.commit(Entry { change: prepared.change.clone(), state, applied, receipt }).await?;
        }
        if !prepared.change.changed() {
            return Ok(Answered { change: prepared.change, is_replayed: false });
        }
        let change = prepared.change.clone();
        let put = self.guarded(|controller| {
            controller.put_in_force(&prepared);
            Ok(())
        });
        if put.is_err() {
            self.behind = Some(Behind { config: prepared.config, state: prepared.state });
            self.catch_up()?;
        }
        if let Some(ready) = ready {
            let put = AssertUnwindSafe(ready.put_in_force()).catch_unwind();
            if self.while_draining(put).await.is_err() {
                tracing::error!("a bug stopped what follows a file; a restart puts all of it in force");
            }
        }
        self.have_gone_by(GOES_BY_WITHIN).await;
        Ok(Answered { change, is_replayed: false })
    }

    /// Puts in force what is kept, where a bug was in the way of it: an answer never says less than what is kept.
    fn catch_up(&mut self) -> Result<(), ControlError> {
        let Some(Behind { config, state }) = self.behind.clone() else { return Ok(()) };
        let revision = state.revision();
        let caught_up = self.guarded(|controller| {
            let before = Arc::clone(&controller.snapshot.borrow());
            let table = controller.compiled(&config, &state, &before.resolved, &before.table);
            controller.publish(Snapshot { config, state, table, ..Snapshot::clone(&before) });
            Ok(())
        });
        caught_up.map_err(|_| ControlError::NotInForce(revision))?;
        self.behind = None;
        Ok(())
    }

    /// Makes ready what has to follow a file that is loaded, beside the table. Drains go on meanwhile.
    async fn made_ready(&mut self, prepared: &Prepared) -> Result<Option<Box<dyn Ready>>, ControlError> {
        let now = Arc::clone(&self.snapshot.borrow().config);
        if !prepared.change.changed() || Arc::ptr_eq(&now, &prepared.config) {
            return Ok(None);
        }
        let surroundings = self.surroundings.clone();
        let ready = surroundings.prepare(now, Arc::clone(&prepared.config));
        self.while_draining(ready).await.map(Some).map_err(|faults| Refusal::File(faults).into())
    }

    /// The text of a declaration that is applied by this change: it is kept beside the state.
    fn newly_applied(&self, prepared: &Prepared) -> Option<String> {
        let (before, next) = (Arc::clone(&self.snapshot.borrow()), &prepared.state);
        let is_new = next.declaration().is_applied() && next.declaration() != before.state.declaration();
        is_new.then(|| prepared.config.text.to_string())
    }

    /// What was answered to this call before, if it is a repeated one.
    async fn answered(&self, request: &Request) -> Result<Option<Change>, ControlError> {
        let Some(given) = &request.idempotency else { return Ok(None) };
        match self.store.recall(&given.key).await? {
            Some(receipt) if receipt.asked == given.asked => Ok(Some(receipt.change)),
            Some(_) => Err(ControlError::OtherCall),
            None => Ok(None),
        }
    }

    /// Makes an entry durable. Drains go on while the disk takes its time.
    async fn commit(&mut self, entry: Entry) -> Result<(), ControlError> {
        let store = self.store.clone();
        Ok(self.while_draining(store.commit(entry)).await?)
    }

    /// Drives the drains while something takes its time.
    async fn while_draining<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(drains::TICK);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => self.tick(),
            }
        }
    }

    /// Applies a command and compiles what comes of it. Nobody sees it yet.
    fn prepare(&mut self, command: &Command, author: &Author) -> Result<Prepared, ControlError> {
        let before = Arc::clone(&self.snapshot.borrow());
        let at = before.state.moment(SystemTime::now());
        self.own.check(&before.config, before.state.live(), command)?;
        let (state, change) = before.state.apply(&before.config, command, author, at)?;
        let config = match command {
            Command::Load { config, .. } if change.changed() => {
                Arc::new(Config::clone(config).sharing(&before.config))
            }
            _ => Arc::clone(&before.config),
        };
        let table = match change.changed() {
            true => self.compiled(&config, &state, &before.resolved, &before.table),
            false => Arc::clone(&before.table),
        };
        Ok(Prepared { config, state, table, change })
    }

    fn compiled(
        &mut self,
        config: &Config,
        state: &State,
        resolved: &Resolved,
        before: &Table,
    ) -> Arc<Table> {
        let generation = before.generation + 1;
        let (endpoints, series) = (&mut self.endpoints, &self.series);
        Arc::new((self.compile)(generation, config, state.live(), resolved, endpoints, series, Some(before)))
    }

    /// Puts a change in force that is durable.
    fn put_in_force(&mut self, prepared: &Prepared) {
        let before = Arc::clone(&self.snapshot.borrow());
        let Prepared { config, state, table, change } = prepared;
        let mut taken = before.taken.clone();
        taken.keep_those_of(state);
        for effect in &change.effects {
            if let Effect::Weights { split, .. } | Effect::Split { split, weights: Some(_) } = effect {
                taken.begin(state, split, &self.series);
            }
        }
        announce(change, table.generation);
        let (config, state, table) = (Arc::clone(config), state.clone(), Arc::clone(table));
        let resolved = Arc::clone(&before.resolved);
        self.publish(Snapshot { config, state, table, resolved, taken, draining: BTreeMap::new() });
    }

    /// Puts in force what names stand for now. The live state, and so the revision, stays as it is.
    fn resolve(&mut self, findings: Findings) -> Result<(), ControlError> {
        let before = Arc::clone(&self.snapshot.borrow());
        if let Some(resolved) = names::applied(&before, findings) {
            let table = self.compiled(&before.config, &before.state, &resolved, &before.table);
            let generation = table.generation;
            self.publish(Snapshot { table, resolved: Arc::new(resolved), ..Snapshot::clone(&before) });
            tracing::info!(generation, "names of endpoints stand for other addresses");
        }
        Ok(())
    }

    /// Publishes a table, and drains what it is without.
    fn publish(&mut self, next: Snapshot) {
        let before = Arc::clone(&self.snapshot.borrow());
        let plan = self.drains.plan(&Situation {
            config: &next.config,
            state: next.state.live(),
            resolved: &next.resolved,
            table: &next.table,
            previous: Some(&before.table),
            is_resolved_anew: next.state.revision() == before.state.revision(),
            at: SystemTime::now(),
        });
        next.table.come_into_force(Some(&before.table));
        // Those that come are open before the table has them, and those that leave drain when it has not: a request in
        // between finds an endpoint by either table.
        plan.welcome();
        self.live.publish(Arc::clone(&next.table));
        self.drains.carry_out(plan);
        self.snapshot.send_replace(Arc::new(Snapshot { draining: self.drains.shown(), ..next }));
    }
}

fn outcome(result: &Result<Answered, ControlError>) -> Outcome {
    match result {
        Ok(Answered { change, is_replayed: false }) if change.changed() => Outcome::Applied,
        Ok(_) => Outcome::Unchanged,
        Err(ControlError::Refused(_) | ControlError::Moved(_) | ControlError::OtherCall) => Outcome::Refused,
        Err(ControlError::Busy | ControlError::Stopped | ControlError::HandedOver) => Outcome::Busy,
        Err(ControlError::NotKept(_) | ControlError::Failed | ControlError::NotInForce(_)) => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests;
