//! Which endpoints of a pool are ejected, for how long, and when they come back.
//!
//! Invariant: never are more endpoints out than the settings allow, and none is out for longer than the longest time.
//! Time is passed in. What is ejected here is only thought to be bad: who ignores it, and when, is the matter of
//! [`super::outlier::panics`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::outlier::{EjectionReason, Outliers};

/// More than a share of a number of endpoints may be off as a float, and far less than one endpoint.
const ROUNDING: f64 = 1e-6;

/// The ejections of one pool, whose endpoints are known by a number each.
#[derive(Debug)]
pub struct Ejections {
    settings: Outliers,
    members: BTreeMap<usize, Member>,
    /// When the interval ends.
    interval_end: Instant,
    /// When room was last made.
    made_room: Option<Instant>,
}

/// The shortest time between two ejections that end for another's sake: in a pool whose endpoints all fail now and then,
/// they would take turns with every few requests.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// What is remembered of one endpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Member {
    /// What the next ejection's time is multiplied by, but for 1: it rises with each, and falls in quiet intervals.
    count: u32,
    /// All ejections of the endpoint.
    times: u64,
    out: Option<Ejected>,
    returned: Option<Instant>,
}

/// An ejection that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejected {
    /// When it began.
    pub since: Instant,
    /// When it ends, if nothing ends it before.
    pub until: Instant,
    /// Why.
    pub reason: EjectionReason,
}

/// What another process knows of an endpoint's ejections. Times are from the moment in which it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    count: u32,
    times: u64,
    out: Option<MemoryOfOut>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct MemoryOfOut {
    since_ago: Duration,
    left: Duration,
    reason: EjectionReason,
}

impl Ejections {
    /// None yet.
    pub fn new(settings: Outliers, now: Instant) -> Self {
        Self { settings, members: BTreeMap::new(), interval_end: now + settings.interval, made_room: None }
    }

    /// Changes the settings. They hold for what comes, but for the longest time and the largest share, which hold at
    /// once; answers who is readmitted by that.
    pub fn set_settings(&mut self, settings: Outliers, now: Instant) -> Vec<usize> {
        self.settings = settings;
        self.interval_end = self.interval_end.min(now + settings.interval);
        for out in self.members.values_mut().filter_map(|member| member.out.as_mut()) {
            out.until = out.until.min(out.since + settings.max_time);
        }
        let mut back = self.end_due(now);
        back.extend(self.trim(now));
        back
    }

    /// Says who is in the pool now. With fewer endpoints fewer may be out: those that are out for longest come back,
    /// and are the answer.
    pub fn follow(&mut self, members: impl IntoIterator<Item = usize>, now: Instant) -> Vec<usize> {
        let mut before = std::mem::take(&mut self.members);
        let keep = |member| (member, before.remove(&member).unwrap_or_default());
        self.members = members.into_iter().map(keep).collect();
        self.trim(now)
    }

    /// Ejects an endpoint, unless it is out already or too many are; answers until when.
    pub fn eject(&mut self, member: usize, reason: EjectionReason, now: Instant) -> Option<Ejected> {
        if self.out() >= self.most_out() {
            return None;
        }
        let longest = self.settings.max_time;
        let base = self.settings.base_time;
        let member = self.members.get_mut(&member).filter(|member| member.out.is_none())?;
        // Beyond the longest time a higher count would only take longer to decay.
        if base.saturating_mul(member.count) < longest {
            member.count += 1;
        }
        let time = base.saturating_mul(member.count.max(1)).min(longest);
        member.times += 1;
        let out = Ejected { since: now, until: now + time, reason };
        member.out = Some(out);
        Some(out)
    }

    /// Ends an ejection for the sake of another endpoint's, if as many are out as may be: the oldest of those that `may`
    /// end. Answers whose, if there is one. It is not held against the endpoint the next time.
    pub fn make_room(&mut self, may: impl Fn(usize) -> bool, now: Instant) -> Option<usize> {
        let is_due = self.made_room.is_none_or(|at| at + ROOM_PAUSE <= now);
        if !is_due || self.out() < self.most_out() {
            return None;
        }
        let out = |(member, state): (&usize, &Member)| Some((state.out?.since, *member));
        let (_, member) = self.members.iter().filter_map(out).filter(|(_, member)| may(*member)).min()?;
        self.readmit(member, now);
        self.made_room = Some(now);
        let state = self.members.get_mut(&member)?;
        state.count = state.count.saturating_sub(1);
        Some(member)
    }

    /// Ends the ejections whose time is over; answers whose.
    pub fn end_due(&mut self, now: Instant) -> Vec<usize> {
        let due = |(member, state): (&usize, &Member)| {
            state.out.is_some_and(|out| out.until <= now).then_some(*member)
        };
        let due: Vec<usize> = self.members.iter().filter_map(due).collect();
        due.iter().for_each(|member| self.readmit(*member, now));
        due
    }

