//! What one worker remembers between selections.
//!
//! Invariant: a place in a sequence survives every publish that leaves its weights alone, or the shares would be
//! exact between publishes only. Nothing is done for a new generation but on the first request that meets a change.

use std::{sync::Arc, time::Instant};

use super::table::{Pool, Split};
use crate::{model::sequence::Sequence, telemetry::registry::Slot};

/// How many sets of arms a split remembers a sequence for. A split of four pools has no more, and in a
/// larger one only those of the last outages matter.
const PASSED_ON: usize = 16;

/// One worker's random generator, and where it stands in each split and pool.
#[derive(Debug)]
pub struct Chooser {
    rng: fastrand::Rng,
    /// The time that tests have chosen; without it, the clock's, and only where it is needed.
    time: Option<Instant>,
    /// By the slot of the split's first arm.
    splits: BySlot<InSplit>,
    /// By the pool's slot.
    pools: BySlot<InPool>,
}

#[derive(Debug)]
struct InSplit {
    /// Held, so that its address can't come to mean another split.
    split: Arc<Split>,
    sequence: Sequence,
    /// The sets of arms (as bits) that traffic was passed on to, oldest first, and the sequence over each.
    passed_on: Vec<(u64, Sequence)>,
}

#[derive(Debug)]
struct InPool {
    pool: Arc<Pool>,
    /// `None` if all weights are 0.
    sequence: Option<Sequence>,
}

/// Values by a dense number that is never given twice. A slot belongs to one split or pool for the life of the
/// process, so that its value is found wherever the split moves in the table.
#[derive(Debug)]
struct BySlot<T>(Vec<Option<Box<T>>>);

impl Chooser {
    /// A worker's chooser; the same seed makes the same choices.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            time: None,
            splits: BySlot(Vec::new()),
            pools: BySlot(Vec::new()),
        }
    }

    /// Chooses as of this moment from now on; without one, the clock is read where it matters. For tests and
    /// simulations.
    pub fn set_time(&mut self, time: Instant) {
        self.time = Some(time);
    }

    /// The time, if it was chosen.
    #[inline]
    pub(super) fn time(&self) -> Option<Instant> {
        self.time
    }

    #[inline]
    pub(super) fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// The arm whose turn it is.
    #[inline]
    pub(super) fn draw(&mut self, split: &Arc<Split>) -> usize {
        self.splits.of(split).sequence.pick(&mut self.rng)
    }

    /// The arm whose turn it is among some of them, given as bits; `None` if none of those has a weight above 0.
    #[cold]
    pub(super) fn draw_among(&mut self, split: &Arc<Split>, among: u64) -> Option<usize> {
        let passed_on = &mut self.splits.of(split).passed_on;
        let known = match passed_on.iter().position(|(arms, _)| *arms == among) {
            Some(known) => known,
            None => {
                let weights = split.arms.iter().enumerate();
                let weights =
                    weights.map(|(index, arm)| if among & 1 << index != 0 { arm.weight } else { 0 });
                let sequence = Sequence::new(weights)?;
                if passed_on.len() == PASSED_ON {
                    passed_on.remove(0);
                }
                passed_on.push((among, sequence));
                passed_on.len() - 1
            }
        };
        Some(passed_on[known].1.pick(&mut self.rng))
    }

    /// A pool's turns over its endpoints; `None` if none has a weight above 0.
    #[inline]
    pub(super) fn round_robin(&mut self, pool: &Arc<Pool>) -> Option<(&mut Sequence, &mut fastrand::Rng)> {
        let sequence = self.pools.of(pool).sequence.as_mut()?;
        Some((sequence, &mut self.rng))
    }
}

/// What a chooser remembers of a part of the table.
trait Remembered: Sized {
    type Of;
    fn slot(of: &Self::Of) -> Slot;
    fn of(&self) -> &Arc<Self::Of>;
    fn new(of: &Arc<Self::Of>) -> Self;
    /// Goes on with another generation's form of the same part.
    fn renew(&mut self, of: &Arc<Self::Of>);
}

impl<T: Remembered> BySlot<T> {
    #[inline]
    fn of(&mut self, part: &Arc<T::Of>) -> &mut T {
        let index = T::slot(part).index();
        let known = self.0.get(index).and_then(Option::as_ref);
        if known.is_none_or(|known| !Arc::ptr_eq(known.of(), part)) {
            self.meet(index, part);
        }
        self.0[index].as_mut().expect("met above")
    }

    #[cold]
    fn meet(&mut self, index: usize, part: &Arc<T::Of>) {
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        match &mut self.0[index] {
            Some(known) => known.renew(part),
            unknown => *unknown = Some(Box::new(T::new(part))),
        }
    }
}

impl Remembered for InSplit {
    type Of = Split;

    #[inline]
    fn slot(split: &Split) -> Slot {
        split.arms[0].slot
    }

    #[inline]
    fn of(&self) -> &Arc<Split> {
        &self.split
    }

    fn new(split: &Arc<Split>) -> Self {
        let sequence = Sequence::new(split.arms.iter().map(|arm| arm.weight));
        let sequence = sequence.expect("a split's weights have a sum above 0");
        Self { split: Arc::clone(split), sequence, passed_on: Vec::new() }
    }

    fn renew(&mut self, split: &Arc<Split>) {
        let unchanged = self.split.arms.len() == split.arms.len()
            && self.split.arms.iter().zip(&split.arms).all(|(a, b)| (a.slot, a.weight) == (b.slot, b.weight));
        match unchanged {
            true => self.split = Arc::clone(split),
            false => *self = Self::new(split),
        }
    }
}

impl Remembered for InPool {
    type Of = Pool;

    #[inline]
    fn slot(pool: &Pool) -> Slot {
        pool.slot
    }

    #[inline]
    fn of(&self) -> &Arc<Pool> {
        &self.pool
    }

    fn new(pool: &Arc<Pool>) -> Self {
        let sequence = Sequence::new(pool.endpoints.iter().map(|(_, weight)| *weight));
        Self { pool: Arc::clone(pool), sequence }
    }

    fn renew(&mut self, pool: &Arc<Pool>) {
        let unchanged = self.pool.endpoints.len() == pool.endpoints.len()
            && self.pool.endpoints.iter().zip(&pool.endpoints).all(|(a, b)| (a.0.id, a.1) == (b.0.id, b.1));
        match unchanged {
            true => self.pool = Arc::clone(pool),
            false => *self = Self::new(pool),
        }
    }
}
