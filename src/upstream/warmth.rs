//! Since when an endpoint takes traffic, as long as that matters: what slow start is reckoned from.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::model::slow_start::SlowStart;

/// What moments are counted from, so that one fits an atomic.
/// What began before this process did fits, too: a predecessor may have begun to warm an endpoint.
static START: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(BEFORE).unwrap_or(now)
});

/// The longest time before this process for which an endpoint may have been warmed.
const BEFORE: Duration = Duration::from_secs(24 * 3600);

/// The moment in which an endpoint became available, in milliseconds; 0 once it is warm.
#[derive(Debug, Default)]
pub struct Warmth(AtomicU64);

impl Warmth {
    /// The endpoint has become available: it is cold.
    pub fn begin(&self, now: Instant) {
        self.0.store(millis(now) + 1, Relaxed);
    }

    /// Whether it has its whole share, as far as is known.
    #[inline]
    pub fn is_warm(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    /// For how long it has been warmed; `None` if it is warm, as far as is known.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let since = self.0.load(Relaxed);
        (since != 0).then(|| Duration::from_millis((millis(now) + 1).saturating_sub(since)))
    }

    /// The part of its share that it gets now, from 0 to 1. After the window it is warm.
    pub fn factor(&self, slow_start: &SlowStart, now: Instant) -> f64 {
        let since = self.0.load(Relaxed);
        if since == 0 {
            return 1.0;
        }
        let age = Duration::from_millis((millis(now) + 1).saturating_sub(since));
        if age >= slow_start.window {
            // Unless it has become available once more in this very moment.
            let _ = self.0.compare_exchange(since, 0, Relaxed, Relaxed);
            return 1.0;
        }
        slow_start.factor(age)
    }
}

fn millis(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*START).as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_warm_until_it_becomes_available_and_after_the_window() {
        let slow_start = SlowStart { window: Duration::from_secs(10), aggression: 1.0, min_weight: 0.1 };
        let warmth = Warmth::default();
        let start = *START + Duration::from_secs(5);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((warmth.is_warm(), warmth.factor(&slow_start, start)), (true, 1.0));
        warmth.begin(start);
        assert_eq!([0, 5, 9].map(|seconds| warmth.factor(&slow_start, at(seconds))), [0.1, 0.5, 0.9]);
        assert!(!warmth.is_warm());
        assert_eq!(warmth.factor(&slow_start, at(10)), 1.0);
        assert!(warmth.is_warm());
    }
}
