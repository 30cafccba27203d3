//! The gate of a pool: how many of its requests are in flight or wait, over all workers, and what was turned away.
//!
//! Invariant: what was let in is let out once, by whoever holds the permit. A pool without a limit never touches it.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Instant,
};

use crate::model::adaptive::{Adaptive, Gradient, Sample};

/// A limit that turned a request away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The pool's requests in flight.
    MaxRequests,
    /// Each endpoint's requests in flight.
    MaxEndpointRequests,
    /// The requests that wait for a connection.
    MaxPending,
    /// The time that a request waits for a connection.
    PendingTimeout,
    /// The limit of requests in flight that finds itself.
    Adaptive,
}

/// A pool's gate.
#[derive(Debug, Default)]
pub struct Gate {
    in_flight: AtomicU64,
    /// Those among them that are streams: their response has begun, and its end says nothing about how busy the pool is.
    streams: AtomicU64,
    pending: AtomicU64,
    shed: [AtomicU64; Limit::ALL.len()],
    adaptive: OnceLock<AdaptiveLimit>,
}

/// A limit that finds itself, as the workers share it.
#[derive(Debug)]
pub struct AdaptiveLimit {
    /// What the machine has come to last; [`OFF`] without a machine.
    limit: AtomicU64,
    machine: Mutex<Option<Gradient>>,
}

/// The limit of a pool that has one no longer: none is as high.
const OFF: u64 = u64::MAX;

impl Limit {
    /// Every limit, in the order of the status and of the metrics.
    pub const ALL: [Self; 5] = [
        Self::MaxRequests,
        Self::MaxEndpointRequests,
        Self::MaxPending,
        Self::PendingTimeout,
        Self::Adaptive,
    ];

    /// Its name in the file, the metrics and the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::MaxRequests => "max_requests",
            Self::MaxEndpointRequests => "max_endpoint_requests",
            Self::MaxPending => "max_pending",
            Self::PendingTimeout => "pending_timeout",
            Self::Adaptive => "adaptive",
        }
    }
}

impl Gate {
    /// Lets a request in unless `most`, or as many as the adaptive limit allows, are in. One that was let in is
    /// paired with one [`Self::leave`].
    #[inline]
    pub fn enter(&self, most: u64) -> Result<(), Limit> {
        let (most, limit) = self.lower(most);
        if up_to(&self.in_flight, most) { Ok(()) } else { Err(limit) }
    }

    /// The limit that a request would be turned away by now.
    pub fn full(&self, most: u64) -> Option<Limit> {
        let (most, limit) = self.lower(most);
        (self.in_flight() >= most).then_some(limit)
    }

    /// The lower one of `most` and the adaptive limit, to which streams do not count.
    #[inline]
    fn lower(&self, most: u64) -> (u64, Limit) {
        match self.adaptive.get().map(|adaptive| adaptive.current().saturating_add(self.streams())) {
            Some(adaptive) if adaptive < most => (adaptive, Limit::Adaptive),
            _ => (most, Limit::MaxRequests),
        }
    }

    /// Lets another attempt in of a request that is in already: it holds two permits until it gives the first one
    /// back, and only one of them is used.
    pub fn enter_again(&self) {
        self.in_flight.fetch_add(1, AcqRel);
    }

    /// Lets a request out.
    #[inline]
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, AcqRel);
    }

    /// Requests that were let in and have not left. Only of pools that count at the gate.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Acquire)
    }

    /// A request that is in has become a stream. Paired with one [`Self::end_stream`], before it leaves.
    pub(super) fn begin_stream(&self) {
        self.streams.fetch_add(1, AcqRel);
    }

    /// A stream has ended.
    pub(super) fn end_stream(&self) {
        self.streams.fetch_sub(1, AcqRel);
    }

    #[inline]
    fn streams(&self) -> u64 {
        self.streams.load(Acquire)
    }

    /// Requests that are in and no streams: what the adaptive limit is about.
    #[inline]
    pub fn busy(&self) -> u64 {
        self.in_flight().saturating_sub(self.streams())
    }

    /// Lets a request wait unless `most` do. One that waits is paired with one [`Self::end_wait`].
    pub fn wait(&self, most: u32) -> Result<(), Limit> {
        if up_to(&self.pending, u64::from(most)) { Ok(()) } else { Err(Limit::MaxPending) }
    }

    /// A request waits no more.
    pub fn end_wait(&self) {
        self.pending.fetch_sub(1, AcqRel);
    }

    /// Requests that wait for a connection.
    pub fn pending(&self) -> u64 {
        self.pending.load(Acquire)
    }

    /// Counts a request that was turned away.
    pub fn count_shed(&self, limit: Limit) {
        self.shed[limit as usize].fetch_add(1, Relaxed);
    }

    /// Requests that a limit has turned away.
    pub fn shed(&self, limit: Limit) -> u64 {
        self.shed[limit as usize].load(Relaxed)
    }

    /// The same for every limit, by its name.
    pub fn shed_by_limit(&self) -> [(&'static str, u64); Limit::ALL.len()] {
        Limit::ALL.map(|limit| (limit.name(), self.shed(limit)))
    }

    /// Gives the pool a limit that finds itself, other bounds to the one that it has, or takes it away.
    pub fn adapt(&self, settings: Option<Adaptive>) {
        match (settings, self.adaptive.get()) {
            (None, None) => {}
            (settings, Some(adaptive)) => adaptive.set(settings),
            (settings, None) => self.adaptive.get_or_init(AdaptiveLimit::default).set(settings),
        }
    }

    /// The limit that finds itself, if the pool has one.
    #[inline]
    pub fn adaptive(&self) -> Option<&AdaptiveLimit> {
        self.adaptive.get().filter(|adaptive| adaptive.current() != OFF)
    }
}

