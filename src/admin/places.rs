//! The places that connections of the admin API hold, and who gives way when all are taken.
//!
//! Invariant: idle, slow and deaf clients can't keep a probe or a rollback out. At the cap the connection that has
//! been silent longest gives its place up; only one whose change is being made, or waits for its end, keeps it, and
//! the number of those waits has a limit of its own, below the cap.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

/// Waits (`?wait=drained`) at once.
pub(super) const MAX_WAITS: usize = 32;

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    ledger: Mutex<Ledger>,
    /// Told when a place is free, or its holder may be asked to give way again.
    changed: Notify,
}

#[derive(Debug)]
struct Ledger {
    free: usize,
    waits: usize,
    /// The next turn: a connection takes one when it comes and with each request.
    next: u64,
    /// Who may be asked to give way, by turn; the first has been silent longest.
    yielding: BTreeMap<u64, Arc<Standing>>,
}

/// Where the holder of a place stands. It changes under the ledger's lock alone.
#[derive(Debug, Default)]
struct Standing {
    turn: AtomicU64,
    /// Another connection has got the place.
    is_lost: AtomicBool,
    lost: Notify,
}

/// The place of one connection; dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    standing: Arc<Standing>,
}

/// While it is held, its connection does not give way.
#[derive(Debug)]
pub(super) struct Kept {
    place: Arc<Place>,
    waits: bool,
}

impl Places {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let ledger = Ledger { free: count, waits: 0, next: 0, yielding: BTreeMap::new() };
        Arc::new(Self { ledger: Mutex::new(ledger), changed: Notify::new() })
    }

    /// A place: a free one, else that of the connection which has been silent longest.
    pub(super) async fn take(self: &Arc<Self>) -> Arc<Place> {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            // One connection at a time asks, and what changed since it looked is remembered for it.
            self.changed.notified().await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Arc<Place>> {
        let mut ledger = self.ledger();
        if ledger.free > 0 {
            ledger.free -= 1;
        } else {
            let (_, silent) = ledger.yielding.pop_first()?;
            silent.is_lost.store(true, Relaxed);
            silent.lost.notify_one();
        }
        let standing = Arc::new(Standing::default());
        ledger.enter(&standing);
        Some(Arc::new(Place { places: Arc::clone(self), standing }))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every change of it is whole before anything could panic.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Makes a holder the last of those who give way, unless it has done so already.
    fn enter(&mut self, standing: &Arc<Standing>) {
        if !standing.is_lost.load(Relaxed) {
            self.leave(standing);
            standing.turn.store(self.next, Relaxed);
            self.yielding.insert(self.next, Arc::clone(standing));
            self.next += 1;
        }
    }

    fn leave(&mut self, standing: &Arc<Standing>) {
        let turn = standing.turn.load(Relaxed);
        if self.yielding.get(&turn).is_some_and(|of| Arc::ptr_eq(of, standing)) {
            self.yielding.remove(&turn);
        }
    }
}

impl Place {
    /// Ends when another connection has got the place.
    pub(super) async fn lost(&self) {
        self.standing.lost.notified().await;
    }

    /// A request has come: all who are silent give way first.
    pub(super) fn renew(&self) {
        self.places.ledger().enter(&self.standing);
    }

    /// Keeps the place while a change is made and, if it `waits`, until its wait ends; `None` if too many wait.
    pub(super) fn keep(self: &Arc<Self>, waits: bool) -> Option<Kept> {
        let mut ledger = self.places.ledger();
        if waits && ledger.waits >= MAX_WAITS {
            return None;
        }
        ledger.waits += usize::from(waits);
        ledger.leave(&self.standing);
        Some(Kept { place: Arc::clone(self), waits })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let places = &self.place.places;
        let mut ledger = places.ledger();
        ledger.waits -= usize::from(self.waits);
        ledger.enter(&self.place.standing);
        places.changed.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut ledger = self.places.ledger();
        ledger.leave(&self.standing);
        if !self.standing.is_lost.load(Relaxed) {
            ledger.free += 1;
            self.places.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_been_silent_longest_gives_way_and_who_is_kept_does_not() {
        let places = Places::new(3);
        let [first, second, third] = [(); 3].map(|()| places.try_take().unwrap());
        let kept = second.keep(false).unwrap();
        first.renew();
        let fourth = places.try_take().unwrap();
        assert!(third.standing.is_lost.load(Relaxed));
        drop(third);
        let _fifth = places.try_take().unwrap();
        assert!(first.standing.is_lost.load(Relaxed) && !second.standing.is_lost.load(Relaxed));
        // One that has lost its place neither frees it nor gets it back.
        drop(first.keep(false));
        drop(first);
        let _sixth = places.try_take().unwrap();
        assert!(fourth.standing.is_lost.load(Relaxed));
        drop(kept);
        let ledger = places.ledger();
        assert_eq!((ledger.free, ledger.yielding.len()), (0, 3));
    }

    #[test]
    fn only_so_many_wait_at_once() {
        let places = Places::new(MAX_WAITS + 2);
        let holders: Vec<_> = (0..=MAX_WAITS).map(|_| places.try_take().unwrap()).collect();
        let mut waits: Vec<_> = holders[..MAX_WAITS].iter().map(|place| place.keep(true).unwrap()).collect();
        assert!(holders[MAX_WAITS].keep(true).is_none() && holders[MAX_WAITS].keep(false).is_some());
        waits.pop();
        assert!(holders[MAX_WAITS].keep(true).is_some());
    }

    #[tokio::test]
    async fn when_all_are_kept_the_next_comes_in_with_the_first_that_is_not() {
        let places = Places::new(1);
        let holder = places.take().await;
        let kept = holder.keep(true).unwrap();
        let next = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(kept);
        next.await.unwrap();
        holder.lost().await;
    }
}
