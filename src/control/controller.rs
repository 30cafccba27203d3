//! The one task that changes what Switchback does.
//!
//! Invariant: only [`Controller`] publishes tables, one command at a time: apply (pure), compile, publish, answer. A
//! command that fails at any step, by a bug even, leaves the state and the table as they were.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::{mpsc, watch};

use super::{
    announcement::announce,
    command::{Change, Command, Effect, EndpointOf, Origin},
    drains::{self, Drains},
    handle::{Control, ControlError, Order},
    names::{self, Findings},
    own_addresses::OwnAddresses,
    situation::Situation,
    snapshot::Snapshot,
    state::State,
    tally::{Outcome, Tally},
};
use crate::{
    config::Config,
    model::{endpoint_address::EndpointAddress, live_state::LiveState, name::Name, resolved::Resolved},
    routing::{self, live::Live, table::Table},
    telemetry::registry::{Key, Registry as Series},
    upstream,
};

/// Commands that may wait. Each takes well under a millisecond, so a longer queue would only hide that something
/// sends them in a loop.
const MAX_WAITING: usize = 64;

/// Compiles a table; [`routing::build::build`] but in tests.
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
    drains: Drains,
}

impl Controller {
    /// Compiles and publishes the first table, of generation 1. Serve it with [`Self::run`].
    pub fn new(config: Arc<Config>, series: Arc<Series>) -> (Self, Control, Live) {
        Self::compiling_with(routing::build::build, config, series)
    }

    fn compiling_with(compile: Compile, config: Arc<Config>, series: Arc<Series>) -> (Self, Control, Live) {
        if config.admin.is_some() {
            tracing::info!(
                "live changes are not kept over a restart in this version: it begins with the file's weights"
            );
        }
        let at = SystemTime::now();
        let state = State::declared(&config, at);
        let mut endpoints = upstream::registry::Registry::default();
        let resolved = Arc::<Resolved>::default();
        let table = Arc::new(compile(1, &config, state.live(), &resolved, &mut endpoints, &series, None));
        let mut drains = Drains::default();
        let situation = Situation {
            config: &config,
            state: state.live(),
            resolved: &resolved,
            table: &table,
            previous: None,
            at,
        };
        let plan = drains.plan(&situation);
        plan.welcome();
        drains.carry_out(plan);
        let live = Live::new(Arc::clone(&table));
        let taken =
            state.live().weights.keys().map(|split| (split.clone(), taken(&state, split, &series))).collect();
        let draining = drains.shown();
        let snapshot = Snapshot { config, state, table, resolved, taken, draining };
        let snapshot = watch::Sender::new(Arc::new(snapshot));
        let (sender, orders) = mpsc::channel(MAX_WAITING);
        let (tally, own) = (Arc::new(Tally::default()), OwnAddresses::default());
        let control = Control {
            orders: sender,
            snapshot: snapshot.subscribe(),
            series: Arc::clone(&series),
            tally: Arc::clone(&tally),
            alarm: endpoints.alarm(),
            names: Arc::default(),
            own: own.clone(),
        };
        let live_too = live.clone();
        let controller = Self { endpoints, series, live, compile, orders, snapshot, tally, own, drains };
        (controller, control, live_too)
    }

