//! Carries drains out: which endpoints take nothing new, and what becomes of what they still have.
//!
//! Invariant: an endpoint's bits say what the state says before the change that made it so is answered. What time
//! brings about (the end of kept sessions, deadlines, streams that close) is brought about here, on the control
//! plane's thread; workers look at nothing but the endpoint. The wall clock is read once for a drain, when it becomes
//! known here: from then on a monotonic one counts, whatever else changes and however the wall clock is set.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    course::{Beginnings, Course},
    schedule::Schedule,
    situation::{Moved, Situation},
    succession::Succession,
};
use crate::{
    model::{endpoint_address::EndpointAddress, name::Name},
    upstream::{
        drain::Kind,
        endpoint::{Endpoint, EndpointId},
    },
};

/// How often drains that are under way are looked at: the grain of deadlines, and of the streams' closing.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// All drains that are under way or done.
#[derive(Debug, Default)]
pub(super) struct Drains {
    followed: BTreeMap<EndpointId, Followed>,
    beginnings: Beginnings,
}

/// One endpoint that is draining, as it is shown.
#[derive(Debug, Clone)]
pub struct Draining {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its address as it is declared: a name may stand for several endpoints.
    pub declared: EndpointAddress,
    /// When what happens, by the wall clock as it was when the drain began.
    pub schedule: Schedule,
    /// The schedules that this one comes of: of the endpoint's own drain, and of its pool's.
    pub(super) parts: Parts,
    /// When nothing can be left; `None` if that is not bounded, or nothing has been begun yet.
    pub(super) ends: Option<Instant>,
    /// It is in no table any more: only what is in flight is left of it.
    pub is_gone: bool,
}

/// The schedules of an endpoint's own drain and of its pool's.
pub(super) type Parts = [Option<Schedule>; 2];

/// What a drain has cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, schemars::JsonSchema)]
pub struct Cut {
    /// Requests that were answered by 503, or broken off.
    pub requests: u64,
    /// Tunnels that were closed.
    pub tunnels: u64,
    /// Event streams that were ended.
    pub event_streams: u64,
}

#[derive(Debug)]
struct Followed {
    shown: Draining,
    course: Course,
}

/// What becomes of the drains with a new table.
#[derive(Debug)]
pub(super) struct Plan {
    /// The endpoints that drain no longer.
    opened: Vec<Arc<Endpoint>>,
    /// All that drain from now on.
    wanted: BTreeMap<EndpointId, Draining>,
    at: SystemTime,
}

impl Plan {
    /// Lets the endpoints that drain no longer take requests. It comes before their table does.
    pub(super) fn welcome(&self) {
        let now = Instant::now().into_std();
        for endpoint in &self.opened {
            endpoint.drain.end();
            if !endpoint.occupancy.standing().takes_new() {
                endpoint.became_available(now);
            }
            endpoint.occupancy.undrain();
        }
    }
}

impl Drains {
    /// What a situation makes of the drains. Nothing happens yet.
    pub(super) fn plan(&self, situation: &Situation<'_>) -> Plan {
        let mut wanted: BTreeMap<_, _> =
            situation.draining().map(|shown| (shown.endpoint.id, shown)).collect();
        let Moved { came, left } = situation.moved();
        let back: HashSet<_> = came.iter().map(|endpoint| endpoint.id).collect();
        for (id, followed) in &self.followed {
            if followed.shown.is_gone && !back.contains(id) {
                wanted.insert(*id, followed.shown.clone());
            }
        }
        for shown in left {
            // One that drained before it was removed goes on as it was told.
            let known = self.followed.get(&shown.endpoint.id).map(|followed| followed.shown.clone());
            let shown = known.map_or(shown, |known| Draining { is_gone: true, ..known });
            wanted.insert(shown.endpoint.id, shown);
        }
        // Those that drained before, and those that come back.
        let opened = self.followed.values().map(|followed| &followed.shown.endpoint).chain(&came);
        let opened = opened.filter(|endpoint| !wanted.contains_key(&endpoint.id)).cloned().collect();
        Plan { opened, wanted, at: situation.at }
    }

