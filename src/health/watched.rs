//! A pool that is watched: what its probes and its traffic say of its endpoints, and what follows from it.
//!
//! Invariant: the bits of an endpoint's word say what the machines here say, from the moment in which they change.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use super::{
    board::PoolTarget,
    memory::{OfEndpoint, OfProbes, ago},
    probe::{Finding, ProbeResult},
    report::{EjectedReport, EndpointReport, LastProbe, PoolReport, Probed},
};
use crate::{
    config,
    model::{
        ejection::Ejections,
        health::{Health, Thresholds},
        outlier::{self, EjectionReason, Rate, Streaks},
    },
    upstream::{endpoint::Endpoint, pool::PoolState},
};

/// A pool of the table in force.
#[derive(Debug)]
pub(super) struct Watched {
    settings: Arc<config::Pool>,
    state: Arc<PoolState>,
    members: BTreeMap<usize, Member>,
    ejections: Option<Ejections>,
    probes: [u64; ProbeResult::ALL.len()],
    ejected: [u64; EjectionReason::ALL.len()],
    spared: u64,
    panic_count: u64,
    /// The last probe could not be made.
    lacks: bool,
}

/// One of its endpoints.
#[derive(Debug)]
struct Member {
    endpoint: Arc<Endpoint>,
    weight: u32,
    /// `None` if the pool is not probed.
    health: Option<Health>,
    last: Option<Last>,
    /// What was counted when the interval began.
    counted: Rate,
    /// It came back within the interval: what it did before is paid for.
    is_back: bool,
    /// How many requests it had answered well when it was last ejected.
    good_when_ejected: u64,
}

#[derive(Debug)]
struct Last {
    started: Instant,
    ended: Instant,
    finding: Finding,
}

impl Watched {
    /// A pool that was not there before.
    pub(super) fn new(target: &PoolTarget) -> Self {
        Self {
            settings: Arc::clone(&target.settings),
            state: Arc::clone(&target.state),
            members: BTreeMap::new(),
            ejections: None,
            probes: Default::default(),
            ejected: Default::default(),
            spared: 0,
            panic_count: 0,
            lacks: false,
        }
    }

    /// Goes on with another generation's form of the pool.
    pub(super) fn follow(&mut self, target: &PoolTarget, now: Instant) {
        self.settings = Arc::clone(&target.settings);
        let is_probed = self.settings.health.is_some();
        let mut before = std::mem::take(&mut self.members);
        for (endpoint, weight) in &target.endpoints {
            let id = endpoint.id.index();
            let mut member = before.remove(&id).unwrap_or_else(|| Member::new(endpoint));
            member.weight = *weight;
            member.set_probed(is_probed, now);
            self.members.insert(id, member);
        }
        before.into_values().for_each(|member| member.leave(is_probed));
        self.follow_ejection(now);
        self.update_panic();
    }

    fn follow_ejection(&mut self, now: Instant) {
        let thresholds = self.settings.eject.map(|eject| eject.thresholds()).unwrap_or_default();
        self.members.values().for_each(|member| member.endpoint.outcomes.watch(thresholds));
        let back = match (self.settings.eject, &mut self.ejections) {
            (Some(eject), Some(ejections)) => {
                let mut back = ejections.set_settings(eject, now);
                back.extend(ejections.follow(self.members.keys().copied(), now));
                back
            }
            (Some(eject), none) => {
                none.insert(Ejections::new(eject, now)).follow(self.members.keys().copied(), now)
            }
            (None, some) => {
                *some = None;
                self.members.keys().copied().collect()
            }
        };
        back.into_iter().for_each(|id| self.back(id, "the pool or its settings have changed", now));
    }

    /// The pool has gone.
    pub(super) fn leave(self) {
        let is_probed = self.settings.health.is_some();
        self.members.into_values().for_each(|member| member.leave(is_probed));
        self.state.set_panic(false);
    }

    /// Takes in a probe's result; answers whether the endpoint is healthy, or `None` if it is not probed any more.
    pub(super) fn probed(
        &mut self,
        id: usize,
        started: Instant,
        finding: Finding,
        now: Instant,
    ) -> Option<bool> {
        let check = self.settings.health.as_ref()?;
        let thresholds =
            Thresholds { healthy_after: check.healthy_after, unhealthy_after: check.unhealthy_after };
        let member = self.members.get_mut(&id)?;
        let health = member.health.as_mut()?;
        let success = finding.result.is_success();
        self.probes[finding.result as usize] += 1;
        let lacks = finding.result == ProbeResult::NotMade;
        if lacks != std::mem::replace(&mut self.lacks, lacks) && lacks {
            let (pool, why) = (&self.settings.name, &finding.text);
            tracing::warn!(%pool, %why, "probes can't be made: what is known of the endpoints stands");
        }
        if lacks {
            return Some(health.is_healthy());
        }
        let change = health.record(success, thresholds);
        let is_healthy = health.is_healthy();
        if let Some(healthy) = change {
            if healthy {
                member.endpoint.became_available(now);
            }
            member.endpoint.occupancy.set_healthy(healthy);
            let (pool, endpoint, why) = (&self.settings.name, member.endpoint.address, &finding.text);
            match healthy {
                true => tracing::info!(%pool, %endpoint, %why, "an endpoint is healthy"),
                false => tracing::warn!(%pool, %endpoint, %why, "an endpoint is not healthy"),
            }
        }
        member.last = Some(Last { started, ended: now, finding });
        let readmits =
            success && self.ejections.as_mut().is_some_and(|out| out.readmit_seen_well(id, started, now));
        if readmits {
            self.back(id, "it has passed a probe", now);
        }
        if change.is_some() || readmits {
            self.update_panic();
        }
        Some(is_healthy)
    }

