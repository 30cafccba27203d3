//! Slow start: how much of its share an endpoint gets while it is warmed.

use std::time::Duration;

/// How an endpoint that has become available is warmed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// How long it takes until the endpoint has its whole share.
    pub window: Duration,
    /// The form of the rise: 1 is linear, a higher one rises faster at first.
    pub aggression: f64,
    /// The least share of its weight that it gets, from 0 to 1.
    pub min_weight: f64,
}

impl SlowStart {
    /// The part of its weight that an endpoint has `age` after it became available, from 0 to 1:
    /// `max(min_weight, (age / window) ^ (1 / aggression))`, as Envoy documents its slow start mode.
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let progress = age.as_secs_f64() / self.window.as_secs_f64();
        progress.powf(1.0 / self.aggression).clamp(self.min_weight, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_from_the_least_share_to_the_whole() {
        let slow = SlowStart { window: Duration::from_secs(60), aggression: 1.0, min_weight: 0.1 };
        let at = |seconds| slow.factor(Duration::from_secs(seconds));
        assert_eq!([at(0), at(3), at(30), at(60), at(1000)], [0.1, 0.1, 0.5, 1.0, 1.0]);
        let faster = SlowStart { aggression: 2.0, ..slow };
        assert!((faster.factor(Duration::from_secs(15)) - 0.5).abs() < 1e-12);
    }
}