    /// Serves commands, and drives the drains, until no handle is left.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(drains::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_busy = self.drains.is_busy() || self.is_anyone_leaving();
            tokio::select! {
                order = self.orders.recv() => {
                    let Some(order) = order else { return };
                    self.take(order);
                }
                _ = ticks.tick(), if is_busy => self.tick(),
            }
        }
    }

    /// Does what an order asks for. Whoever asked may have gone; what was done stands all the same.
    fn take(&mut self, order: Order) {
        match order {
            Order::Change { command, origin, answer } => {
                let _ = answer.send(self.obey(&command, origin));
            }
            Order::Resolve { findings, answer } => {
                let _ = answer.send(self.guarded(|controller| controller.resolve(findings)));
            }
        }
    }

    /// Does what a command says, whatever it runs into.
    fn obey(&mut self, command: &Command, origin: Origin) -> Result<Change, ControlError> {
        let result = self.guarded(|controller| controller.change(command, origin));
        self.tally.count(command.kind(), outcome(&result));
        result
    }

    /// Does some work, so that a bug in it ends nothing but the work.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        // State and table are replaced only after everything that can panic, so unwinding leaves them whole; the
        // registry of endpoints only ever gains entries, and drains are carried out from the state anew.
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            tracing::error!("a change was stopped by a bug; what was in force still is");
            Err(ControlError::Failed)
        })
    }

    /// Drives the drains, and removes the endpoints whose drain was to end so.
    fn tick(&mut self) {
        if self.drains.tick() {
            let draining = self.drains.shown();
            let snapshot = Snapshot { draining, ..Snapshot::clone(&self.snapshot.borrow()) };
            self.snapshot.send_replace(Arc::new(snapshot));
        }
        for of in self.ended() {
            // What can't be removed now is tried again.
            let _ = self.obey(&Command::ForgetEndpoint { of }, Origin::Switchback);
        }
    }

    /// The endpoints that are to be removed and whose drain has ended.
    fn ended(&self) -> Vec<EndpointOf> {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let leaving = leaving(&snapshot).filter(|(pool, address)| self.drains.has_ended(pool, address));
        leaving
            .map(|(pool, address)| EndpointOf { pool: pool.to_string(), address: address.to_string() })
            .collect()
    }

    fn is_anyone_leaving(&self) -> bool {
        leaving(&self.snapshot.borrow()).next().is_some()
    }

    /// Applies a command to the state, and puts what comes of it in force.
    fn change(&mut self, command: &Command, origin: Origin) -> Result<Change, ControlError> {
        let before = Arc::clone(&self.snapshot.borrow());
        let at = SystemTime::now();
        self.own.check(&before.config, command)?;
        let (state, change) = before.state.apply(&before.config, command, origin, at)?;
        if !change.changed() {
            return Ok(change);
        }
        let mut taken_then = before.taken.clone();
        if let Effect::Weights { split, .. } = &change.effect {
            taken_then.insert(split.clone(), taken(&state, split, &self.series));
        }
        let generation = self.put_in_force(state, Arc::clone(&before.resolved), taken_then, at);
        announce(&change, generation);
        Ok(change)
    }

    /// Puts in force what names stand for now. The live state, and so the revision, stays as it is.
    fn resolve(&mut self, findings: Findings) -> Result<(), ControlError> {
        let before = Arc::clone(&self.snapshot.borrow());
        if let Some(resolved) = names::applied(&before, findings) {
            let (state, taken) = (before.state.clone(), before.taken.clone());
            let generation = self.put_in_force(state, Arc::new(resolved), taken, SystemTime::now());
            tracing::info!(generation, "names of endpoints stand for other addresses");
        }
        Ok(())
    }

    /// Compiles, publishes and drains; answers the new generation.
    fn put_in_force(
        &mut self,
        state: State,
        resolved: Arc<Resolved>,
        taken: BTreeMap<Name, Arc<[u64]>>,
        at: SystemTime,
    ) -> u64 {
        let before = Arc::clone(&self.snapshot.borrow());
        let generation = before.table.generation + 1;
        let table = Arc::new((self.compile)(
            generation,
            &before.config,
            state.live(),
            &resolved,
            &mut self.endpoints,
            &self.series,
            Some(&before.table),
        ));
        let plan = self.drains.plan(&Situation {
            config: &before.config,
            state: state.live(),
            resolved: &resolved,
            table: &table,
            previous: Some(&before.table),
            at,
        });
        // Those that come are open before the table has them, and those that leave drain when it has not: a request in
        // between finds an endpoint by either table.
        plan.welcome();
        self.live.publish(Arc::clone(&table));
        self.drains.carry_out(plan);
        let (config, draining) = (Arc::clone(&before.config), self.drains.shown());
        let snapshot = Snapshot { config, state, table, resolved, taken, draining };
        self.snapshot.send_replace(Arc::new(snapshot));
        generation
    }
}

/// The endpoints that are to be removed when their drain has ended.
fn leaving(snapshot: &Snapshot) -> impl Iterator<Item = (&Name, &EndpointAddress)> {
    let pools = snapshot.state.live().pools.iter();
    pools.flat_map(|(name, pool)| {
        let leaving = pool.endpoints.iter().filter(|endpoint| endpoint.is_leaving);
        leaving.map(move |endpoint| (name, &endpoint.address))
    })
}

