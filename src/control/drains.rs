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

    /// The declared endpoints whose drain has not ended: something is in flight, and not all deadlines are over.
    pub(super) fn unended(&self) -> HashSet<(&Name, &EndpointAddress)> {
        let now = Instant::now();
        let unended = self.followed.values().filter(|followed| {
            !followed.shown.is_gone && !followed.is_settled() && !followed.course.is_over(now)
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
mod tests {
    use super::*;
    use crate::{
        config::{Config, PinTo, Sticky},
        model::{
            live_state::{Drain, LivePool, LiveState, PinsOnDrain},
            resolved::{Resolved, Target},
        },
        routing::{build, table::Table},
        telemetry::registry::Registry as Series,
        upstream::{occupancy::Claim, registry::Registry},
    };

    const FILE: &str = r#"
[[listener]]
name = "web"
listen = "127.0.0.1:8080"

[pool.blue]
endpoints = ["127.0.0.1:1", "127.0.0.1:2"]

[split.shop]
weights = { blue = 1 }

[[route]]
name = "shop"
split = "shop"
"#;

    /// A live state and what is carried out of it.
    struct Bench {
        config: Config,
        state: LiveState,
        resolved: Resolved,
        registry: Registry,
        series: Series,
        table: Option<Table>,
        drains: Drains,
        /// What the wall clock shows.
        wall: SystemTime,
    }

    impl Bench {
        fn new(sticky: Option<PinTo>) -> Self {
            let (mut config, _) = crate::config::parse("test.toml", FILE).expect("the sample is good");
            let sticky = sticky.map(|to| Sticky { to, signed: false, ..Sticky::named("sb") });
            Arc::make_mut(&mut config.splits[0]).sticky = sticky;
            let state = config.declared_state(SystemTime::UNIX_EPOCH);
            let (registry, series, drains) = (Registry::default(), Series::default(), Drains::default());
            let resolved = Resolved::default();
            let wall = SystemTime::UNIX_EPOCH;
            let mut bench = Self { config, state, resolved, registry, series, table: None, drains, wall };
            bench.carry_out();
            bench
        }

        fn carry_out(&mut self) {
            self.publish(false);
        }

        /// A name stands for these ports of this machine from now on.
        fn resolve(&mut self, name: &str, ports: &[u16]) {
            let target = |port: &u16| Target { address: ([127, 0, 0, 1], *port).into(), weight: 1 };
            self.resolved.set(name.parse().expect("a name"), ports.iter().map(target).collect());
            self.publish(true);
        }

        fn publish(&mut self, is_resolved_anew: bool) {
            let Self { config, state, resolved, registry, series, table, drains, wall } = self;
            let next = build::build(1, config, state, resolved, registry, series, table.as_ref());
            let plan = drains.plan(&Situation {
                config,
                state,
                resolved,
                table: &next,
                previous: table.as_ref(),
                is_resolved_anew,
                at: *wall,
            });
            plan.welcome();
            drains.carry_out(plan);
            *table = Some(next);
        }

        fn live(&mut self) -> &mut LivePool {
            self.state.pools.get_mut("blue").expect("it is declared")
        }

        fn endpoint(&self, place: usize) -> Arc<Endpoint> {
            let table = self.table.as_ref().expect("it was compiled");
            Arc::clone(&table.pools[0].endpoints[place].0)
        }

        /// Lets time pass, and does what is due.
        async fn pass(&mut self, seconds: u64) {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            self.drains.tick();
        }
    }

    fn drain(deadline: u64, pins: PinsOnDrain) -> Option<Drain> {
        let deadline = Some(Duration::from_secs(deadline));
        Some(Drain { since: SystemTime::UNIX_EPOCH, deadline, stream_deadline: deadline, pins })
    }

    #[tokio::test(start_paused = true)]
    async fn kept_sessions_go_on_until_the_deadline_and_then_nobody_does() {
        let mut bench = Bench::new(Some(PinTo::Pool));
        bench.live().drain = drain(600, PinsOnDrain::Keep);
        bench.carry_out();
        let endpoint = bench.endpoint(0);
        let standing = || endpoint.occupancy.standing();
        assert!(standing().takes_pinned() && !standing().is_available());
        bench.pass(599).await;
        assert!(standing().takes_pinned() && bench.drains.is_busy());
        assert_eq!(endpoint.occupancy.claim(u64::MAX), Claim::Granted);
        bench.pass(2).await;
        assert!(standing().is_draining() && !endpoint.drain.is_over(), "what they have begun may end");
        bench.pass(30).await;
        assert!(endpoint.drain.is_over());
        endpoint.occupancy.release();
        assert!(!bench.drains.is_busy());
        bench.live().drain = None;
        bench.carry_out();
        assert!(standing().is_available() && !endpoint.drain.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_can_be_pinned_nobody_is_kept() {
        // Pins to the pool keep nobody on an endpoint of it.
        let mut bench = Bench::new(Some(PinTo::Pool));
        bench.live().endpoints[0].drain = drain(600, PinsOnDrain::Keep);
        bench.carry_out();
        assert!(bench.endpoint(0).occupancy.is_draining() && bench.endpoint(1).occupancy.is_available());
        let mut bench = Bench::new(None);
        bench.live().drain = drain(600, PinsOnDrain::Keep);
        bench.carry_out();
        assert!(bench.endpoint(0).occupancy.is_draining() && bench.endpoint(1).occupancy.is_draining());
        let mut bench = Bench::new(Some(PinTo::Endpoint));
        bench.live().endpoints[0].drain = drain(600, PinsOnDrain::Keep);
        bench.carry_out();
        assert!(bench.endpoint(0).occupancy.standing().takes_pinned());
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoints_own_drain_outlives_its_pools() {
        let mut bench = Bench::new(None);
        bench.live().endpoints[0].drain = drain(30, PinsOnDrain::Move);
        bench.live().drain = drain(600, PinsOnDrain::Keep);
        bench.carry_out();
        bench.live().drain = None;
        bench.carry_out();
        assert!(bench.endpoint(0).occupancy.is_draining() && bench.endpoint(1).occupancy.is_available());
    }

    #[tokio::test(start_paused = true)]
    async fn new_terms_move_the_deadlines_and_the_same_ones_do_not() {
        let mut bench = Bench::new(None);
        bench.live().endpoints[0].drain = drain(30, PinsOnDrain::Move);
        bench.carry_out();
        let endpoint = bench.endpoint(0);
        assert_eq!(endpoint.occupancy.in_flight(), 0);
        bench.pass(29).await;
        bench.carry_out();
        bench.pass(2).await;
        assert!(endpoint.drain.is_over(), "carried out again, it is still the same drain");
        bench.live().endpoints[0].drain = drain(90, PinsOnDrain::Move);
        bench.carry_out();
        assert!(!endpoint.drain.is_over());
    }

    /// The clock is set a day ahead or back while an endpoint drains, and then its pool is drained, too.
    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_is_set_moves_no_drain() {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let begun = SystemTime::UNIX_EPOCH + 10 * DAY;
        for then in [begun - DAY, begun, begun + DAY] {
            for (of_pool, over_after) in [(600, 60), (20, 30)] {
                let mut bench = Bench::new(None);
                bench.wall = begun;
                bench.live().endpoints[0].drain =
                    drain(60, PinsOnDrain::Move).map(|drain| Drain { since: begun, ..drain });
                bench.carry_out();
                let endpoint = bench.endpoint(0);
                assert_eq!(endpoint.occupancy.in_flight(), 0);
                bench.pass(10).await;
                bench.wall = then;
                bench.live().drain = drain(of_pool, PinsOnDrain::Move)
                    .map(|drain| Drain { since: then + Duration::from_millis(1), ..drain });
                bench.carry_out();
                bench.pass(over_after - 11).await;
                let shown = bench.drains.shown()[&endpoint.id].clone();
                assert!(!endpoint.drain.is_over(), "the sooner of both counts, from its own beginning");
                assert_eq!(shown.left(), Some(Duration::from_secs(1)), "{of_pool}");
                bench.pass(1).await;
                assert!(endpoint.drain.is_over());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_left_the_table_drains_until_it_is_idle_and_comes_back_open() {
        let mut bench = Bench::new(None);
        let endpoint = bench.endpoint(0);
        assert_eq!(endpoint.occupancy.claim(u64::MAX), Claim::Granted);
        let left = bench.live().endpoints.remove(0);
        bench.carry_out();
        assert!(endpoint.occupancy.is_draining() && bench.drains.is_busy());
        assert!(bench.drains.shown()[&endpoint.id].is_gone);
        bench.pass(31).await;
        assert!(endpoint.drain.is_over(), "by its pool's deadline");
        endpoint.occupancy.release();
        assert!(bench.drains.tick() && !bench.drains.is_busy() && bench.drains.shown().is_empty());
        bench.live().endpoints.push(left);
        bench.carry_out();
        assert!(endpoint.occupancy.is_available());
        assert!(Arc::ptr_eq(&endpoint, &bench.endpoint(1)), "it is the same, with its counts");
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_names_have_left_is_never_cut_and_what_was_drained_before_is() {
        const WEEK: u64 = 7 * 24 * 60 * 60;
        let mut bench = Bench::new(None);
        bench.live().endpoints[0].address = "app.test:80".parse().expect("a name");
        bench.resolve("app.test:80", &[7, 8]);
        let [first, second] = [7, 8].map(|port| {
            let pools = &bench.table.as_ref().expect("it was compiled").pools;
            let found = pools[0].endpoints.iter().find(|(endpoint, _)| endpoint.address.port() == port);
            Arc::clone(&found.expect("the name stands for it").0)
        });
        assert_eq!(first.occupancy.claim(u64::MAX), Claim::Granted);
        // It answers with a part of its addresses each time.
        for ports in [[8], [7], [8]] {
            bench.resolve("app.test:80", &ports);
            assert_eq!(first.occupancy.is_draining(), ports == [8]);
            bench.pass(60).await;
            assert!(!first.drain.is_over(), "a long answer goes on");
        }
        // Neither does another change of the live state cut it, nor time.
        bench.live().endpoints[1].weight = 3;
        bench.carry_out();
        bench.pass(WEEK).await;
        let shown = bench.drains.shown()[&first.id].clone();
        assert!(shown.is_gone && shown.schedule.cuts.is_none() && shown.schedule.streams.is_none());
        assert!(!first.drain.is_over() && first.occupancy.in_flight() == 1);
        // Who drains the name says when all is to be over, also of an address that leaves after that.
        assert_eq!(second.occupancy.claim(u64::MAX), Claim::Granted);
        bench.live().endpoints[0].drain = drain(30, PinsOnDrain::Move);
        bench.carry_out();
        bench.resolve("app.test:80", &[9]);
        bench.pass(31).await;
        assert!(second.drain.is_over() && !first.drain.is_over());
        first.occupancy.release();
        second.occupancy.release();
        bench.drains.tick();
        assert!(bench.drains.shown().values().all(|shown| !shown.is_gone));
    }
}
