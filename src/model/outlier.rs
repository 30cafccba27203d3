//! When an endpoint misbehaves: the settings of passive ejection, and the sums and comparisons that it goes by.

use std::time::Duration;

/// When an endpoint is ejected, and for how long. The names and figures are Envoy's published ones (outlier
/// detection), but for `max_ejected`, which always allows one endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outliers {
    /// Answers with a 5xx status in a row (failed attempts count as such); 0 turns it off.
    pub consecutive_5xx: u32,
    /// Failed attempts, and answers with 502, 503 or 504, in a row; 0 turns it off.
    pub consecutive_gateway_failures: u32,
    /// How often success rates are compared, and the number of ejections decays. (An ejection ends at its time.)
    pub interval: Duration,
    /// An ejection lasts this long times the number of the endpoint's ejections.
    pub base_time: Duration,
    /// The longest ejection.
    pub max_time: Duration,
    /// The largest share of a pool that is ejected at once, from 0 to 1; one endpoint always may be.
    pub max_ejected: f64,
    /// Endpoints with enough requests that it takes to compare success rates; 0 turns the comparison off.
    pub success_rate_hosts: u32,
    /// Requests in an interval with which an endpoint takes part in the comparison.
    pub success_rate_requests: u64,
    /// An endpoint is an outlier if its success rate is below the mean by this many standard deviations.
    pub success_rate_deviations: f64,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_failures: 5,
            interval: Duration::from_secs(10),
            base_time: Duration::from_secs(30),
            max_time: Duration::from_secs(300),
            max_ejected: 0.1,
            success_rate_hosts: 5,
            success_rate_requests: 100,
            success_rate_deviations: 1.9,
        }
    }
}

/// Results in a row, of one endpoint: 5xx answers and failed attempts, and those among them that are gateway failures.
///
/// Any answer below 500 ends both counts; a 5xx of the application itself ends the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streaks {
    /// Answers with a 5xx status and failed attempts.
    pub errors: u32,
    /// Failed attempts, and answers with 502, 503 or 504.
    pub gateway: u32,
}

/// What an attempt on an endpoint came to, if it was a failure of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// An answer with a 5xx status of the application itself.
    ServerError,
    /// No connection, a reset, a malformed answer, a time-out, or an answer with 502, 503 or 504.
    Gateway,
}

impl Misbehaviour {
    /// What an answer's status says; `None` for one that is no failure.
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            502..=504 => Some(Self::Gateway),
            500.. => Some(Self::ServerError),
            _ => None,
        }
    }
}

impl Streaks {
    /// The counts after one failure more.
    pub fn after(self, misbehaviour: Misbehaviour) -> Self {
        let gateway = match misbehaviour {
            Misbehaviour::ServerError => 0,
            Misbehaviour::Gateway => self.gateway.saturating_add(1),
        };
        Self { errors: self.errors.saturating_add(1), gateway }
    }

    /// Which of two thresholds has been reached; one that is 0 never is.
    pub fn reached(self, thresholds: Self) -> Option<EjectionReason> {
        let reached = |count: u32, threshold: u32| threshold > 0 && count >= threshold;
        if reached(self.errors, thresholds.errors) {
            Some(EjectionReason::Consecutive5xx)
        } else if reached(self.gateway, thresholds.gateway) {
            Some(EjectionReason::ConsecutiveGatewayFailures)
        } else {
            None
        }
    }

    /// Both counts in one word.
    pub fn to_bits(self) -> u64 {
        u64::from(self.gateway) << 32 | u64::from(self.errors)
    }

    /// The counts of a word.
    pub fn from_bits(bits: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).expect("masked to 32 bits");
        Self { errors: half(bits), gateway: half(bits >> 32) }
    }
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EjectionReason {
    /// Too many 5xx answers and failed attempts in a row.
    #[serde(rename = "consecutive_5xx")]
    Consecutive5xx,
    /// Too many gateway failures in a row.
    ConsecutiveGatewayFailures,
    /// Its success rate was far below that of the others.
    SuccessRate,
}

impl EjectionReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Consecutive5xx, Self::ConsecutiveGatewayFailures, Self::SuccessRate];

    /// Its name in metrics and the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayFailures => "consecutive_gateway_failures",
            Self::SuccessRate => "success_rate",
        }
    }

    /// The same for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "too many 5xx answers or failed attempts in a row",
            Self::ConsecutiveGatewayFailures => {
                "too many failed attempts or answers with 502, 503 or 504 in a row"
            }
            Self::SuccessRate => "its success rate is far below that of the others",
        }
    }
}

/// What an endpoint did with its requests in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Requests answered below 500.
    pub good: u64,
    /// 5xx answers and failed attempts.
    pub bad: u64,
}

impl Rate {
    fn total(self) -> u64 {
        self.good.saturating_add(self.bad)
    }