impl Default for AdaptiveLimit {
    fn default() -> Self {
        Self { limit: AtomicU64::new(OFF), machine: Mutex::default() }
    }
}

impl AdaptiveLimit {
    /// How many requests may be in flight now.
    #[inline]
    pub fn current(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Takes in how an attempt went.
    pub fn observe(&self, sample: Sample) {
        self.change(|machine| machine.observe(sample));
    }

    /// Takes in what time it is.
    pub fn look(&self, now: Instant) {
        self.change(|machine| machine.look(now));
    }

    /// Does what may change the limit. While another worker does the same, this one is left out: a sample more or less
    /// is no matter, and nobody waits.
    fn change(&self, act: impl FnOnce(&mut Gradient) -> bool) {
        if let Ok(mut machine) = self.machine.try_lock()
            && let Some(machine) = &mut *machine
            && act(machine)
        {
            self.limit.store(machine.limit(), Relaxed);
        }
    }

    /// Other settings keep what was learnt; none forget it. Not for workers: it may wait for one.
    fn set(&self, settings: Option<Adaptive>) {
        // Nothing panics while it is held but a bug in the machine, which is then no worse than it was.
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *machine, settings) {
            (Some(machine), Some(settings)) => machine.set(settings),
            (machine, settings) => {
                *machine = settings.map(|settings| Gradient::new(settings, fastrand::u64(..)));
            }
        }
        self.limit.store(machine.as_ref().map_or(OFF, Gradient::limit), Relaxed);
    }
}

/// Adds one unless there are `most`. Nobody is refused because of another who is being refused.
#[inline]
fn up_to(count: &AtomicU64, most: u64) -> bool {
    count.fetch_update(AcqRel, Acquire, |count| (count < most).then(|| count + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_limit_that_is_reached_is_named() {
        let gate = Gate::default();
        assert_eq!([gate.enter(2), gate.enter(2), gate.enter(2)], [Ok(()), Ok(()), Err(Limit::MaxRequests)]);
        gate.leave();
        assert_eq!(gate.enter(2), Ok(()));
        gate.adapt(Some(Adaptive { min: 1, max: 1, tolerance: 1.5 }));
        assert_eq!((gate.enter(10), gate.enter(1)), (Err(Limit::Adaptive), Err(Limit::MaxRequests)));
        gate.enter_again();
        assert_eq!(gate.in_flight(), 3);
        assert_eq!([gate.wait(1), gate.wait(1)], [Ok(()), Err(Limit::MaxPending)]);
        gate.end_wait();
        assert_eq!(gate.pending(), 0);
        gate.count_shed(Limit::PendingTimeout);
        assert_eq!(Limit::ALL.map(|limit| gate.shed(limit)), [0, 0, 0, 1, 0]);
    }

    #[test]
    fn streams_are_no_matter_of_the_adaptive_limit_and_count_to_the_fixed_one() {
        let gate = Gate::default();
        gate.adapt(Some(Adaptive { min: 2, max: 2, tolerance: 1.5 }));
        for _ in 0..5 {
            assert_eq!(gate.enter(7), Ok(()));
            gate.begin_stream();
        }
        assert_eq!((gate.in_flight(), gate.busy()), (5, 0));
        assert_eq!([gate.enter(8), gate.enter(8), gate.enter(8)], [Ok(()), Ok(()), Err(Limit::Adaptive)]);
        assert_eq!((gate.full(7), gate.busy()), (Some(Limit::MaxRequests), 2));
        gate.end_stream();
        assert_eq!(gate.enter(8), Err(Limit::Adaptive), "until it has left");
        gate.leave();
        assert_eq!((gate.in_flight(), gate.busy()), (6, 2));
    }

    #[test]
    fn other_settings_hold_at_once_and_a_limit_that_is_taken_away_is_gone() {
        let gate = Gate::default();
        gate.adapt(None);
        assert!(gate.adaptive().is_none());
        let limit = |gate: &Gate| gate.adaptive().map(AdaptiveLimit::current);
        for min in [2, 5, 3] {
            gate.adapt(Some(Adaptive { min, max: 9, tolerance: 1.5 }));
            assert_eq!(limit(&gate), Some(u64::from(min)), "it measures, with the least that is allowed now");
        }
        let began = Instant::now();
        let observe = |gate: &Gate, times: u32| {
            let adaptive = gate.adaptive.get().expect("it was made");
            for sample in 1..=times {
                let ended = began + Duration::from_millis(10) * sample;
                adaptive.observe(Sample { began, ended, in_flight: 3 });
            }
        };
        gate.adapt(None);
        observe(&gate, 200);
        assert_eq!((limit(&gate), gate.enter(u64::MAX)), (None, Ok(())), "it is off, whatever is seen");
        gate.adapt(Some(Adaptive { min: 4, max: 4, tolerance: 1.5 }));
        observe(&gate, 200);
        assert_eq!(limit(&gate), Some(4), "what was not asked for was not learnt");
        // The same settings, as every new table says them, change nothing.
        gate.adapt(Some(Adaptive { min: 4, max: 4, tolerance: 1.5 }));
        assert_eq!(limit(&gate), Some(4));
    }

    #[test]
    fn a_cap_holds_over_threads() {
        let gate = Gate::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        if gate.enter(3).is_ok() {
                            assert!(gate.in_flight() <= 3);
                            gate.leave();
                        }
                    }
                });
            }
        });
        assert_eq!(gate.in_flight(), 0);
    }
}
