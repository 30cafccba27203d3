//! How a controller begins: from what was kept, as the file now changes it, with a first table in force.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::{mpsc, watch};

use super::{Compile, Controller, MAX_WAITING, custody::Custody};
use crate::{
    config::Config,
    control::{
        drains::Drains,
        events::Events,
        handle::Control,
        own_addresses::OwnAddresses,
        situation::Situation,
        snapshot::Snapshot,
        start::{self, Beginning},
        store::{
            Backend, Entry, Store, StoreError,
            sqlite::{Place, Sqlite},
        },
        succession::Succession,
        surroundings::Port,
        taken::{Passed, Taken},
        tally::Tally,
    },
    model::resolved::Resolved,
    routing::{self, live::Live},
    telemetry::registry::Registry as Series,
    upstream,
};

impl Controller {
    /// A control plane that keeps nothing. Serve it with [`Self::run`].
    pub fn new(config: Arc<Config>, series: Arc<Series>) -> (Self, Control, Live) {
        let store = Sqlite::open(Place::Memory).expect("an empty database in memory can be made");
        let opened = Self::open(config, series, store);
        opened.expect("what was never written can't be damaged")
    }

    /// What [`Self::stand_by`] does; it is durable when this returns.
    pub fn open(
        config: Arc<Config>,
        series: Arc<Series>,
        store: impl Backend,
    ) -> Result<(Self, Control, Live), StoreError> {
        Self::compiling_with(routing::build::build, config, series, store)
    }

    /// Goes on from what the store has kept, as the file now changes it; compiles and publishes the first table, of
    /// generation 1. Serve it with [`Self::run`]. Nothing is written, and no change taken, before [`Control::begin`]. What was
    /// `passed` on, oldest first, comes before: it may have been kept elsewhere.
    pub fn stand_by(
        config: Arc<Config>,
        series: Arc<Series>,
        (mut store, passed): (impl Backend, Vec<Entry>),
    ) -> Result<(Self, Control, Live), StoreError> {
        let beginning = start::state(&mut store, passed, &config, SystemTime::now())?;
        Ok(Self::beginning(routing::build::build, beginning, Custody::Awaited, series, store))
    }

    pub(super) fn compiling_with(
        compile: Compile,
        config: Arc<Config>,
        series: Arc<Series>,
        mut store: impl Backend,
    ) -> Result<(Self, Control, Live), StoreError> {
        let mut beginning = start::state(&mut store, Vec::new(), &config, SystemTime::now())?;
        for entry in std::mem::take(&mut beginning.entries) {
            store.commit(&entry)?;
        }
        Ok(Self::beginning(compile, beginning, Custody::Ours, series, store))
    }

    fn beginning(
        compile: Compile,
        Beginning { state, config, entries }: Beginning,
        custody: Custody,
        series: Arc<Series>,
        store: impl Backend,
    ) -> (Self, Control, Live) {
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
            at: SystemTime::now(),
        };
        let plan = drains.plan(&situation);
        table.come_into_force(None);
        plan.welcome();
        drains.carry_out(plan);
        let live = Live::new(Arc::clone(&table));
        let taken = Taken::begun(&state, &series);
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
            custody,
            first: entries,
            behind: None,
            succession: Succession::default(),
        };
        (controller, control, live_too)
    }

    /// Knows of a predecessor from here on.
    pub fn succeed_by(&mut self, succession: Succession) {
        self.succession = succession;
    }

    /// Goes on from what a predecessor's splits had taken.
    pub fn recall(&mut self, passed: &Passed) {
        let mut snapshot = Snapshot::clone(&self.snapshot.borrow());
        snapshot.taken.recall(passed, &snapshot.state);
        self.snapshot.send_replace(Arc::new(snapshot));
    }
}
