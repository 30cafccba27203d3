//! The tasks of the control thread that watch endpoints: one for each that is probed, and one that judges.
//!
//! Invariant: there is a prober for exactly the endpoints in force whose pool is probed, drained ones included, and none
//! outlives the supervisor.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use super::{
    board::{Health, PoolTarget},
    probe::Prober,
};
use crate::{
    config,
    model::name::Name,
    upstream::{
        endpoint::{Endpoint, EndpointId},
        outcomes::Alarm,
        way::Way,
    },
};

/// The pools of a table, to be watched.
pub type Targets = Arc<[PoolTarget]>;

/// The most probes at once, however many descriptors there are.
const MAX_AT_ONCE: usize = 1024;
/// The time between the first probes of endpoints that came at once: a thousand are spread over a quarter of a second.
const SPREAD: Duration = Duration::from_micros(250);
/// How far an interval is moved at random, at most, as a share of it: endpoints that came together drift apart.
const JITTER: f64 = 0.1;
/// Probes that are due within this time are begun together, as to wake for each would cost about as much as the probe.
const TURN: Duration = Duration::from_millis(20);
/// A turn is at most this part of the interval.
const TURNS: u32 = 100;
/// A bug that comes back does so at this pace.
const AFTER_A_BUG: Duration = Duration::from_secs(1);
/// Alarms within this time are looked at together.
const ALARM_PAUSE: Duration = Duration::from_millis(10);

/// The connections that probes may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Probes at once. Endpoints that hang hold a connection each for as long as the timeout; beyond so many, the others
    /// wait.
    pub at_once: usize,
    /// Connections that are kept between probes. Beyond so many, each probe opens one of its own.
    pub kept: usize,
}

/// Watches what is in force, until `targets` is dropped or this future is.
pub async fn run(
    health: Health,
    mut targets: watch::Receiver<Targets>,
    alarm: Arc<Alarm>,
    allowance: Allowance,
    seed: u64,
) {
    let mut supervisor = Supervisor {
        health: health.clone(),
        probers: BTreeMap::new(),
        tasks: JoinSet::new(),
        places: Arc::new(Semaphore::new(allowance.at_once.clamp(1, MAX_AT_ONCE))),
        kept: Arc::new(Semaphore::new(allowance.kept.min(Semaphore::MAX_PERMITS))),
        rng: fastrand::Rng::with_seed(seed),
        began: Instant::now(),
    };
    let mut judging = JoinSet::new();
    judging.spawn(judge(health.clone(), Arc::clone(&alarm)));
    loop {
        let now = targets.borrow_and_update().clone();
        supervisor.follow(&now);
        loop {
            tokio::select! {
                changed = targets.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(ended) = supervisor.tasks.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        tracing::error!("a prober was stopped by a bug; its endpoint is probed anew");
                        supervisor.start(&now, AFTER_A_BUG);
                    }
                }
                Some(_) = judging.join_next() => {
                    tracing::error!("the judge of endpoints was stopped by a bug; it begins anew");
                    sleep(AFTER_A_BUG).await;
                    judging.spawn(judge(health.clone(), Arc::clone(&alarm)));
                }
            }
        }
    }
}

/// Judges, again and again.
async fn judge(health: Health, alarm: Arc<Alarm>) {
    loop {
        let next = health.judge(Instant::now().into_std());
        tokio::select! {
            () = sleep_until(next.into()) => {}
            () = alarm.raised() => sleep(ALARM_PAUSE).await,
        }
    }
}

struct Supervisor {
    health: Health,
    probers: BTreeMap<EndpointId, (config::HealthCheck, Way, AbortHandle)>,
    tasks: JoinSet<()>,
    places: Arc<Semaphore>,
    kept: Arc<Semaphore>,
    rng: fastrand::Rng,
    began: Instant,
}

