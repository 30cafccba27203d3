//! When an endpoint misbehaves: the settings of passive ejection.

use std::time::Duration;

/// When an endpoint is ejected, and for how long. The names and figures are Envoy's published ones (outlier
/// detection), but for `max_ejected`, which always allows one endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outliers {
    /// Answers with a 5xx status in a row (failed attempts count as such); 0 turns it off.
    pub consecutive_5xx: u32,
    /// Failed attempts, and answers with 502, 503 or 504, in a row; 0 turns it off.
    pub consecutive_gateway_failures: u32,
    /// How often success rates are compared, and ended ejections are looked for.
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
