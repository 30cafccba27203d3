//! The one task that changes what Switchback does.
//!
//! Invariant: only [`Controller`] publishes tables, one command at a time: apply (pure), compile, make durable, publish,
//! answer. A command that fails at any step, by a bug even, leaves the state and the table as they were.

use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{mpsc, watch};

use super::{
    announcement::announce,
    change::{Author, Change, Effect, Origin},
    command::Command,
    drains::{self, Drains},
    events::Events,
    handle::{Answered, Control, ControlError, Order, Request},
    names::{self, Findings},
    own_addresses::OwnAddresses,
    refusal::Refusal,
    situation::Situation,
    snapshot::Snapshot,
    start,
    state::State,
    store::{
        Backend, Entry, Receipt, Store, StoreError,
        document::Document,
        sqlite::{Place, Sqlite},
    },
    surroundings::{Port, Ready},
    tally::{Outcome, Tally},
};
use crate::{
    config::Config,
    model::{endpoint_address::EndpointAddress, live_state::LiveState, name::Name, resolved::Resolved},
    routing::{self, live::Live, table::Table},
    telemetry::registry::{Key, Registry as Series},
    upstream::{
        self,
        endpoint::{Endpoint, EndpointId},
    },
};

/// How long a removal that could not be written is left alone.
const FORGETS_AFTER: Duration = Duration::from_secs(5);
/// Endpoints that are removed in one revision: a record of so many effects is below a megabyte.
const MAX_FORGOTTEN: usize = 1_000;
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
    surroundings: Port,
    drains: Drains,
    store: Store,
    /// Until when endpoints whose drain has ended are left where they are: the last attempt to write that failed.
    forgets_again: Option<Instant>,
    custody: Custody,
}

/// Who has the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Custody {
    /// This process.
    Ours,
    /// A successor, or nobody yet: changes are refused.
    HandedOver,
    /// It is to be ours again, and could not be had yet.
    Wanted,
}

/// What a change makes, before anybody sees it.
struct Prepared {
    config: Arc<Config>,
    state: State,
    table: Arc<Table>,
    change: Change,
}

impl Controller {
    /// A control plane that keeps nothing. Serve it with [`Self::run`].
    pub fn new(config: Arc<Config>, series: Arc<Series>) -> (Self, Control, Live) {
        let store = Sqlite::open(Place::Memory).expect("an empty database in memory can be made");
        let opened = Self::open(config, series, store);
        opened.expect("what was never written can't be damaged")
    }

    /// Goes on from what the store has kept, as the file now changes it; compiles and publishes the first table, of
    /// generation 1. Serve it with [`Self::run`].
    pub fn open(
        config: Arc<Config>,
        series: Arc<Series>,
        store: impl Backend,
    ) -> Result<(Self, Control, Live), StoreError> {
        Self::compiling_with(routing::build::build, config, series, store)
    }

