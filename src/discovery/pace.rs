//! When a name is asked again.

use std::time::Duration;

/// The longest pause after failures: an outage of DNS that ends is noticed within this time.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The bounds of a pace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// However short the time to live: what a name costs its servers at most.
    pub min: Duration,
    /// However long the time to live: what a changed name waits at most.
    pub max: Duration,
}

impl Pace {
    /// The time until the next round. `ttl` is what the answers allow, if there were any; `failures` are the rounds in
    /// a row in which something failed; `random` is from 0 to 1.
    ///
    /// Answers are asked for again up to a tenth before they run out, so that names that were first asked together
    /// drift apart. Failures double the pause from the shortest time on, each shortened by up to a half at random, so
    /// that many proxies don't fall upon a server that has just come back.
    pub(super) fn next(self, ttl: Option<Duration>, failures: u32, random: f64) -> Duration {
        let by_ttl = ttl.map(|ttl| ttl.clamp(self.min, self.max).mul_f64(1.0 - 0.1 * random));
        let most = MAX_PAUSE.min(self.max);
        let by_failures = (failures > 0).then(|| {
            let doubled = self.min.saturating_mul(1 << (failures - 1).min(16));
            doubled.min(most).mul_f64(1.0 - 0.5 * random)
        });
        // What was answered is asked again in its time, even if something else failed.
        by_ttl.into_iter().chain(by_failures).min().unwrap_or(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_time_to_live_counts_within_its_bounds() {
        let pace = Pace { min: SECOND, max: SECOND * 300 };
        for (ttl, next) in [(0, 1), (1, 1), (5, 5), (300, 300), (86_400, 300), (u32::MAX, 300)] {
            let ttl = Some(Duration::from_secs(u64::from(ttl)));
            assert_eq!(pace.next(ttl, 0, 0.0), SECOND * next);
            assert_eq!(pace.next(ttl, 0, 1.0), (SECOND * next).mul_f64(0.9));
        }
    }

    #[test]
    fn failures_slow_it_down_to_a_bound() {
        let pace = Pace { min: SECOND, max: SECOND * 300 };
        let pauses: Vec<_> = (1..=7).map(|failures| pace.next(None, failures, 0.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pace.next(None, u32::MAX, 0.0), SECOND * 30);
        assert_eq!(pace.next(None, 3, 1.0), SECOND * 2);
        assert_eq!(pace.next(Some(SECOND * 5), 7, 0.0), SECOND * 5, "a part of the answers is sound");
        let short = Pace { min: SECOND, max: SECOND * 10 };
        assert_eq!(short.next(None, 20, 0.0), SECOND * 10);
    }
}