    /// Ends an ejection because the endpoint was seen to work at a probe that began at `seen`; answers whether there
    /// was one that had begun before.
    pub fn readmit_seen_well(&mut self, member: usize, seen: Instant, now: Instant) -> bool {
        let ends = self.ejected(member).is_some_and(|out| out.since <= seen);
        if ends {
            self.readmit(member, now);
        }
        ends
    }

    /// If the interval has ended, begins the next one and lets the number of ejections decay: by one for each endpoint
    /// that was in all the time. Answers whether it had.
    pub fn end_interval(&mut self, now: Instant) -> bool {
        if now < self.interval_end {
            return false;
        }
        let interval = self.settings.interval;
        let was_in = |member: &Member| {
            member.out.is_none() && member.returned.is_none_or(|returned| returned + interval <= now)
        };
        for member in self.members.values_mut().filter(|member| was_in(member)) {
            member.count = member.count.saturating_sub(1);
        }
        self.interval_end = now + interval;
        true
    }

    /// What is known of an endpoint, for another process to go on from.
    pub fn memory(&self, member: usize, now: Instant) -> Option<Memory> {
        let Member { count, times, out, .. } = self.members.get(&member)?;
        let out = out.map(|out| MemoryOfOut {
            since_ago: now.saturating_duration_since(out.since),
            left: out.until.saturating_duration_since(now),
            reason: out.reason,
        });
        Some(Memory { count: *count, times: *times, out })
    }

    /// Goes on from what another process knew of an endpoint, as far as the settings allow it; answers whether it is out.
    pub fn recall(&mut self, member: usize, memory: &Memory, now: Instant) -> bool {
        let has_room = self.out() < self.most_out();
        let longest = self.settings.max_time;
        let Some(member) = self.members.get_mut(&member) else { return false };
        (member.count, member.times) = (memory.count, memory.times);
        if let Some(out) = memory.out.as_ref().filter(|_| has_room) {
            let since = now.checked_sub(out.since_ago).unwrap_or(now);
            let until = (now + out.left.min(longest)).min(since + longest);
            member.out = Some(Ejected { since, until, reason: out.reason });
        }
        member.out.is_some()
    }

    /// When there is something to do next: [`Self::end_due`] or [`Self::end_interval`].
    pub fn next(&self) -> Instant {
        let ends = self.members.values().filter_map(|member| Some(member.out?.until));
        ends.fold(self.interval_end, Instant::min)
    }

    /// An endpoint's ejection, if it is out.
    pub fn ejected(&self, member: usize) -> Option<Ejected> {
        self.members.get(&member)?.out
    }

    /// How often an endpoint was ejected.
    pub fn times(&self, member: usize) -> u64 {
        self.members.get(&member).map_or(0, |member| member.times)
    }

    /// How many are out.
    pub fn out(&self) -> usize {
        self.members.values().filter(|member| member.out.is_some()).count()
    }

    /// How many may be out at once.
    pub fn most_out(&self) -> usize {
        // A share from 0 to 1 of a number of endpoints is one, too. What is a whole number as it is written may be a
        // little less as a float: 0.29 of 100 is 28.999….
        ((self.members.len() as f64 * self.settings.max_ejected + ROUNDING) as usize).max(1)
    }

    fn readmit(&mut self, member: usize, now: Instant) {
        if let Some(member) = self.members.get_mut(&member) {
            member.out = None;
            member.returned = Some(now);
        }
    }

