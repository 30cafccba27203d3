//! What is known of endpoints and pools, for people to read.

use std::time::{Duration, SystemTime};

use super::probe::ProbeResult;
use crate::model::{health::Verdict, name::Name, outlier::EjectionReason};

/// What is known of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointReport {
    /// What its probes say; `None` if its pool is not probed.
    pub probed: Option<Probed>,
    /// Its ejection, if it is ejected now.
    pub ejected: Option<EjectedReport>,
    /// How often it was ejected.
    pub ejections: u64,
}

/// What an endpoint's probes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// What is thought of it.
    pub verdict: Verdict,
    /// How many results like the last one there were in a row.
    pub streak: u32,
    /// The last probe.
    pub last: Option<LastProbe>,
}

/// A probe that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastProbe {
    /// When it ended.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What it came to.
    pub result: ProbeResult,
    /// The same in words.
    pub text: String,
}

/// An ejection that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EjectedReport {
    /// When it began.
    pub since: SystemTime,
    /// When it ends at the latest.
    pub until: SystemTime,
    /// Why.
    pub reason: EjectionReason,
}

/// What was counted of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolReport {
    /// The pool.
    pub name: Name,
    /// Whether it ignores its ejections now.
    pub panics: bool,
    /// How often it began to.
    pub panic_count: u64,
    /// Probes, in the order of [`ProbeResult::ALL`].
    pub probes: [u64; ProbeResult::ALL.len()],
    /// Ejections, in the order of [`EjectionReason::ALL`].
    pub ejections: [u64; EjectionReason::ALL.len()],
    /// Ejections that were due, but would have been too many at once.
    pub spared: u64,
    /// Whether its endpoints are probed.
    pub is_probed: bool,
}

impl EndpointReport {
    /// Why the endpoint takes no traffic; `None` if nothing here keeps it from taking some.
    pub fn why_out(&self) -> Option<String> {
        let time = |at: SystemTime| humantime::format_rfc3339_seconds(at);
        if let Some(Probed { verdict: Verdict::Unknown | Verdict::Unhealthy, streak, last }) = &self.probed {
            return Some(match last {
                None => "it is new, and its first probe has not ended".to_owned(),
                Some(LastProbe { at, result: ProbeResult::Success, text, .. }) => {
                    format!(
                        "it was unhealthy, and has passed {streak} probes since (at {}: {text})",
                        time(*at)
                    )
                }
                Some(LastProbe { at, text, .. }) => {
                    format!("its last {streak} probes failed (at {}: {text})", time(*at))
                }
            });
        }
        self.ejected.as_ref().map(|EjectedReport { since, until, reason }| {
            let (since, until) = (time(*since), time(*until));
            format!("it is ejected since {since} until {until} at the latest: {}", reason.describe())
        })
    }
}
