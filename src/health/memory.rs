//! What is known of endpoints, in a form that a successor of this process can go on from.
//!
//! Invariant: whatever stands in it, a machine that takes it in is one that could have come about here: what is longer
//! ago than it can be, or ends later than the settings allow, is cut to what they allow.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::probe::ProbeResult;
use crate::model::{ejection, health::Health, name::Name};

/// What is known of all endpoints, by pool and address.
pub type Memory = BTreeMap<Name, BTreeMap<SocketAddr, OfEndpoint>>;

/// What is known of an endpoint. Times are from the moment in which it was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OfEndpoint {
    /// What its probes say, if they have said anything.
    pub probed: Option<OfProbes>,
    /// Its ejections, if its pool ejects.
    pub ejection: Option<ejection::Memory>,
    /// How long it takes traffic, while it is warmed.
    pub warming_for: Option<Duration>,
}

/// What an endpoint's probes say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfProbes {
    /// The judgement.
    pub health: Health,
    /// How long ago the last probe ended.
    pub ended_ago: Duration,
    /// How long it took.
    pub took: Duration,
    /// What it came to.
    pub result: ProbeResult,
    /// The same in words.
    pub text: String,
}

/// A moment that long ago; as long ago as this clock can tell, if that is not so long.
pub(super) fn ago(now: Instant, ago: Duration) -> Instant {
    now.checked_sub(ago).unwrap_or(now)
}
