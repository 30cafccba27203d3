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

/// How many seconds an earned retry can be used in, the one that is under way included.
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
    /// When that second began.
    began: Instant,
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
    /// Nothing is earned yet.
    pub(super) fn new(reserve: Arc<Reserve>, now: Instant) -> Self {
        Self { earned: [0; WINDOW], now: 0, began: now, reserve }
    }

    /// A request has come; `share` is its route's budget.
    #[inline]
    pub(super) fn earn(&mut self, share: f64) {
        self.earned[self.now] += (share * RETRY as f64) as u64;
    }

    /// Goes on to the second that it is `now`, however long ago that was last done: what was earned a window ago is
    /// lost.
    pub(super) fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_secs();
        for _ in 0..passed.min(WINDOW as u64) {
            self.now = (self.now + 1) % WINDOW;
            self.earned[self.now] = 0;
        }
        self.began += Duration::from_secs(passed);
    }

    /// Takes a retry out, if there is one: of what was earned, the oldest first; else of the reserve.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.advance(now);
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
        let mut budget = Budget::new(Arc::new(Reserve::new(start)), start);
        assert_eq!(spent(&mut budget, start), 10);
        (0..100).for_each(|_| budget.earn(0.2));
        assert_eq!(spent(&mut budget, start), 20);
        assert_eq!(spent(&mut budget, start + Duration::from_millis(250)), 2);
        assert_eq!(spent(&mut budget, start + Duration::from_secs(5)), 10, "no more than a second's worth");
    }

    /// However often it is told the time: a worker's sweep does so twice a second, more or less.
    #[test]
    fn what_is_not_used_within_ten_seconds_is_lost() {
        let at = |start: Instant, millis| start + Duration::from_millis(millis);
        for step in [130, 500, 600, 1_000, 2_500] {
            let start = Instant::now();
            // The reserve of a later moment is empty now.
            let reserve = Arc::new(Reserve::new(start));
            let mut budget = Budget::new(Arc::clone(&reserve), start);
            let pass = |budget: &mut Budget, from: u64, to: u64| {
                (from..to).step_by(step).for_each(|millis| budget.advance(at(start, millis)));
                while reserve.take(at(start, to)) {}
            };
            // At the beginning, in the middle and at the end of a second.
            for (cycle, earned) in [(0, 0), (60_000, 500), (120_000, 999)] {
                let earned = cycle + earned;
                for age in [0, 1_000, 8_999] {
                    budget.advance(at(start, earned));
                    (0..1_000).for_each(|_| budget.earn(0.2));
                    pass(&mut budget, earned, earned + age);
                    let left = spent(&mut budget, at(start, earned + age));
                    assert_eq!(left, 200, "a step of {step}, earned at {earned}, {age} ms later");
                }
                budget.advance(at(start, earned));
                (0..1_000).for_each(|_| budget.earn(0.2));
                pass(&mut budget, earned, earned + 20_000);
                assert_eq!(spent(&mut budget, at(start, earned + 20_000)), 0, "a step of {step}");
            }
        }
    }

    #[test]
    fn the_reserve_is_one_for_all_workers() {
        let start = Instant::now();
        let reserve = Arc::new(Reserve::new(start));
        let mut workers: Vec<_> = (0..8).map(|_| Budget::new(Arc::clone(&reserve), start)).collect();
        let all: usize = workers.iter_mut().map(|worker| spent(worker, start)).sum();
        assert_eq!(all, 10);
        let later = start + Duration::from_secs(1);
        assert_eq!(spent(&mut workers[3], later), 10, "a single worker may have all of it");
        assert_eq!(spent(&mut workers[4], later), 0);
    }
}