    /// Looks at what the traffic says, and at the time; answers when to look again.
    pub(super) fn judge(&mut self, now: Instant) -> Option<Instant> {
        if let Some(ejections) = &mut self.ejections {
            let due = ejections.end_due(now);
            let interval_ended = ejections.end_interval(now);
            due.into_iter().for_each(|id| self.back(id, "its time is over", now));
            let reached =
                |(id, member): (&usize, &Member)| Some((*id, member.endpoint.outcomes.take_reached()?));
            let reached: Vec<_> = self.members.iter().filter_map(reached).collect();
            reached.into_iter().for_each(|(id, reason)| self.eject(id, reason, now));
            if interval_ended {
                self.compare_rates(now);
            }
        }
        self.update_panic();
        self.ejections.as_ref().map(Ejections::next)
    }

    fn compare_rates(&mut self, now: Instant) {
        let Some(settings) = self.settings.eject else { return };
        let rate = |(id, member): (&usize, &mut Member)| {
            let rate = member.take_rate();
            (!std::mem::take(&mut member.is_back)).then_some((*id, rate))
        };
        let rates: Vec<_> = self.members.iter_mut().filter_map(rate).collect();
        for id in settings.success_rate_outliers(&rates) {
            self.eject(id, EjectionReason::SuccessRate, now);
        }
    }

    fn eject(&mut self, id: usize, reason: EjectionReason, now: Instant) {
        if self.ejections.as_ref().is_none_or(|ejections| ejections.ejected(id).is_some()) {
            return;
        }
        self.make_room(reason, now);
        let (Some(ejections), Some(member)) = (&mut self.ejections, self.members.get_mut(&id)) else {
            return;
        };
        let (pool, endpoint) = (&self.settings.name, member.endpoint.address);
        let Some(out) = ejections.eject(id, reason, now) else {
            self.spared += 1;
            tracing::debug!(%pool, %endpoint, reason = reason.name(), "an endpoint was not ejected: too many are");
            return;
        };
        let time = out.until - now;
        tracing::warn!(%pool, %endpoint, reason = reason.name(), ?time, "an endpoint is ejected: {}", reason.describe());
        self.ejected[reason as usize] += 1;
        member.good_when_ejected = member.good();
        member.endpoint.occupancy.set_ejected(true);
    }

    /// If as many are out as may be, lets one in for another that fails now: one that has answered well while it was out,
    /// since requests come to it that the others have failed. Without such a sign nothing says that it is the better one.
    fn make_room(&mut self, reason: EjectionReason, now: Instant) {
        let Some(ejections) = &mut self.ejections else { return };
        if reason == EjectionReason::SuccessRate {
            return;
        }
        let members = &self.members;
        let is_well =
            |id| members.get(&id).is_some_and(|member: &Member| member.good() > member.good_when_ejected);
        if let Some(id) = ejections.make_room(is_well, now) {
            self.back(id, "it has answered while others failed", now);
        }
    }

    /// An endpoint's ejection has ended.
    fn back(&mut self, id: usize, why: &str, now: Instant) {
        let Some(Member { endpoint, is_back, .. }) = self.members.get_mut(&id) else { return };
        if endpoint.occupancy.standing().is_ejected() {
            *is_back = true;
            endpoint.outcomes.forgive();
            endpoint.became_available(now);
            endpoint.occupancy.set_ejected(false);
            tracing::info!(pool = %self.settings.name, endpoint = %endpoint.address, %why, "an endpoint is back");
        }
    }

    fn update_panic(&mut self) {
        let (mut available, mut healthy) = (0, 0);
        for member in self.members.values().filter(|member| member.weight > 0) {
            let standing = member.endpoint.occupancy.standing();
            available += usize::from(standing.is_available());
            healthy += usize::from(standing.is_available_but_for_ejection());
        }
        let panics = outlier::panics(available, healthy, self.settings.panic_threshold);
        if panics == self.state.panics() {
            return;
        }
        self.state.set_panic(panics);
        self.panic_count += u64::from(panics);
        let pool = &self.settings.name;
        match panics {
            true => {
                tracing::warn!(%pool, available, healthy, "too few endpoints are left: ejections are ignored")
            }
            false => {
                tracing::info!(%pool, available, healthy, "enough endpoints are left: ejections hold again")
            }
        }
    }