impl Supervisor {
    fn follow(&mut self, targets: &[PoolTarget]) {
        self.health.follow(targets, Instant::now().into_std());
        let wanted: BTreeMap<EndpointId, (&config::HealthCheck, &Way)> = targets
            .iter()
            .filter_map(|pool| Some((pool.settings.health.as_ref()?, pool)))
            .flat_map(|(check, pool)| {
                pool.endpoints.iter().map(move |(endpoint, _)| (endpoint.id, (check, &pool.way)))
            })
            .collect();
        self.probers.retain(|endpoint, (check, way, task)| {
            let stays = wanted.get(endpoint).is_some_and(|(now, by)| **now == *check && by.is_same(way));
            if !stays {
                task.abort();
            }
            stays
        });
        self.start(targets, Duration::ZERO);
    }

    /// Starts the probers that are not there, the first of them after `delay`.
    fn start(&mut self, targets: &[PoolTarget], mut delay: Duration) {
        let running: BTreeSet<EndpointId> =
            self.probers.iter().filter(|(_, (_, _, task))| !task.is_finished()).map(|(id, _)| *id).collect();
        for pool in targets {
            let Some(check) = &pool.settings.health else { continue };
            for (endpoint, _) in pool.endpoints.iter().filter(|(endpoint, _)| !running.contains(&endpoint.id))
            {
                let watching = Watching {
                    health: self.health.clone(),
                    pool: pool.settings.name.clone(),
                    endpoint: Arc::clone(endpoint),
                    prober: Prober::new(check, endpoint.address, &pool.way, Arc::clone(&self.kept)),
                    interval: check.interval,
                    down_interval: check.down_interval,
                    places: Arc::clone(&self.places),
                    rng: self.rng.fork(),
                    turns: Turns { began: self.began, length: TURN.min(check.interval / TURNS) },
                };
                let task = self.tasks.spawn(watching.run(Instant::now() + delay));
                self.probers.insert(endpoint.id, (check.clone(), pool.way.clone(), task));
                delay = (delay + SPREAD).min(check.interval);
            }
        }
    }
}

/// The watch over one endpoint.
struct Watching {
    health: Health,
    pool: Name,
    endpoint: Arc<Endpoint>,
    prober: Prober,
    interval: Duration,
    down_interval: Duration,
    places: Arc<Semaphore>,
    rng: fastrand::Rng,
    turns: Turns,
}

/// Moments at which probes begin, the same for all endpoints whose interval is the same.
struct Turns {
    began: Instant,
    length: Duration,
}

impl Watching {
    async fn run(mut self, mut next: Instant) {
        loop {
            sleep_until(next).await;
            let place = self.places.acquire().await.expect("nobody closes it");
            let started = Instant::now();
            let finding = self.prober.probe().await;
            drop(place);
            let now = Instant::now();
            let (started_at, at) = (started.into_std(), now.into_std());
            let healthy = self.health.probed(&self.pool, self.endpoint.id, started_at, finding, at);
            let interval = match healthy {
                Some(true) => self.interval,
                Some(false) => self.down_interval,
                None => return,
            };
            let jitter = 1.0 + JITTER * (2.0 * self.rng.f64() - 1.0);
            // From start to start, so that a slow endpoint is not probed less often; but one probe at a time.
            next = self.turns.nearest(started + interval.mul_f64(jitter)).max(now);
        }
    }
}

impl Turns {
    /// The turn that is nearest to a moment, half a length away at most.
    fn nearest(&self, at: Instant) -> Instant {
        let length = self.length.as_nanos().max(1);
        let turns = (at.saturating_duration_since(self.began).as_nanos() + length / 2) / length;
        let since = u64::try_from(turns * length).expect("584 years have not passed");
        self.began + Duration::from_nanos(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_at_about_the_same_time_is_begun_together() {
        let began = Instant::now();
        let turns = Turns { began, length: TURN };
        let millis = |at: f64| began + Duration::from_secs_f64(at / 1000.0);
        for (due, turn) in [(0.0, 0.0), (9.9, 0.0), (10.1, 20.0), (29.9, 20.0), (2_003.0, 2_000.0)] {
            assert_eq!(turns.nearest(millis(due)), millis(turn), "{due}");
        }
        let none = Turns { began, length: Duration::ZERO };
        assert_eq!(none.nearest(millis(7.3)), millis(7.3));
    }
}
