//! When the drain of an endpoint does what. Pure.

use std::time::{Duration, SystemTime};

use crate::model::live_state::{Drain, PinsOnDrain};

/// The moments of one endpoint's drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// When it began.
    pub since: SystemTime,
    /// When requests of pinned sessions are refused, too; `None` is never.
    pub closes: Option<SystemTime>,
    /// When requests in flight are cut; `None` is never.
    pub cuts: Option<SystemTime>,
    /// From when, and for how long, streams are closed one after the other; `None` is never.
    pub streams: Option<(SystemTime, Duration)>,
}

impl Schedule {
    /// The schedule of a drain. `keeps_pins` says that sessions may be pinned here, and `in_flight` how long requests
    /// of kept sessions have after the last of them could begin.
    pub fn of(drain: &Drain, keeps_pins: bool, in_flight: Duration) -> Self {
        let Drain { since, deadline, stream_deadline, pins } = *drain;
        let after = |from: Option<SystemTime>, time: Option<Duration>| from?.checked_add(time?);
        let (closes, cuts) = if keeps_pins && pins == PinsOnDrain::Keep {
            // The deadline is that of the sessions; what they have begun before it may end, in as much time at most.
            let closes = after(Some(since), deadline);
            (closes, after(closes, deadline.map(|deadline| deadline.min(in_flight))))
        } else {
            (Some(since), after(Some(since), deadline))
        };
        Self { since, closes, cuts, streams: closes.zip(stream_deadline) }
    }

    /// What two drains of one endpoint come to: of each moment the earlier.
    pub fn or_sooner(self, other: Self) -> Self {
        let ends = |streams: &(SystemTime, Duration)| streams.0.checked_add(streams.1);
        let streams = self.streams.into_iter().chain(other.streams);
        Self {
            since: self.since.min(other.since),
            closes: self.closes.into_iter().chain(other.closes).min(),
            cuts: self.cuts.into_iter().chain(other.cuts).min(),
            streams: streams
                .min_by_key(|streams| ends(streams).map_or((true, None), |end| (false, Some(end)))),
        }
    }

    /// When nothing can be left; `None` if that is not bounded.
    pub fn end(&self) -> Option<SystemTime> {
        let (from, time) = self.streams?;
        Some(self.cuts?.max(from.checked_add(time)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn drain(deadline: Option<u64>, stream_deadline: Option<u64>, pins: PinsOnDrain) -> Drain {
        let stream_deadline = stream_deadline.map(seconds);
        Drain { since: START, deadline: deadline.map(seconds), stream_deadline, pins }
    }

    #[test]
    fn requests_end_at_the_deadline_and_sessions_that_are_kept_end_first() {
        let at = |count| Some(START + seconds(count));
        let moved = Schedule::of(&drain(Some(30), Some(300), PinsOnDrain::Move), true, seconds(30));
        assert_eq!((moved.closes, moved.cuts, moved.end()), (at(0), at(30), at(300)));
        let kept = Schedule::of(&drain(Some(600), Some(300), PinsOnDrain::Keep), true, seconds(30));
        assert_eq!((kept.closes, kept.cuts, kept.end()), (at(600), at(630), at(900)));
        let short = Schedule::of(&drain(Some(5), Some(5), PinsOnDrain::Keep), true, seconds(30));
        assert_eq!((short.closes, short.cuts, short.end()), (at(5), at(10), at(10)));
        // Nobody can be pinned there, so there is nobody to keep.
        let unpinned = Schedule::of(&drain(Some(600), Some(300), PinsOnDrain::Keep), false, seconds(30));
        assert_eq!((unpinned.closes, unpinned.cuts), (at(0), at(600)));
    }

    #[test]
    fn what_has_no_deadline_has_no_end() {
        let open = Schedule::of(&drain(None, Some(300), PinsOnDrain::Keep), true, seconds(30));
        assert_eq!((open.closes, open.cuts, open.streams, open.end()), (None, None, None, None));
        let requests = Schedule::of(&drain(None, Some(300), PinsOnDrain::Move), true, seconds(30));
        assert_eq!(
            (requests.cuts, requests.streams, requests.end()),
            (None, Some((START, seconds(300))), None)
        );
    }

    #[test]
    fn of_two_drains_each_moment_is_the_earlier() {
        let pool = Schedule::of(&drain(Some(600), Some(300), PinsOnDrain::Keep), true, seconds(30));
        let own = Schedule::of(&drain(Some(30), None, PinsOnDrain::Move), true, seconds(30));
        for both in [pool.or_sooner(own), own.or_sooner(pool)] {
            assert_eq!((both.closes, both.cuts), (own.closes, own.cuts));
            assert_eq!(both.streams, pool.streams);
        }
    }
}