    fn success(self) -> f64 {
        self.good as f64 / self.total().max(1) as f64
    }
}

impl Outliers {
    /// The counts in a row at which an endpoint is ejected.
    pub fn thresholds(&self) -> Streaks {
        Streaks { errors: self.consecutive_5xx, gateway: self.consecutive_gateway_failures }
    }

    /// Which endpoints' success rates are outliers: below the mean of those with enough requests by more than the set
    /// number of standard deviations (of the whole population, as Envoy's), if there are enough of those at all.
    pub fn success_rate_outliers<K: Copy>(&self, rates: &[(K, Rate)]) -> Vec<K> {
        let known: Vec<(K, f64)> = rates
            .iter()
            .filter(|(_, rate)| rate.total() > 0 && rate.total() >= self.success_rate_requests)
            .map(|(key, rate)| (*key, rate.success()))
            .collect();
        if self.success_rate_hosts == 0 || known.len() < self.success_rate_hosts as usize {
            return Vec::new();
        }
        let count = known.len() as f64;
        let mean = known.iter().map(|(_, success)| success).sum::<f64>() / count;
        let variance = known.iter().map(|(_, success)| (success - mean).powi(2)).sum::<f64>() / count;
        let least = mean - self.success_rate_deviations * variance.sqrt();
        known.into_iter().filter(|(_, success)| *success < least).map(|(key, _)| key).collect()
    }
}

/// Whether so few endpoints are left that ejections are to be ignored: of those that are `healthy` (by their probes,
/// and not draining) less than the share `threshold` is `available`. A threshold of 0 never panics.
pub fn panics(available: usize, healthy: usize, threshold: f64) -> bool {
    healthy > 0 && (available as f64) < healthy as f64 * threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streaks_are_ended_by_what_is_no_failure_of_their_kind() {
        use Misbehaviour::{Gateway, ServerError};
        let after =
            |all: &[Misbehaviour]| all.iter().fold(Streaks::default(), |streaks, one| streaks.after(*one));
        assert_eq!(after(&[Gateway, Gateway]), Streaks { errors: 2, gateway: 2 });
        assert_eq!(after(&[Gateway, ServerError]), Streaks { errors: 2, gateway: 0 });
        assert_eq!(after(&[ServerError, Gateway]), Streaks { errors: 2, gateway: 1 });
        let statuses = [200, 404, 499, 500, 501, 502, 503, 504, 505].map(Misbehaviour::of_status);
        let (server, gateway) = (Some(ServerError), Some(Gateway));
        assert_eq!(statuses, [None, None, None, server, server, gateway, gateway, gateway, server]);
    }

    #[test]
    fn a_threshold_of_0_is_never_reached() {
        let streaks = Streaks { errors: 5, gateway: 4 };
        let at = |errors, gateway| streaks.reached(Streaks { errors, gateway });
        assert_eq!(at(5, 5), Some(EjectionReason::Consecutive5xx));
        assert_eq!(at(6, 4), Some(EjectionReason::ConsecutiveGatewayFailures));
        assert_eq!([at(6, 5), at(0, 0), at(0, 5)], [None; 3]);
        assert_eq!(Streaks::from_bits(streaks.to_bits()), streaks);
    }

    #[test]
    fn an_outlier_is_far_below_the_others_and_takes_enough_of_them() {
        let outliers = Outliers::default();
        let rate = |good, bad| Rate { good, bad };
        let mut rates: Vec<_> = (0..9).map(|host| (host, rate(100, 0))).collect();
        rates.push((9, rate(50, 50)));
        assert_eq!(outliers.success_rate_outliers(&rates), [9]);
        // Mean 0.95, deviation 0.15: 0.95 - 1.9 * 0.15 is 0.665.
        rates[9].1 = rate(67, 33);
        rates[8].1 = rate(99, 1);
        assert_eq!(outliers.success_rate_outliers(&rates), [9]);
        (rates[8].1, rates[9].1) = (rate(100, 0), rate(49, 50));
        assert!(outliers.success_rate_outliers(&rates).is_empty(), "99 requests are too few");
        rates[9].1 = rate(50, 50);
        assert!(outliers.success_rate_outliers(&rates[6..]).is_empty(), "four hosts are too few");
        assert!(outliers.success_rate_outliers(&rates[..9].repeat(2)[..8]).is_empty(), "they are alike");
        let off = Outliers { success_rate_hosts: 0, ..outliers };
        assert!(off.success_rate_outliers(&rates).is_empty());
    }

    #[test]
    fn panic_is_under_the_share_of_those_that_are_healthy() {
        assert_eq!([panics(0, 1, 0.5), panics(1, 2, 0.5), panics(1, 3, 0.5)], [true, false, true]);
        assert_eq!([panics(0, 0, 0.5), panics(0, 4, 0.0), panics(3, 4, 1.0)], [false, false, true]);
    }
}
