//! Whether an endpoint is well, by the results of its probes.
//!
//! Invariant: it changes its mind only after as many results in a row as it was told, with one exception: an endpoint
//! that has never been well is so after its first success, so that a deploy does not wait for a second opinion.

/// How many results in a row it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes that make an endpoint healthy again.
    pub healthy_after: u32,
    /// Failures that make an endpoint unhealthy.
    pub unhealthy_after: u32,
}

/// What is thought of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No probe has ended yet. It takes no traffic.
    Unknown,
    /// It is well.
    Healthy,
    /// It takes no traffic.
    Unhealthy,
}

/// The judgement on one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    verdict: Verdict,
    /// Whether it was ever well.
    is_proven: bool,
    last: Option<bool>,
    streak: u32,
}

impl Health {
    /// An endpoint that nobody has probed. One that `serves` already, because its pool was not probed until now, counts
    /// as healthy until its probes say otherwise: turning probes on must not take a pool out.
    pub fn new(serves: bool) -> Self {
        let verdict = if serves { Verdict::Healthy } else { Verdict::Unknown };
        Self { verdict, is_proven: serves, last: None, streak: 0 }
    }

    /// Takes in a probe's result; answers whether the endpoint has become healthy (`true`) or unhealthy (`false`) by it.
    pub fn record(&mut self, success: bool, thresholds: Thresholds) -> Option<bool> {
        self.streak = if self.last == Some(success) { self.streak.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let was = self.verdict;
        if success {
            if !self.is_proven || self.streak >= thresholds.healthy_after {
                self.verdict = Verdict::Healthy;
                self.is_proven = true;
            }
        } else if !self.is_proven || self.streak >= thresholds.unhealthy_after {
            self.verdict = Verdict::Unhealthy;
        }
        (self.verdict != was).then_some(self.verdict == Verdict::Healthy)
    }

    /// What is thought of it now.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether it is healthy.
    pub fn is_healthy(&self) -> bool {
        self.verdict == Verdict::Healthy
    }

    /// How many results like the last one there were in a row.
    pub fn streak(&self) -> u32 {
        self.streak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { healthy_after: 2, unhealthy_after: 3 };

    /// What each of the results (`+` and `-`) has changed: `H` and `U`, or `.` for nothing.
    fn changes(health: &mut Health, results: &str) -> String {
        let change = |result: char| match health.record(result == '+', THRESHOLDS) {
            None => '.',
            Some(true) => 'H',
            Some(false) => 'U',
        };
        results.chars().map(change).collect()
    }

    #[test]
    fn a_new_endpoint_is_healthy_with_its_first_success_and_never_before() {
        assert_eq!(changes(&mut Health::new(false), "+"), "H");
        let mut failing = Health::new(false);
        assert_eq!(failing.verdict(), Verdict::Unknown);
        assert_eq!(changes(&mut failing, "----+"), "U...H");
    }

    #[test]
    fn it_takes_as_many_in_a_row_as_the_thresholds_say() {
        let mut health = Health::new(true);
        assert_eq!(changes(&mut health, "--+--+---"), "........U");
        assert_eq!((health.streak(), health.is_healthy()), (3, false));
        assert_eq!(changes(&mut health, "+-+-++"), ".....H");
    }

    #[test]
    fn what_serves_already_goes_on_until_its_probes_have_failed_often_enough() {
        assert_eq!(changes(&mut Health::new(true), "---"), "..U");
    }
}