    fn trim(&mut self, now: Instant) -> Vec<usize> {
        let out = |(member, state): (&usize, &Member)| Some((state.out?.since, *member));
        let mut out: Vec<_> = self.members.iter().filter_map(out).collect();
        out.sort_unstable();
        out.truncate(out.len().saturating_sub(self.most_out()));
        let back: Vec<usize> = out.into_iter().map(|(_, member)| member).collect();
        back.iter().for_each(|member| self.readmit(*member, now));
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: EjectionReason = EjectionReason::Consecutive5xx;

    fn pool(endpoints: usize, max_ejected: f64) -> (Ejections, Instant) {
        let start = Instant::now();
        let mut pool = Ejections::new(Outliers { max_ejected, ..Outliers::default() }, start);
        assert!(pool.follow(0..endpoints, start).is_empty());
        (pool, start)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn another_process_goes_on_from_what_was_known_within_its_own_settings() {
        let (mut pool, start) = pool(4, 0.5);
        for member in [0, 1] {
            pool.eject(member, REASON, start).unwrap();
        }
        let later = start + seconds(10);
        let memory = |member| pool.memory(member, later).unwrap();
        let mut next = Ejections::new(Outliers { max_ejected: 0.25, ..Outliers::default() }, later);
        next.follow(0..4, later);
        assert!(next.recall(0, &memory(0), later), "it goes on");
        assert_eq!(next.ejected(0).unwrap().until, pool.ejected(0).unwrap().until);
        assert!(!next.recall(1, &memory(1), later), "one in four may be out");
        assert!(!next.recall(2, &memory(2), later));
        assert_eq!([0, 1, 2].map(|member| next.times(member)), [1, 1, 0]);
        let forged: Memory = serde_json::from_str(
            r#"{"count": 1, "times": 1, "later": true,
                "out": {"since_ago": {"secs": 0, "nanos": 0}, "left": {"secs": 18446744073709551615, "nanos": 0},
                        "reason": "success_rate"}}"#,
        )
        .unwrap();
        next.end_due(later + seconds(100));
        assert!(next.recall(3, &forged, later));
        assert!(next.ejected(3).unwrap().until <= later + Outliers::default().max_time);
        assert!(!next.recall(9, &forged, later), "it is not in the pool");
    }

    #[test]
    fn at_most_the_share_is_out_but_one_always_may_be() {
        for (endpoints, share, most) in
            [(1, 0.1, 1), (9, 0.1, 1), (20, 0.1, 2), (29, 0.1, 2), (100, 0.29, 29), (4, 1.0, 4), (4, 0.0, 1)]
        {
            let (mut pool, now) = pool(endpoints, share);
            let out = (0..endpoints).filter(|member| pool.eject(*member, REASON, now).is_some()).count();
            assert_eq!(out, most, "{endpoints} endpoints, {share}");
        }
    }

    #[test]
    fn a_share_in_hundredths_is_as_many_of_a_hundred() {
        for percent in 1..=100 {
            let (pool, _) = pool(100, f64::from(percent) / 100.0);
            assert_eq!(pool.most_out(), percent as usize);
        }
    }

    #[test]
    fn each_ejection_is_longer_up_to_the_longest_and_quiet_intervals_make_it_shorter() {
        let (mut pool, mut now) = pool(2, 0.5);
        let eject = |pool: &mut Ejections, now: &mut Instant| {
            let out = pool.eject(0, REASON, *now).expect("there is room");
            assert!(pool.eject(0, REASON, *now).is_none(), "it is out already");
            *now = out.until;
            assert!(pool.end_due(*now - Duration::from_millis(1)).is_empty());
            assert_eq!(pool.end_due(*now), [0]);
            (out.until - out.since).as_secs()
        };
        let times: Vec<u64> = (0..12).map(|_| eject(&mut pool, &mut now)).collect();
        assert_eq!(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
        for _ in 0..4 {
            now += seconds(10);
            pool.end_interval(now);
        }
        assert_eq!(eject(&mut pool, &mut now), 30 * (10 - 4 + 1), "four intervals were quiet");
        assert_eq!(pool.times(0), 13);
    }

    #[test]
    fn a_passing_probe_readmits_but_not_one_that_began_before() {
        let (mut pool, start) = pool(2, 0.5);
        pool.eject(1, REASON, start + seconds(5)).expect("there is room");
        let now = start + seconds(6);
        assert!(!pool.readmit_seen_well(1, start + seconds(4), now));
        assert!(!pool.readmit_seen_well(0, now, now), "it was not out");
        assert!(pool.readmit_seen_well(1, now, now));
        assert_eq!((pool.out(), pool.ejected(1)), (0, None));
    }

    #[test]
    fn room_is_made_by_the_oldest_that_may_and_once_a_second() {
        let (mut pool, start) = pool(4, 0.5);
        assert_eq!(pool.make_room(|_| true, start), None, "nobody is out");
        for (member, at) in [(2, 1), (0, 2)] {
            pool.eject(member, REASON, start + seconds(at)).expect("there is room");
        }
        let now = start + seconds(3);
        assert!(pool.eject(1, REASON, now).is_none());
        assert_eq!(pool.make_room(|member| member == 3, now), None, "it is in");
        assert_eq!(pool.make_room(|member| member != 2, now), Some(0), "the older one may not");
        let out = pool.eject(1, REASON, now).expect("there is room now");
        assert_eq!(out.until - out.since, seconds(30));
        assert_eq!(pool.make_room(|_| true, now + Duration::from_millis(999)), None, "it is too soon");
        assert_eq!(pool.make_room(|_| true, now + seconds(1)), Some(2));
        let again = pool.eject(0, REASON, now + seconds(2)).expect("there is room now");
        assert_eq!(again.until - again.since, seconds(30), "the ejection that was cut short does not count");
    }

    #[test]
    fn when_the_pool_shrinks_those_that_are_out_for_longest_come_back() {
        let (mut pool, start) = pool(4, 0.75);
        for (member, at) in [(2, 1), (0, 2), (1, 3)] {
            pool.eject(member, REASON, start + seconds(at)).expect("there is room");
        }
        assert_eq!(pool.follow([0, 1, 2], start + seconds(4)), [2]);
        assert_eq!(pool.follow([3, 1], start + seconds(5)), [] as [usize; 0]);
        assert_eq!((pool.out(), pool.times(0)), (1, 0), "what has left is forgotten");
        let shorter = Outliers { max_time: seconds(10), base_time: seconds(10), ..Outliers::default() };
        assert_eq!(pool.set_settings(shorter, start + seconds(20)), [1]);
    }
}
