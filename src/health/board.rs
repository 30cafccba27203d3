//! All that is known of the health of the endpoints in force, and the one place in which it is decided upon.
//!
//! Invariant: a decision is one synchronous step, made with the time that is passed in: whoever drives the clock (the
//! supervisor, or a test) sees the same. The lock is held for such a step only; no worker ever takes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use super::{
    probe::Finding,
    report::{EndpointReport, PoolReport},
    watched::Watched,
};
use crate::{
    config,
    model::name::Name,
    telemetry::registry::Registry as Series,
    upstream::{
        endpoint::{Endpoint, EndpointId},
        pool::PoolState,
    },
};

/// A pool whose endpoints are to be watched, as the table in force has it.
#[derive(Debug, Clone)]
pub struct PoolTarget {
    /// What the file says of it.
    pub settings: Arc<config::Pool>,
    /// What is shared of it.
    pub state: Arc<PoolState>,
    /// Its endpoints with their weights.
    pub endpoints: Vec<(Arc<Endpoint>, u32)>,
}

/// The board; every clone is the same one.
#[derive(Debug, Clone)]
pub struct Health(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    board: Mutex<Board>,
    series: Arc<Series>,
    /// Whether every endpoint of the start has had its first result.
    settled: watch::Sender<bool>,
    /// How long that is waited for.
    patience: Duration,
}

#[derive(Debug)]
struct Board {
    pools: BTreeMap<Name, Watched>,
    /// The endpoints of the start whose first result has not come.
    awaited: BTreeSet<usize>,
}

/// One moment on both clocks, to tell people when something was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    now: Instant,
    wall: SystemTime,
}

/// The longest time between two looks: what others change (a drain, say) counts for a panic, too.
const LOOK: Duration = Duration::from_secs(1);
/// What the first probes may take beyond the longest timeout: they are spread, and of very many some wait.
const SETTLING: Duration = Duration::from_secs(1);

impl Health {
    /// Begins with the pools of the first table.
    pub fn new(targets: &[PoolTarget], series: Arc<Series>, now: Instant) -> Self {
        let board = Board { pools: BTreeMap::new(), awaited: BTreeSet::new() };
        let timeouts = targets.iter().filter_map(|pool| Some(pool.settings.health.as_ref()?.timeout));
        let patience = timeouts.max().unwrap_or_default() + SETTLING;
        let health = Self(Arc::new(Shared {
            board: Mutex::new(board),
            series,
            settled: watch::Sender::new(false),
            patience,
        }));
        health.follow(targets, now);
        let mut board = health.lock();
        board.awaited = board.pools.values().flat_map(Watched::unknown).collect();
        health.0.settled.send_replace(board.awaited.is_empty());
        drop(board);
        health
    }

    /// Goes on with the pools of another table. What was there before keeps its state.
    pub fn follow(&self, targets: &[PoolTarget], now: Instant) {
        let mut board = self.lock();
        let mut before = std::mem::take(&mut board.pools);
        for target in targets {
            let name = &target.settings.name;
            let mut watched = before.remove(name).unwrap_or_else(|| Watched::new(target));
            watched.follow(target, &self.0.series, now);
            board.pools.insert(name.clone(), watched);
        }
        before.into_values().for_each(Watched::leave);
        let Board { pools, awaited } = &mut *board;
        if !awaited.is_empty() {
            let unknown: BTreeSet<usize> = pools.values().flat_map(Watched::unknown).collect();
            awaited.retain(|id| unknown.contains(id));
            self.0
                .settled
                .send_if_modified(|settled| awaited.is_empty() && !std::mem::replace(settled, true));
        }
    }

    /// Takes in the result of a probe that began at `started`; answers whether the endpoint is healthy, or `None` if it
    /// is not to be probed any more.
    pub fn probed(
        &self,
        pool: &Name,
        endpoint: EndpointId,
        started: Instant,
        finding: Finding,
        now: Instant,
    ) -> Option<bool> {
        let mut board = self.lock();
        let healthy = board.pools.get_mut(pool)?.probed(endpoint.index(), started, finding, now);
        if board.awaited.remove(&endpoint.index()) && board.awaited.is_empty() {
            self.0.settled.send_replace(true);
        }
        healthy
    }

    /// Looks at the traffic and the time: ejects, readmits, and says which pools panic. Answers when to look again, at
    /// the latest; sooner if the alarm is raised.
    pub fn judge(&self, now: Instant) -> Instant {
        let mut board = self.lock();
        let next = board.pools.values_mut().filter_map(|pool| pool.judge(&self.0.series, now));
        next.fold(now + LOOK, Instant::min)
    }

    /// Ends when every probed endpoint of the start has had its first result, or should have had it.
    pub async fn settled(&self) {
        let mut settled = self.0.settled.subscribe();
        // Neither too long a wait nor a sender that has gone, which `self` holds, changes what follows.
        let _ = tokio::time::timeout(self.0.patience, settled.wait_for(|settled| *settled)).await;
    }

    /// Whether every probed endpoint of the start has had its first result.
    pub fn is_settled(&self) -> bool {
        *self.0.settled.borrow()
    }

    /// What is known of each endpoint of a pool.
    pub fn endpoints(&self, pool: &str) -> BTreeMap<SocketAddr, EndpointReport> {
        let board = self.lock();
        board.pools.get(pool).map(|pool| pool.reports(Moment::now()).collect()).unwrap_or_default()
    }

    /// What was counted of each pool.
    pub fn pools(&self) -> Vec<PoolReport> {
        self.lock().pools.values().map(Watched::report).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // A panic in a step can leave a pool behind the table, never a machine half changed; the next step mends it.
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moment {
    fn now() -> Self {
        Self { now: Instant::now(), wall: SystemTime::now() }
    }

    /// What the wall's clock showed, or will show, at a moment.
    pub(super) fn of(self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.now) {
            Some(ahead) => self.wall + ahead,
            None => self.wall - self.now.saturating_duration_since(at),
        }
    }
}
