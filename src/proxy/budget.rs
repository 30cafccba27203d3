//! What bounds retries: a share of the requests of the last seconds, and a reserve that all workers share.
//!
//! The form and the figures are those of Linkerd's retry budgets: each request adds its share, what is not used within
//! ten seconds is lost, and ten retries a second are allowed whatever the traffic. Linkerd has one budget for a
//! process; here a worker earns from its own requests, and the reserve is one for all of them.
//!
//! Invariant: earning costs a request one addition; nothing else is done before a retry is asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How many seconds an earned retry can be used in.
const WINDOW: usize = 10;
/// One retry, in what a budget counts: thousandths.
const RETRY: u64 = 1000;
/// The time in which the reserve grows by one retry.
const REFILL: Duration = Duration::from_millis(100);
/// The most retries in the reserve: those of a second.
const RESERVE: u32 = 10;

/// One worker's budget.
#[derive(Debug)]
pub(super) struct Budget {
    /// What was earned and not used, in thousandths of a retry, by the second it was earned in.
    earned: [u64; WINDOW],
    /// The second that it is now, in `earned`.
    now: usize,
    reserve: Arc<Reserve>,
}

/// The retries that are allowed with no traffic at all: ten a second, over all workers.
#[derive(Debug)]
pub(super) struct Reserve {
    since: Instant,
    /// When the reserve will be full again, in nanoseconds from `since`: all there is to know of a bucket that fills
    /// evenly, in one word.
    full_at: AtomicU64,
}

impl Budget {
    pub(super) fn new(reserve: Arc<Reserve>) -> Self {
        Self { earned: [0; WINDOW], now: 0, reserve }
    }

    /// A request has come; `share` is its route's budget.
    #[inline]
    pub(super) fn earn(&mut self, share: f64) {
        self.earned[self.now] += (share * RETRY as f64) as u64;
    }

    /// A second has passed: what was earned a window ago is lost.
    pub(super) fn tick(&mut self) {
        self.now = (self.now + 1) % WINDOW;
        self.earned[self.now] = 0;
    }

    /// Takes a retry out, if there is one: of what was earned, the oldest first; else of the reserve.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.earned.iter().sum::<u64>() < RETRY {
            return self.reserve.take(now);
        }
        let mut left = RETRY;
        for age in 1..=WINDOW {
            let second = &mut self.earned[(self.now + age) % WINDOW];
            let part = left.min(*second);
            *second -= part;
            left -= part;
        }
        true
    }
}

impl Reserve {
    /// A full reserve.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, full_at: AtomicU64::new(0) }
    }

    /// Takes a retry out, if there is one.
    fn take(&self, now: Instant) -> bool {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.since));
        let latest = now.saturating_add(nanos(REFILL * RESERVE));
        let taken = |full_at: u64| {
            let full_at = full_at.max(now).saturating_add(nanos(REFILL));
            (full_at <= latest).then_some(full_at)
        };
        self.full_at.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many retries there are at once.
    fn spent(budget: &mut Budget, at: Instant) -> usize {
        (0..100_000).take_while(|_| budget.take(at)).count()
    }

    #[test]
    fn retries_are_a_share_of_requests_above_a_reserve() {
        let start = Instant::now();
        let mut budget = Budget::new(Arc::new(Reserve::new(start)));
        assert_eq!(spent(&mut budget, start), 10);
        (0..100).for_each(|_| budget.earn(0.2));
        assert_eq!(spent(&mut budget, start), 20);
        assert_eq!(spent(&mut budget, start + Duration::from_millis(250)), 2);
        assert_eq!(spent(&mut budget, start + Duration::from_secs(5)), 10, "no more than a second's worth");
    }

    #[test]
    fn what_is_not_used_within_ten_seconds_is_lost() {
        let start = Instant::now();
        let mut budget = Budget::new(Arc::new(Reserve::new(start)));
        assert_eq!(spent(&mut budget, start), 10);
        for _ in 0..WINDOW {
            (0..1_000).for_each(|_| budget.earn(0.2));
            budget.tick();
        }
        // The tenth tick has taken the first second's part.
        assert_eq!(spent(&mut budget, start), 9 * 200);
        (0..1_000).for_each(|_| budget.earn(0.2));
        (0..WINDOW).for_each(|_| budget.tick());
        assert_eq!(spent(&mut budget, start), 0);
    }

    #[test]
    fn the_reserve_is_one_for_all_workers() {
        let start = Instant::now();
        let reserve = Arc::new(Reserve::new(start));
        let mut workers: Vec<_> = (0..8).map(|_| Budget::new(Arc::clone(&reserve))).collect();
        let all: usize = workers.iter_mut().map(|worker| spent(worker, start)).sum();
        assert_eq!(all, 10);
        let later = start + Duration::from_secs(1);
        assert_eq!(spent(&mut workers[3], later), 10, "a single worker may have all of it");
        assert_eq!(spent(&mut workers[4], later), 0);
    }
}