    /// Makes every endpoint's bits what a plan says.
    pub(super) fn carry_out(&mut self, plan: Plan) {
        let now = Instant::now();
        let before = std::mem::take(&mut self.followed);
        let mut beginnings = std::mem::take(&mut self.beginnings);
        for (id, shown) in plan.wanted {
            if !before.contains_key(&id) {
                shown.endpoint.drain.begin();
            }
            let mut course = Course::default();
            for part in shown.parts.iter().flatten() {
                let began = beginnings.of(part.since, plan.at, now);
                self.beginnings.keep(part.since, began);
                course = course.or_sooner(Course::of(part, began));
            }
            let followed = Followed { shown: Draining { ends: course.end(), ..shown }, course };
            followed.advance(now);
            self.followed.insert(id, followed);
        }
    }

    /// Does what is due. Answers whether an endpoint that was removed is idle now, and is followed no more.
    pub(super) fn tick(&mut self) -> bool {
        let now = Instant::now();
        self.followed.values().for_each(|followed| followed.advance(now));
        let before = self.followed.len();
        self.followed.retain(|_, followed| !(followed.shown.is_gone && followed.is_settled()));
        self.followed.len() < before
    }

    /// Whether an endpoint drains: then it is shown, and may be needed again.
    pub(super) fn has(&self, endpoint: &Endpoint) -> bool {
        self.followed.contains_key(&endpoint.id)
    }

    /// How many endpoints drain that are in no table any more.
    pub(super) fn gone(&self) -> usize {
        self.followed.values().filter(|followed| followed.shown.is_gone).count()
    }

    /// Whether there is anything to do, now or later.
    pub(super) fn is_busy(&self) -> bool {
        self.followed.values().any(|followed| followed.shown.is_gone || !followed.is_settled())
    }

    /// The declared endpoints whose drain has not ended: something is in flight, here or in a process before this one, and
    /// not all deadlines are over.
    pub(super) fn unended(&self, succession: &Succession) -> HashSet<(&Name, &EndpointAddress)> {
        let now = Instant::now();
        let unended = self.followed.values().filter(|Followed { shown, course }| {
            let Endpoint { pool, address, .. } = &*shown.endpoint;
            let is_idle = || shown.is_drained() && succession.in_flight(pool, Some(*address)) == 0;
            !shown.is_gone && !course.is_over(now) && !is_idle()
        });
        unended.map(|followed| (&followed.shown.endpoint.pool, &followed.shown.declared)).collect()
    }

    /// All of them, to be shown.
    pub(super) fn shown(&self) -> BTreeMap<EndpointId, Draining> {
        self.followed.iter().map(|(id, followed)| (*id, followed.shown.clone())).collect()
    }
}

impl Draining {
    /// How long it is until nothing can be left; `None` if that is not bounded.
    pub fn left(&self) -> Option<Duration> {
        Some(self.ends?.saturating_duration_since(Instant::now()))
    }

    /// Requests in flight, streams among them.
    pub fn in_flight(&self) -> u64 {
        self.endpoint.occupancy.in_flight()
    }

    /// Tunnels and event streams that are open.
    pub fn streams(&self) -> u64 {
        self.endpoint.drain.streams()
    }

    /// Whether nothing is in flight, for good.
    pub fn is_drained(&self) -> bool {
        self.endpoint.occupancy.is_drained()
    }

    /// What has been cut.
    pub fn cut(&self) -> Cut {
        let cut = |kind| self.endpoint.drain.cut(kind);
        Cut {
            requests: cut(Kind::Request),
            tunnels: cut(Kind::Tunnel),
            event_streams: cut(Kind::EventStream),
        }
    }
}

impl std::iter::Sum for Cut {
    fn sum<I: Iterator<Item = Self>>(cuts: I) -> Self {
        cuts.fold(Self::default(), |sum, cut| Self {
            requests: sum.requests + cut.requests,
            tunnels: sum.tunnels + cut.tunnels,
            event_streams: sum.event_streams + cut.event_streams,
        })
    }
}

impl Followed {
    /// Makes the endpoint what it is to be by now.
    fn advance(&self, now: Instant) {
        let Endpoint { occupancy, drain, .. } = &*self.shown.endpoint;
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        // Nobody finds it who is not there already, so none is to be kept for.
        if self.shown.is_gone || is_past(self.course.closes) {
            occupancy.drain();
        } else {
            occupancy.reserve();
        }
        drain.set_over(is_past(self.course.cuts));
        match self.course.streams {
            Some((from, whole)) if from <= now => drain.advance_streams(now - from, whole),
            _ => drain.advance_streams(Duration::ZERO, Duration::MAX),
        }
    }

    /// Whether nothing is left, for good.
    fn is_settled(&self) -> bool {
        self.shown.is_drained()
    }
}

#[cfg(test)]
mod tests;
