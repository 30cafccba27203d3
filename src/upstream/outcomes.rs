//! How an endpoint's attempts have ended lately, as all workers see it together.
//!
//! Invariant: a success costs one relaxed load, and a store only if it ends a row of failures. Whatever a client does
//! (going away, stalling, sending garbage) is no outcome of the endpoint and is never reported here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::model::outlier::{EjectionReason, Misbehaviour, Streaks};

/// Wakes whoever decides on ejections. All endpoints share one.
#[derive(Debug, Default)]
pub struct Alarm(Notify);

/// The failures in a row of one endpoint, and the sum of its failures.
#[derive(Debug)]
pub struct Outcomes {
    /// [`Streaks`] in one word, so that both counts are of one moment.
    streaks: AtomicU64,
    /// The streaks at which the alarm is raised; zeros are never reached.
    thresholds: AtomicU64,
    /// Failures since the start.
    failures: AtomicU64,
    alarm: Arc<Alarm>,
}

impl Alarm {
    /// Ends when it is raised, at once if it was raised since it last ended.
    pub async fn raised(&self) {
        self.0.notified().await;
    }

    fn raise(&self) {
        self.0.notify_one();
    }
}

impl Outcomes {
    pub(super) fn new(alarm: Arc<Alarm>) -> Self {
        let (streaks, thresholds, failures) = Default::default();
        Self { streaks, thresholds, failures, alarm }
    }

    /// An attempt got an answer with a final status (101 and 200 to 599).
    #[inline]
    pub fn answered(&self, status: u16) {
        if status >= 500 {
            self.misbehaved(status);
        } else if self.streaks.load(Relaxed) != 0 {
            self.streaks.store(0, Relaxed);
        }
    }

    #[cold]
    fn misbehaved(&self, status: u16) {
        if let Some(misbehaviour) = Misbehaviour::of_status(status) {
            self.add(misbehaviour);
        }
    }

    /// An attempt failed by the endpoint's fault: it could not be connected to, reset the connection, sent garbage or
    /// took too long.
    #[cold]
    pub fn failed(&self) {
        self.add(Misbehaviour::Gateway);
    }

    fn add(&self, misbehaviour: Misbehaviour) {
        self.failures.fetch_add(1, Relaxed);
        let add = |bits| Some(Streaks::from_bits(bits).after(misbehaviour).to_bits());
        let before = self.streaks.fetch_update(Relaxed, Relaxed, add).expect("it always gives a value");
        let thresholds = Streaks::from_bits(self.thresholds.load(Relaxed));
        if Streaks::from_bits(before).after(misbehaviour).reached(thresholds).is_some() {
            self.alarm.raise();
        }
    }

    /// Says when the alarm is to be raised; `Streaks::default()` is never.
    pub fn watch(&self, thresholds: Streaks) {
        self.thresholds.store(thresholds.to_bits(), Relaxed);
    }

    /// Which threshold has been reached, if any; the count begins anew then.
    pub fn take_reached(&self) -> Option<EjectionReason> {
        let thresholds = Streaks::from_bits(self.thresholds.load(Relaxed));
        let reached = Streaks::from_bits(self.streaks.load(Relaxed)).reached(thresholds)?;
        self.forgive();
        Some(reached)
    }

    /// Begins the counts in a row anew.
    pub fn forgive(&self) {
        self.streaks.store(0, Relaxed);
    }

    /// Failures since the start: 5xx answers and failed attempts.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_alarm_is_raised_at_the_threshold_and_a_success_begins_anew() {
        let alarm = Arc::new(Alarm::default());
        let outcomes = Outcomes::new(Arc::clone(&alarm));
        let is_raised = || {
            let raised = std::pin::pin!(alarm.raised());
            is_ready(raised)
        };
        (0..10).for_each(|_| outcomes.answered(500));
        assert!(!is_raised(), "nobody watches");
        outcomes.answered(200);
        outcomes.watch(Streaks { errors: 3, gateway: 2 });
        for status in [500, 500, 404, 500, 502] {
            outcomes.answered(status);
        }
        assert!(!is_raised());
        outcomes.failed();
        assert!(is_raised());
        assert_eq!(outcomes.take_reached(), Some(EjectionReason::Consecutive5xx));
        assert_eq!((outcomes.take_reached(), outcomes.failures()), (None, 15));
        outcomes.answered(503);
        outcomes.failed();
        assert!(is_raised());
        assert_eq!(outcomes.take_reached(), Some(EjectionReason::ConsecutiveGatewayFailures));
    }

    /// Whether a future is ready now.
    fn is_ready(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.poll(&mut context).is_ready()
    }
}