    fn compiling_with(
        compile: Compile,
        config: Arc<Config>,
        series: Arc<Series>,
        mut store: impl Backend,
    ) -> Result<(Self, Control, Live), StoreError> {
        let at = SystemTime::now();
        let (state, config) = start::state(&mut store, &config, at)?;
        let (store, _) = Store::start(store);
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
            is_resolved_anew: false,
            at,
        };
        let plan = drains.plan(&situation);
        table.come_into_force(None);
        plan.welcome();
        drains.carry_out(plan);
        let live = Live::new(Arc::clone(&table));
        let taken =
            state.live().weights.keys().map(|split| (split.clone(), taken(&state, split, &series))).collect();
        let draining = drains.shown();
        let snapshot = Snapshot { config, state, table, resolved, taken, draining };
        let snapshot = watch::Sender::new(Arc::new(snapshot));
        let (sender, orders) = mpsc::channel(MAX_WAITING);
        let (tally, own, surroundings) =
            (Arc::new(Tally::default()), OwnAddresses::default(), Port::default());
        let control = Control {
            orders: sender,
            snapshot: snapshot.subscribe(),
            series: Arc::clone(&series),
            tally: Arc::clone(&tally),
            alarm: endpoints.alarm(),
            names: Arc::default(),
            own: own.clone(),
            surroundings: surroundings.clone(),
            store: store.clone(),
            events: Events::default(),
        };
        let live_too = live.clone();
        let forgets_again = None;
        let controller = Self {
            endpoints,
            series,
            live,
            compile,
            orders,
            snapshot,
            tally,
            own,
            surroundings,
            drains,
            store,
            forgets_again,
            custody: Custody::Ours,
        };
        Ok((controller, control, live_too))
    }

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
            Order::HandOver { answer } => {
                let _ = answer.send(self.hand_over().await);
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
            tracing::error!("a change was stopped by a bug; what was in force still is");
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

    /// Removes the endpoints whose drain was to end so: all of a tick in one revision, so that thousands that end at once
    /// are one build and one commit, and calls are heard before the next.
    async fn forget(&mut self) {
        if self.custody == Custody::HandedOver || self.forgets_again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let all = self.ended();
        if !all.is_empty() {
            let request = Request::new(Command::Forget { all }, Origin::Switchback.into());
            // What can't be removed now is tried again.
            let failed = self.obey(request).await.is_err();
            self.forgets_again = failed.then(|| Instant::now() + FORGETS_AFTER);
        }
    }

    /// Lets go of the endpoints that have left for good. Never while a change is being made durable: the table that is to
    /// come has endpoints that no table in force has yet.
    fn retire(&mut self) {
        if self.is_any_to_retire() {
            let table = Arc::clone(&self.snapshot.borrow().table);
            let in_table: HashSet<EndpointId> =
                endpoints_of(&table).map(|(endpoint, _)| endpoint.id).collect();
            let is_needed =
                |endpoint: &Endpoint| in_table.contains(&endpoint.id) || self.drains.has(endpoint);
            self.endpoints.retire(is_needed, &self.series);
        }
    }

    /// Whether there are endpoints that are neither in the table nor drain: their connections are being closed.
    fn is_any_to_retire(&self) -> bool {
        let in_table = endpoints_of(&self.snapshot.borrow().table).count();
        self.endpoints.len() > in_table + self.drains.gone()
    }

    /// The endpoints that are to be removed and whose drain has ended, at most [`MAX_FORGOTTEN`] of them.
    fn ended(&self) -> BTreeMap<Name, HashSet<EndpointAddress>> {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let unended = self.drains.unended();
        let mut ended: BTreeMap<Name, HashSet<EndpointAddress>> = BTreeMap::new();
        let leaving = leaving(&snapshot).filter(|leaving| !unended.contains(leaving));
        for (pool, address) in leaving.take(MAX_FORGOTTEN) {
            ended.entry(pool.clone()).or_default().insert(address.clone());
        }
        ended
    }

    fn is_anyone_leaving(&self) -> bool {
        leaving(&self.snapshot.borrow()).next().is_some()
    }

    /// Applies a command to the state, makes what comes of it durable, and puts it in force.
    async fn change(&mut self, request: Request) -> Result<Answered, ControlError> {
        match self.custody {
            Custody::Ours => {}
            Custody::HandedOver => return Err(ControlError::HandedOver),
            Custody::Wanted => self.take_back().await?,
        }
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
            let state = prepared.change.changed().then(|| Document::of(&prepared.state).to_text());
            let applied = self.newly_applied(&prepared);
            self.commit(Entry { change: prepared.change.clone(), state, applied, receipt }).await?;
        }
        if !prepared.change.changed() {
            return Ok(Answered { change: prepared.change, is_replayed: false });
        }
        let change = self.guarded(|controller| Ok(controller.put_in_force(prepared)))?;
        if let Some(ready) = ready {
            self.while_draining(ready.put_in_force()).await;
        }
        Ok(Answered { change, is_replayed: false })
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

    /// Gives the store up, so that a successor can begin with all that was answered.
    async fn hand_over(&mut self) -> Result<(), ControlError> {
        self.store.close().await?;
        self.custody = Custody::HandedOver;
        Ok(())
    }

    /// Takes the store again. A successor that has begun may have changed the state; that comes into force here.
    async fn take_back(&mut self) -> Result<(), ControlError> {
        let (config, revision) = {
            let before = self.snapshot.borrow();
            (Arc::clone(&before.config), before.state.revision())
        };
        let begun = self.store.reopen(config, revision).await?;
        self.custody = Custody::Ours;
        let Some((state, config)) = begun else { return Ok(()) };
        self.guarded(|controller| {
            let before = Arc::clone(&controller.snapshot.borrow());
            let table = controller.compiled(&config, &state, &before.resolved, &before.table);
            tracing::info!(revision = state.revision(), "what the successor has changed is in force");
            controller.publish(Snapshot { config, state, table, ..Snapshot::clone(&before) });
            Ok(())
        })
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
        self.own.check(&before.config, command)?;
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
    fn put_in_force(&mut self, prepared: Prepared) -> Change {
        let before = Arc::clone(&self.snapshot.borrow());
        let Prepared { config, state, table, change } = prepared;
        let mut taken_then = before.taken.clone();
        taken_then.retain(|split, _| state.live().weights.contains_key(split));
        for effect in &change.effects {
            if let Effect::Weights { split, .. } | Effect::Split { split, weights: Some(_) } = effect {
                taken_then.insert(split.clone(), taken(&state, split, &self.series));
            }
        }
        announce(&change, table.generation);
        let resolved = Arc::clone(&before.resolved);
        self.publish(Snapshot {
            config,
            state,
            table,
            resolved,
            taken: taken_then,
            draining: BTreeMap::new(),
        });
        change
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

fn endpoints_of(table: &Table) -> impl Iterator<Item = &(Arc<Endpoint>, u32)> {
    table.pools.iter().flat_map(|pool| &pool.endpoints)
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

fn outcome(result: &Result<Answered, ControlError>) -> Outcome {
    match result {
        Ok(Answered { change, is_replayed: false }) if change.changed() => Outcome::Applied,
        Ok(_) => Outcome::Unchanged,
        Err(ControlError::Refused(_) | ControlError::Moved(_) | ControlError::OtherCall) => Outcome::Refused,
        Err(ControlError::Busy | ControlError::Stopped | ControlError::HandedOver) => Outcome::Busy,
        Err(ControlError::NotKept(_) | ControlError::Failed) => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::state::tests::config,
        model::live_state::{Drain, LiveEndpoint, PinsOnDrain},
        upstream::occupancy::Claim,
    };

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
        let store = Sqlite::open(Place::Memory).unwrap();
        Controller::compiling_with(broken, Arc::new(config(&[95, 5])), Arc::default(), store).unwrap()
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
            let change = control.change(Request::new(put(50), Origin::Api.into())).await.unwrap();
            assert_eq!((change.revision, change.changed()), (1, changed));
            assert_eq!(
                (live.table().generation, control.snapshot().table.generation),
                (generation, generation)
            );
        }
        assert!(control.preview(&Request::new(put(60), Origin::Api.into())).unwrap().changed());
        assert_eq!((live.table().generation, control.snapshot().state.revision()), (2, 1));
        drop(control);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_bug_in_one_command_changes_nothing_and_the_next_is_served() {
        let (controller, control, live) = start();
        tokio::spawn(controller.run());
        assert_eq!(
            control.change(Request::new(put(13), Origin::Api.into())).await,
            Err(ControlError::Failed)
        );
        assert_eq!((live.table().generation, control.snapshot().state.revision()), (1, 0));
        assert!(control.is_alive());
        assert_eq!(control.change(Request::new(put(14), Origin::Api.into())).await.unwrap().revision, 1);
        assert_eq!((counted(&control, "failed"), counted(&control, "applied")), (1, 1));
    }

    #[tokio::test]
    async fn more_than_may_wait_are_turned_away_at_once() {
        let (controller, control, _live) = start();
        let waiting: Vec<_> = (0..MAX_WAITING as u64)
            .map(|green| {
                let control = control.clone();
                tokio::spawn(async move {
                    control.change(Request::new(put(100 + green), Origin::Api.into())).await
                })
            })
            .collect();
        while control.orders.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(control.change(Request::new(put(1), Origin::Api.into())).await, Err(ControlError::Busy));
        tokio::spawn(controller.run());
        for change in waiting {
            assert!(change.await.unwrap().is_ok());
        }
        assert_eq!((counted(&control, "busy"), counted(&control, "applied")), (1, MAX_WAITING as u64));
    }

    #[tokio::test]
    async fn a_thousand_endpoints_whose_drains_end_together_are_removed_in_few_revisions() {
        const MANY: u16 = 1_000;
        let (controller, control, live) = start();
        tokio::spawn(controller.run());
        let restore = async |state: &LiveState| {
            let command = Command::Restore { revision: 0, live: Arc::new(state.clone()) };
            control.change(Request::new(command, Origin::Api.into())).await.expect("it is taken").revision
        };
        let endpoint = |port| LiveEndpoint {
            address: std::net::SocketAddr::from(([10, 9, 0, 1], port)).into(),
            weight: 1,
            drain: None,
            is_leaving: false,
        };
        let mut state = control.snapshot().state.live().clone();
        let blue = state.pools.get_mut("blue").expect("it is declared");
        blue.endpoints = (1..=MANY).map(endpoint).collect();
        restore(&state).await;
        // Each has a request in flight, so that none ends before all do.
        let held: Vec<_> = endpoints_of(&live.table()).map(|(endpoint, _)| Arc::clone(endpoint)).collect();
        assert_eq!(held.len(), usize::from(MANY));
        assert!(held.iter().all(|endpoint| endpoint.occupancy.claim(u64::MAX) == Claim::Granted));
        let drain = Drain {
            since: SystemTime::now(),
            deadline: None,
            stream_deadline: None,
            pins: PinsOnDrain::Move,
        };
        for endpoint in &mut state.pools.get_mut("blue").expect("it is declared").endpoints {
            (endpoint.drain, endpoint.is_leaving) = (Some(drain), true);
        }
        let deleted = restore(&state).await;
        held.iter().for_each(|endpoint| endpoint.occupancy.release());
        let is_empty = |snapshot: &Arc<Snapshot>| snapshot.state.live().pools["blue"].endpoints.is_empty();
        control.changes().wait_for(is_empty).await.expect("the controller lives");
        let revisions = control.snapshot().state.revision() - deleted;
        assert!((1..=2).contains(&revisions), "{revisions} revisions for {MANY} endpoints");
    }

    #[tokio::test]
    async fn without_its_controller_a_change_is_refused_and_not_awaited() {
        let (controller, control, _live) = start();
        drop(controller);
        assert!(!control.is_alive());
        assert_eq!(
            control.change(Request::new(put(1), Origin::Api.into())).await,
            Err(ControlError::Stopped)
        );
    }
}