/// The requests that each pool of a split has taken, in declared order.
fn taken(state: &State, split: &Name, series: &Series) -> Arc<[u64]> {
    let pools = state.live().weights[split].iter();
    pools.map(|(pool, _)| series.counts(&Key::Split(split.clone(), pool.clone())).taken()).collect()
}

fn outcome(result: &Result<Change, ControlError>) -> Outcome {
    match result {
        Ok(change) if change.changed() => Outcome::Applied,
        Ok(_) => Outcome::Unchanged,
        Err(ControlError::Refused(_)) => Outcome::Refused,
        Err(ControlError::Busy | ControlError::Stopped) => Outcome::Busy,
        Err(ControlError::Failed) => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::state::tests::config;

    /// Compiles as ever, but for one set of weights.
    fn broken(
        generation: u64,
        config: &Config,
        state: &LiveState,
        resolved: &Resolved,
        endpoints: &mut upstream::registry::Registry,
        series: &Series,
        previous: Option<&Table>,
    ) -> Table {
        let bug = state.weights["shop"].of("green") == Some(13);
        assert!(!bug, "the bug that the test is about");
        routing::build::build(generation, config, state, resolved, endpoints, series, previous)
    }

    fn start() -> (Controller, Control, Live) {
        Controller::compiling_with(broken, Arc::new(config(&[95, 5])), Arc::default())
    }

    fn put(green: u64) -> Command {
        let weights = vec![("blue".to_owned(), 50), ("green".to_owned(), green)];
        Command::SetWeights { split: "shop".into(), weights, pins: None }
    }

    fn counted(control: &Control, outcome: &str) -> u64 {
        control.tally().all().filter(|(_, of, _)| *of == outcome).map(|(_, _, count)| count).sum()
    }

    #[tokio::test]
    async fn an_answered_change_is_in_force_and_a_repeated_one_builds_nothing() {
        let (controller, control, live) = start();
        let task = tokio::spawn(controller.run());
        for (generation, changed) in [(2, true), (2, false)] {
            let change = control.change(put(50), Origin::Admin).await.unwrap();
            assert_eq!((change.revision, change.changed()), (1, changed));
            assert_eq!(
                (live.table().generation, control.snapshot().table.generation),
                (generation, generation)
            );
        }
        assert!(control.preview(&put(60), Origin::Admin).unwrap().changed());
        assert_eq!((live.table().generation, control.snapshot().state.revision()), (2, 1));
        drop(control);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_bug_in_one_command_changes_nothing_and_the_next_is_served() {
        let (controller, control, live) = start();
        tokio::spawn(controller.run());
        assert_eq!(control.change(put(13), Origin::Admin).await, Err(ControlError::Failed));
        assert_eq!((live.table().generation, control.snapshot().state.revision()), (1, 0));
        assert!(control.is_alive());
        assert_eq!(control.change(put(14), Origin::Admin).await.unwrap().revision, 1);
        assert_eq!((counted(&control, "failed"), counted(&control, "applied")), (1, 1));
    }

    #[tokio::test]
    async fn more_than_may_wait_are_turned_away_at_once() {
        let (controller, control, _live) = start();
        let waiting: Vec<_> = (0..MAX_WAITING as u64)
            .map(|green| {
                let control = control.clone();
                tokio::spawn(async move { control.change(put(100 + green), Origin::Admin).await })
            })
            .collect();
        while control.orders.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(control.change(put(1), Origin::Admin).await, Err(ControlError::Busy));
        tokio::spawn(controller.run());
        for change in waiting {
            assert!(change.await.unwrap().is_ok());
        }
        assert_eq!((counted(&control, "busy"), counted(&control, "applied")), (1, MAX_WAITING as u64));
    }

    #[tokio::test]
    async fn without_its_controller_a_change_is_refused_and_not_awaited() {
        let (controller, control, _live) = start();
        drop(controller);
        assert!(!control.is_alive());
        assert_eq!(control.change(put(1), Origin::Admin).await, Err(ControlError::Stopped));
    }
}
