//! A drain's schedule by the monotonic clock. Pure: whoever asks says what both clocks show.
//!
//! Invariant: a drain has one beginning by the monotonic clock as long as it is known, whatever the wall clock is set to.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::schedule::Schedule;

/// When drains began by the monotonic clock, by the moment of their beginning by the wall clock, which is each one's own.
#[derive(Debug, Default)]
pub(super) struct Beginnings(BTreeMap<SystemTime, Beginning>);

/// When a drain began: so long before a moment. The monotonic clock does not go back behind the start of the machine,
/// and a drain may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    known_at: Instant,
    ago: Duration,
}

/// A schedule by the monotonic clock; by default, nothing ever happens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Course {
    pub(super) closes: Option<Instant>,
    pub(super) cuts: Option<Instant>,
    pub(super) streams: Option<(Instant, Duration)>,
}

impl Beginnings {
    /// The beginning of the drain that began at `since`. One that is not known yet is known from `now` on, when the wall
    /// clock shows `wall`; if it is to begin later than that, the clock was set back, and it begins now.
    pub(super) fn of(&mut self, since: SystemTime, wall: SystemTime, now: Instant) -> Beginning {
        let unknown = || Beginning { known_at: now, ago: wall.duration_since(since).unwrap_or_default() };
        *self.0.entry(since).or_insert_with(unknown)
    }

    /// Knows the beginning of a drain.
    pub(super) fn keep(&mut self, since: SystemTime, beginning: Beginning) {
        self.0.insert(since, beginning);
    }
}

impl Beginning {
    /// The moment so long after it.
    fn plus(self, time: Duration) -> Option<Instant> {
        match time.checked_sub(self.ago) {
            Some(ahead) => self.known_at.checked_add(ahead),
            // What was due longer ago than the clock goes back is due now.
            None => Some(self.known_at.checked_sub(self.ago - time).unwrap_or(self.known_at)),
        }
    }
}

impl Course {
    /// The course of a schedule whose drain has this beginning.
    pub(super) fn of(schedule: &Schedule, began: Beginning) -> Self {
        let instant = |at: SystemTime| {
            began.plus(at.duration_since(schedule.since).expect("nothing is due before it begins"))
        };
        Self {
            closes: schedule.closes.and_then(instant),
            cuts: schedule.cuts.and_then(instant),
            streams: schedule.streams.and_then(|(from, time)| Some((instant(from)?, time))),
        }
    }

    /// What two drains of one endpoint come to: of each moment the earlier.
    pub(super) fn or_sooner(self, other: Self) -> Self {
        let ends = |streams: &(Instant, Duration)| streams.0.checked_add(streams.1);
        let streams = self.streams.into_iter().chain(other.streams);
        Self {
            closes: self.closes.into_iter().chain(other.closes).min(),
            cuts: self.cuts.into_iter().chain(other.cuts).min(),
            streams: streams
                .min_by_key(|streams| ends(streams).map_or((true, None), |end| (false, Some(end)))),
        }
    }

    /// When every deadline has passed; `None` if one of them never does.
    pub(super) fn end(&self) -> Option<Instant> {
        let (from, time) = self.streams?;
        Some(self.cuts?.max(from.checked_add(time)?))
    }

    /// Whether every deadline has passed.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.end().is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::live_state::{Drain, PinsOnDrain};

    const MINUTE: Duration = Duration::from_secs(60);

    fn course(since: SystemTime, wall: SystemTime, now: Instant) -> Course {
        let (deadline, stream_deadline) = (Some(MINUTE), Some(2 * MINUTE));
        let drain = Drain { since, deadline, stream_deadline, pins: PinsOnDrain::Move };
        Course::of(&Schedule::of(&drain, false, MINUTE), Beginnings::default().of(since, wall, now))
    }

    #[test]
    fn a_drain_of_before_the_start_goes_on_by_what_the_wall_clock_says() {
        let (wall, now) = (SystemTime::UNIX_EPOCH + 100_000 * MINUTE, Instant::now());
        let begun = course(wall - MINUTE / 2, wall, now);
        assert_eq!((begun.cuts, begun.end()), (Some(now + MINUTE / 2), Some(now + 3 * MINUTE / 2)));
        // The clock was set back in between.
        let later = course(wall + 1_000 * MINUTE, wall, now);
        assert_eq!((later.cuts, later.end()), (Some(now + MINUTE), Some(now + 2 * MINUTE)));
        // It began before the machine did.
        let long_ago = course(SystemTime::UNIX_EPOCH, wall, now);
        assert!(long_ago.cuts.is_some_and(|at| at <= now));
    }

    #[test]
    fn a_beginning_that_is_known_stays_whatever_the_clock_shows() {
        let (wall, now) = (SystemTime::UNIX_EPOCH + 100_000 * MINUTE, Instant::now());
        let mut beginnings = Beginnings::default();
        let first = beginnings.of(wall, wall, now);
        for shown in [wall - 1_440 * MINUTE, wall + 1_440 * MINUTE] {
            assert_eq!(beginnings.of(wall, shown, now + MINUTE).plus(MINUTE), first.plus(MINUTE));
        }
    }
}
