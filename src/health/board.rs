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
    memory::Memory,
    probe::{Finding, ProbeResult},
    report::{EndpointReport, PoolReport},
    watched::Watched,
};
use crate::{
    config,
    model::name::Name,
    upstream::{
        endpoint::{Endpoint, EndpointId},
        pool::PoolState,
        way::Way,
    },
};

/// A pool whose endpoints are to be watched, as the table in force has it.
#[derive(Debug, Clone)]
pub struct PoolTarget {
    /// What the file says of it.
    pub settings: Arc<config::Pool>,
    /// What is shared of it.
    pub state: Arc<PoolState>,
    /// How its endpoints are spoken to.
    pub way: Way,
    /// Its endpoints with their weights.
    pub endpoints: Vec<(Arc<Endpoint>, u32)>,
}

/// The board; every clone is the same one.
#[derive(Debug, Clone)]
pub struct Health(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    board: Mutex<Board>,
    /// Whether no first result is awaited.
    settled: watch::Sender<bool>,
}

#[derive(Debug)]
struct Board {
    pools: BTreeMap<Name, Watched>,
    /// The endpoints of the start whose first result has not come.
    awaited: BTreeSet<usize>,
    /// How long it is waited for.
    patience: Duration,
    /// Since when.
    awaited_since: Instant,
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
    pub fn new(targets: &[PoolTarget], now: Instant) -> Self {
        let mut board = Board {
            pools: BTreeMap::new(),
            awaited: BTreeSet::new(),
            patience: SETTLING,
            awaited_since: now,
        };
        board.follow(targets, now);
        Self(Arc::new(Shared { board: Mutex::new(board), settled: watch::Sender::new(true) }))
    }

    /// Goes on with the pools of another table. What was there before keeps its state.
    pub fn follow(&self, targets: &[PoolTarget], now: Instant) {
        let mut board = self.lock();
        board.follow(targets, now);
        self.tell_settled(&board);
    }

    /// From now on first results are awaited of all endpoints in force that have none: see [`Self::settled`]. The pools
    /// are read while nobody else can bring newer ones.
    pub fn await_first_results(&self, targets: impl FnOnce() -> Vec<PoolTarget>, now: Instant) {
        let mut board = self.lock();
        let targets = targets();
        board.follow(&targets, now);
        board.awaited = board.unknown();
        board.awaited_since = now;
        let timeouts = targets.iter().filter_map(|pool| Some(pool.settings.health.as_ref()?.timeout));
        board.patience = timeouts.max().unwrap_or_default() + SETTLING;
        self.tell_settled(&board);
    }

    /// What is known of all endpoints, for a successor of this process.
    pub fn memory(&self, now: Instant) -> Memory {
        let board = self.lock();
        board.pools.iter().map(|(name, pool)| (name.clone(), pool.memory(now))).collect()
    }

    /// Goes on from what a predecessor of this process knew of the endpoints that are watched.
    pub fn recall(&self, memory: &Memory, now: Instant) {
        let mut board = self.lock();
        for (name, pool) in &mut board.pools {
            if let Some(memory) = memory.get(name) {
                pool.recall(memory, now);
            }
        }
        let unknown = board.unknown();
        board.awaited.retain(|id| unknown.contains(id));
        self.tell_settled(&board);
    }

    fn tell_settled(&self, board: &Board) {
        let is_settled = board.awaited.is_empty();
        self.0.settled.send_if_modified(|settled| std::mem::replace(settled, is_settled) != is_settled);
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
        let is_made = finding.result != ProbeResult::NotMade;
        let healthy = board.pools.get_mut(pool)?.probed(endpoint.index(), started, finding, now);
        if is_made && board.awaited.remove(&endpoint.index()) {
            self.tell_settled(&board);
        }
        healthy
    }

    /// Looks at the traffic and the time: ejects, readmits, and says which pools panic. Answers when to look again, at
    /// the latest; sooner if the alarm is raised.
    pub fn judge(&self, now: Instant) -> Instant {
        let mut board = self.lock();
        let next = board.pools.values_mut().filter_map(|pool| pool.judge(now));
        next.fold(now + LOOK, Instant::min)
    }

    /// Ends when every endpoint whose first result is awaited has had it, or should have had it.
    pub async fn settled(&self) {
        let patience = self.lock().patience;
        let mut settled = self.0.settled.subscribe();
        // Neither too long a wait nor a sender that has gone, which `self` holds, changes what follows.
        let _ = tokio::time::timeout(patience, settled.wait_for(|settled| *settled)).await;
    }

    /// Whether the results that are still awaited should have been there.
    pub fn is_overdue(&self, now: Instant) -> bool {
        let board = self.lock();
        now.saturating_duration_since(board.awaited_since) >= board.patience
    }

    /// Whether no first result is awaited.
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

impl Board {
    fn follow(&mut self, targets: &[PoolTarget], now: Instant) {
        let mut before = std::mem::take(&mut self.pools);
        for target in targets {
            let name = &target.settings.name;
            let mut watched = before.remove(name).unwrap_or_else(|| Watched::new(target));
            watched.follow(target, now);
            self.pools.insert(name.clone(), watched);
        }
        before.into_values().for_each(Watched::leave);
        if !self.awaited.is_empty() {
            let unknown = self.unknown();
            self.awaited.retain(|id| unknown.contains(id));
        }
    }

    /// The endpoints that are probed and have had no result.
    fn unknown(&self) -> BTreeSet<usize> {
        self.pools.values().flat_map(Watched::unknown).collect()
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
            // No text can be made of what a clock that was set to 1970 would have shown before that.
            None => (self.wall - self.now.saturating_duration_since(at)).max(SystemTime::UNIX_EPOCH),
        }
    }
}
