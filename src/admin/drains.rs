//! How drains are shown: what was asked for, and what is left.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::reading::timestamp;
use crate::{
    control::drains::{Cut, Draining},
    model::live_state::{Drain, PinsOnDrain},
};

/// A drain as it was asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DrainView {
    since: String,
    deadline: String,
    stream_deadline: String,
    pins: &'static str,
}

/// How far the drain of an endpoint has come.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProgressView {
    since: String,
    /// Until when requests of sessions that are pinned here come; `null` if none come, or as long as they last.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_until: Option<String>,
    /// When requests in flight are cut; `null` is never.
    requests_until: Option<String>,
    /// When the last stream is closed; `null` is never.
    streams_until: Option<String>,
    /// How long that is from now, at most; `null` if it is not bounded.
    seconds_left: Option<f64>,
    drained: bool,
    cut: Cut,
}

impl DrainView {
    pub fn of(drain: &Drain) -> Self {
        let time = |time: Option<Duration>| {
            time.map_or_else(|| "off".to_owned(), |time| humantime::format_duration(time).to_string())
        };
        Self {
            since: timestamp(drain.since),
            deadline: time(drain.deadline),
            stream_deadline: time(drain.stream_deadline),
            pins: match drain.pins {
                PinsOnDrain::Keep => "keep",
                PinsOnDrain::Move => "move",
            },
        }
    }
}

impl ProgressView {
    /// `elsewhere`: what a process that was replaced has in flight there.
    pub fn of(draining: &Draining, elsewhere: u64) -> Self {
        let schedule = &draining.schedule;
        let streams_until = schedule.streams.and_then(|(from, time)| from.checked_add(time));
        Self {
            since: timestamp(schedule.since),
            sessions_until: schedule.closes.filter(|closes| *closes > schedule.since).map(timestamp),
            requests_until: schedule.cuts.map(timestamp),
            streams_until: streams_until.map(timestamp),
            seconds_left: draining.left().map(|left| left.as_secs_f64()),
            drained: draining.is_drained() && elsewhere == 0,
            cut: draining.cut(),
        }
    }
}