    /// What is known of its endpoints, for a successor of this process.
    pub(super) fn memory(&self, now: Instant) -> BTreeMap<SocketAddr, OfEndpoint> {
        let memory = |(id, member): (&usize, &Member)| {
            let probed = member.health.zip(member.last.as_ref()).map(|(health, last)| OfProbes {
                health,
                ended_ago: now.saturating_duration_since(last.ended),
                took: last.ended.saturating_duration_since(last.started),
                result: last.finding.result,
                text: last.finding.text.clone(),
            });
            let ejection = self.ejections.as_ref().and_then(|ejections| ejections.memory(*id, now));
            let warming_for = member.endpoint.warmth.age(now);
            (member.endpoint.address, OfEndpoint { probed, ejection, warming_for })
        };
        self.members.iter().map(memory).collect()
    }

    /// Goes on from what a predecessor of this process knew, but for endpoints that this one has probed itself.
    pub(super) fn recall(&mut self, memory: &BTreeMap<SocketAddr, OfEndpoint>, now: Instant) {
        for (id, member) in &mut self.members {
            let Some(of) = memory.get(&member.endpoint.address).filter(|_| member.last.is_none()) else {
                continue;
            };
            let Endpoint { occupancy, .. } = &*member.endpoint;
            if let (Some(health), Some(probed)) = (&mut member.health, &of.probed) {
                *health = probed.health;
                let ended = ago(now, probed.ended_ago);
                let finding = Finding { result: probed.result, text: probed.text.clone() };
                member.last = Some(Last { started: ago(ended, probed.took), ended, finding });
                occupancy.set_healthy(health.is_healthy());
            }
            if let Some(time) = of.warming_for {
                member.endpoint.became_available(ago(now, time));
            }
            if let (Some(ejections), Some(ejection)) = (&mut self.ejections, &of.ejection) {
                occupancy.set_ejected(ejections.recall(*id, ejection, now));
            }
        }
        self.update_panic();
    }

    /// The endpoints that are probed and have no result yet.
    pub(super) fn unknown(&self) -> impl Iterator<Item = usize> {
        self.members.iter().filter(|(_, member)| member.is_unseen()).map(|(id, _)| *id)
    }

    pub(super) fn report(&self) -> PoolReport {
        PoolReport {
            name: self.settings.name.clone(),
            panics: self.state.panics(),
            panic_count: self.panic_count,
            probes: self.probes,
            ejections: self.ejected,
            spared: self.spared,
            is_probed: self.settings.health.is_some(),
        }
    }

    pub(super) fn reports(
        &self,
        time: super::board::Moment,
    ) -> impl Iterator<Item = (SocketAddr, EndpointReport)> {
        self.members.iter().map(move |(id, member)| {
            let ejections = self.ejections.as_ref();
            let ejected = ejections.and_then(|ejections| ejections.ejected(*id)).map(|out| EjectedReport {
                since: time.of(out.since),
                until: time.of(out.until),
                reason: out.reason,
            });
            let probed = member.health.map(|health| Probed {
                verdict: health.verdict(),
                streak: health.streak(),
                last: member.last.as_ref().map(|last| LastProbe {
                    at: time.of(last.ended),
                    took: last.ended.saturating_duration_since(last.started),
                    result: last.finding.result,
                    text: last.finding.text.clone(),
                }),
            });
            let ejections = ejections.map_or(0, |ejections| ejections.times(*id));
            (member.endpoint.address, EndpointReport { probed, ejected, ejections })
        })
    }
}

impl Member {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        let endpoint = Arc::clone(endpoint);
        let counted = Rate::default();
        let mut member = Self {
            endpoint,
            weight: 0,
            health: None,
            last: None,
            counted,
            is_back: false,
            good_when_ejected: 0,
        };
        member.take_rate();
        member
    }

    fn is_unseen(&self) -> bool {
        self.health.is_some() && self.last.is_none()
    }

    /// Says whether the pool is probed.
    fn set_probed(&mut self, is_probed: bool, now: Instant) {
        let occupancy = &self.endpoint.occupancy;
        if is_probed && self.health.is_none() {
            self.health = Some(Health::new(occupancy.standing().is_healthy()));
        } else if !is_probed {
            (self.health, self.last) = (None, None);
            if !occupancy.standing().is_healthy() {
                self.endpoint.became_available(now);
                occupancy.set_healthy(true);
            }
        }
    }

    /// The endpoint is not in the pool any more. If it comes back to a pool that is probed, it is a new one.
    fn leave(self, is_probed: bool) {
        let Endpoint { occupancy, outcomes, .. } = &*self.endpoint;
        outcomes.watch(Streaks::default());
        outcomes.forgive();
        occupancy.set_ejected(false);
        if is_probed {
            occupancy.set_healthy(false);
        }
    }

    /// How many requests it has answered well. (An attempt that failed and was repeated elsewhere is a failure, but no
    /// request that ended here.)
    fn good(&self) -> u64 {
        self.endpoint.series.successes()
    }

    /// What the endpoint has done since this was last called.
    fn take_rate(&mut self) -> Rate {
        let counted = Rate { good: self.good(), bad: self.endpoint.outcomes.failures() };
        let before = std::mem::replace(&mut self.counted, counted);
        Rate { good: counted.good.saturating_sub(before.good), bad: counted.bad.saturating_sub(before.bad) }
    }
}
