//! Health, ejection, panic and slow start over many lives of a pool, in time that is made up: endpoints sicken, die,
//! recover and drain as a seed says, and what must always hold is looked at after every event.
//!
//! The code under test is that of the product, from the board that decides to the selection of requests; only the
//! clock, the probes' answers and the applications are the test's.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use switchback::{
    config,
    control::controller::Controller,
    health::{
        board::{Health, PoolTarget},
        probe::{Finding, ProbeResult},
    },
    model::slow_start::SlowStart,
    routing::{
        request_view::{AnnouncedBody, RequestView},
        select::{Chooser, Selection, select},
        table::{Pool, Table},
    },
    telemetry::registry::{LocalSeries, Registry},
    upstream::{endpoint::Endpoint, local::Upstreams},
};

const SEEDS: u64 = 1_000;
/// How long there is trouble in a life; afterwards everybody is well.
const TROUBLE: Duration = Duration::from_secs(90);

/// How an application does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Well,
    /// It passes its probes, but answers 500.
    Errs,
    /// It takes no connections.
    Dead,
}

/// One pool's life.
struct Life {
    seed: u64,
    rng: fastrand::Rng,
    now: Instant,
    table: Arc<Table>,
    health: Health,
    chooser: Chooser,
    upstreams: Upstreams,
    series: LocalSeries,
    members: Vec<Member>,
    judge_at: Instant,
    panic_threshold: f64,
    most_out: usize,
    max_time: Duration,
    cold: Shares,
}

/// The requests that cold endpoints were due by their factors, how far that may be off, and those that they got.
#[derive(Debug, Clone, Copy, Default)]
struct Shares {
    due: f64,
    variance: f64,
    got: u64,
}

/// What the test itself knows of an endpoint.
#[derive(Debug, Clone, Copy)]
struct Member {
    condition: Condition,
    probe_at: Option<Instant>,
    has_passed: bool,
    out_since: Option<Instant>,
    was_out: bool,
    /// Since when it is available; `None` if it is not.
    available: Option<Since>,
}

/// Since when an endpoint is available.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Since {
    /// From the start, so that it is not warmed.
    Ever,
    Moment(Instant),
}

struct Get;

impl Life {
    fn begin(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let endpoints = rng.usize(1..=12);
        let (share, threshold) = (f64::from(rng.u32(0..=10)) / 10.0, f64::from(rng.u32(0..=4)) / 4.0);
        let (base, times) = (rng.u64(1..=8), rng.u64(1..=6));
        let probed = rng.bool();
        let slow = slow_start(&mut rng);
        let listed: Vec<_> = (1..=endpoints).map(|place| format!("\"127.0.0.1:{place}\"")).collect();
        let health = if probed { "health = { tcp = true, interval = \"2s\", timeout = \"1s\" }" } else { "" };
        let text = format!(
            "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n[pool.app]\nendpoints = [{}]\n{health}\n\
             panic = {threshold}\neject = {{ base_time = \"{base}s\", max_time = \"{}s\", max_ejected = {share}, \
             interval = \"5s\", success_rate_requests = 20 }}\n{slow}[[route]]\nname = \"all\"\npool = \"app\"\n",
            listed.join(", "),
            base * times
        );
        let (config, _) =
            config::parse("simulated", &text).map_err(|errors| errors.render()).expect("it is good");
        let series = Arc::new(Registry::default());
        let (_, _, live) = Controller::new(Arc::new(config), Arc::clone(&series));
        let (now, table) = (Instant::now(), live.table());
        let health = Health::new(&targets(&table), now);
        let member = |_| Member {
            condition: [Condition::Well, Condition::Well, Condition::Errs, Condition::Dead][rng.usize(0..4)],
            probe_at: probed.then_some(now),
            has_passed: !probed,
            out_since: None,
            was_out: false,
            available: (!probed).then_some(Since::Ever),
        };
        let members = (0..endpoints).map(member).collect();
        Self {
            seed,
            now,
            table,
            health,
            chooser: Chooser::new(seed),
            upstreams: Upstreams::default(),
            series: LocalSeries::new(series),
            members,
            judge_at: now,
            panic_threshold: threshold,
            most_out: ((endpoints as f64 * share) as usize).max(1),
            max_time: Duration::from_secs(base * times),
            cold: Shares::default(),
            rng,
        }
    }

    fn pool(&self) -> &Pool {
        &self.table.pools[0]
    }

    /// Lives until `end`; in trouble or in peace.
    fn live(&mut self, end: Instant, trouble: bool) {
        while self.now < end {
            let next_request = self.now + Duration::from_millis(self.rng.u64(1..400));
            let probes = self.members.iter().filter_map(|member| member.probe_at);
            self.now = probes.fold(self.judge_at.min(next_request), Instant::min).max(self.now);
            self.probe();
            if self.judge_at <= self.now {
                self.judge();
                self.check();
            }
            if self.now == next_request {
                if trouble && self.rng.u8(0..20) == 0 {
                    self.meddle();
                }
                let requests = self.rng.usize(1..12);
                (0..requests).for_each(|_| self.request());
                // The alarm is looked at at once.
                self.judge();
            }
            self.check();
        }
    }

    /// Makes the probes that are due.
    fn probe(&mut self) {
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            if member.probe_at.is_none_or(|at| at > self.now) {
                continue;
            }
            let passes = member.condition != Condition::Dead;
            member.has_passed |= passes;
            let result = if passes { ProbeResult::Success } else { ProbeResult::Unreachable };
            let finding = Finding { result, text: String::new() };
            let pool = &self.table.pools[0];
            let id = pool.endpoints[place].0.id;
            let healthy = self.health.probed(&pool.settings.name, id, self.now, finding, self.now);
            let interval = if healthy.expect("it is probed") { 2_000 } else { 1_000 };
            let jitter = self.rng.u64(900..=1100);
            self.members[place].probe_at = Some(self.now + Duration::from_millis(interval * jitter / 1000));
            self.check();
        }
    }

    fn judge(&mut self) {
        self.judge_at = self.health.judge(self.now);
        assert!(self.judge_at > self.now, "seed {}: it would be looked at without end", self.seed);
    }

    /// Somebody sickens, dies, recovers, or is drained or undrained by hand.
    fn meddle(&mut self) {
        let place = self.rng.usize(0..self.members.len());
        let endpoint = &self.table.pools[0].endpoints[place].0;
        match self.rng.u8(0..6) {
            0 => drop(endpoint.occupancy.drain()),
            1 | 2 => undrain(endpoint, self.now),
            3 => self.members[place].condition = Condition::Well,
            4 => self.members[place].condition = Condition::Errs,
            _ => self.members[place].condition = Condition::Dead,
        }
    }

    /// A request is selected and answered as its application does.
    fn request(&mut self) {
        self.chooser.set_time(self.now);
        let due = self.due_to_the_cold();
        let selection = select(&self.table, &mut self.chooser, &mut self.upstreams, &mut self.series, &Get);
        let pool = &self.table.pools[0];
        let of =
            |is: fn(&Pool, usize) -> bool| (0..self.members.len()).filter(|place| is(pool, *place)).count();
        let available = of(|pool, place| pool.endpoints[place].0.occupancy.is_available());
        let healthy = of(|pool, place| standing(pool, place).is_available_but_for_ejection());
        let Selection::Forward { lease, .. } = selection else {
            assert_eq!(available, 0, "seed {}: {available} were available", self.seed);
            assert!(
                healthy == 0 || self.panic_threshold == 0.0,
                "seed {}: no panic emptied the pool",
                self.seed
            );
            return;
        };
        let place =
            pool.endpoints.iter().position(|(endpoint, _)| endpoint.id == lease.id).expect("one of it");
        if let Some(due) = due {
            self.cold.due += due;
            self.cold.variance += due * (1.0 - due);
            self.cold.got += u64::from(self.factor(place) < 1.0);
        }
        let got = standing(pool, place);
        assert!(self.members[place].has_passed, "seed {}: it is new and has passed no probe", self.seed);
        assert!(got.is_healthy() && !got.is_draining(), "seed {}: {got:?}", self.seed);
        let may_ignore = self.pool().state.panics() || (available == 0 && self.panic_threshold > 0.0);
        assert!(!got.is_ejected() || may_ignore, "seed {}: an ejected one without panic", self.seed);
        match self.members[place].condition {
            Condition::Well => {
                lease.outcomes.answered(200);
                lease.traffic.by_class[1].add(1);
            }
            Condition::Errs => {
                lease.outcomes.answered(500);
                lease.traffic.by_class[4].add(1);
            }
            Condition::Dead => lease.outcomes.failed(),
        }
    }

    /// The part of its share that an endpoint has now.
    fn factor(&self, place: usize) -> f64 {
        let slow = self.pool().settings.slow_start.as_ref();
        slow.map_or(1.0, |slow| self.pool().endpoints[place].0.warmth.factor(slow, self.now))
    }

    /// The probability that a request goes to a cold endpoint; `None` if there is none, or if ejections are ignored.
    /// Nothing is in flight, so that a request is drawn by the factors alone.
    fn due_to_the_cold(&self) -> Option<f64> {
        let pool = self.pool();
        let is_available = |place: &usize| pool.endpoints[*place].0.occupancy.is_available();
        let factors: Vec<_> =
            (0..self.members.len()).filter(is_available).map(|place| self.factor(place)).collect();
        let cold: f64 = factors.iter().filter(|factor| **factor < 1.0).sum();
        (cold > 0.0 && !pool.state.panics()).then(|| cold / factors.iter().sum::<f64>())
    }

    /// Who has become available begins with the least share, and has from then on what the form says, to the millisecond.
    fn check_warmth(&mut self) {
        let (seed, now) = (self.seed, self.now);
        for place in 0..self.members.len() {
            let is_available = self.pool().endpoints[place].0.occupancy.is_available();
            let before = self.members[place].available;
            let since = is_available.then(|| before.unwrap_or(Since::Moment(now)));
            self.members[place].available = since;
            let (Some(since), Some(slow)) = (since, self.pool().settings.slow_start) else { continue };
            let factor = self.factor(place);
            let millisecond = Duration::from_millis(1);
            let expected = match since {
                Since::Ever => 1.0..=1.0,
                Since::Moment(since) => {
                    let age = now - since;
                    slow.factor(age.saturating_sub(millisecond))..=slow.factor(age + millisecond)
                }
            };
            assert!(expected.contains(&factor), "seed {seed}: {factor} of {expected:?}, {since:?}");
        }
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        self.check_warmth();
        let (seed, now) = (self.seed, self.now);
        let pool = &self.table.pools[0];
        let mut out = 0;
        for (place, member) in self.members.iter_mut().enumerate() {
            let is_out = standing(pool, place).is_ejected();
            out += usize::from(is_out);
            member.was_out |= is_out;
            member.out_since = is_out.then(|| member.out_since.unwrap_or(now));
            if let Some(since) = member.out_since.filter(|_| self.judge_at > now) {
                assert!(now - since < self.max_time, "seed {seed}: out for {:?}", now - since);
            }
        }
        assert!(out <= self.most_out, "seed {seed}: {out} are out");
    }

    /// What must hold when nobody has meddled since the last look.
    fn check_panic(&self) {
        let pool = self.pool();
        let count = |is: fn(&Pool, usize) -> bool| {
            (0..self.members.len()).filter(|place| is(pool, *place)).count() as f64
        };
        let available = count(|pool, place| pool.endpoints[place].0.occupancy.is_available());
        let healthy = count(|pool, place| standing(pool, place).is_available_but_for_ejection());
        let due = healthy > 0.0 && available / healthy < self.panic_threshold;
        assert_eq!(pool.state.panics(), due, "seed {}: {available} of {healthy}", self.seed);
    }
}

/// Keys of a pool that warms its endpoints, or none.
fn slow_start(rng: &mut fastrand::Rng) -> String {
    if rng.bool() {
        return String::new();
    }
    let (window, aggression) = (rng.u64(1..=30), f64::from(rng.u32(5..=30)) / 10.0);
    let least = f64::from(rng.u32(1..=10)) / 10.0;
    format!("slow_start = {{ window = \"{window}s\", aggression = {aggression}, min_weight = {least} }}\n")
}

/// Lets an endpoint take requests again, as the end of a drain does.
fn undrain(endpoint: &Endpoint, now: Instant) {
    if !endpoint.occupancy.standing().takes_new() {
        endpoint.became_available(now);
    }
    endpoint.occupancy.undrain();
}

fn standing(pool: &Pool, place: usize) -> switchback::upstream::occupancy::Standing {
    pool.endpoints[place].0.occupancy.standing()
}

fn targets(table: &Table) -> Vec<PoolTarget> {
    let target = |pool: &Arc<Pool>| PoolTarget {
        settings: Arc::clone(&pool.settings),
        state: Arc::clone(&pool.state),
        way: pool.way.clone(),
        endpoints: pool.endpoints.clone(),
    };
    table.pools.iter().map(target).collect()
}

impl RequestView for Get {
    fn method(&self) -> &[u8] {
        b"GET"
    }

    fn scheme(&self) -> &str {
        "http"
    }

    fn host(&self) -> &str {
        "a.example"
    }

    fn path(&self) -> &[u8] {
        b"/"
    }

    fn query(&self) -> Option<&[u8]> {
        None
    }

    fn header(&self, _: &str, _: usize) -> Option<&[u8]> {
        None
    }

    fn client(&self) -> IpAddr {
        [127, 0, 0, 1].into()
    }

    fn body(&self) -> AnnouncedBody {
        AnnouncedBody::None
    }

    fn asks_to_upgrade(&self) -> bool {
        false
    }
}

#[test]
fn in_a_thousand_lives_the_rules_hold_and_who_is_well_comes_back() {
    // Each life has the seed of its number, so that a failure names what to repeat.
    let mut seen = BTreeSet::new();
    let mut cold = Shares::default();
    for seed in 0..SEEDS {
        let mut life = Life::begin(seed);
        let mut end = life.now;
        for _ in 0..18 {
            end += TROUBLE / 18;
            life.live(end, true);
            life.judge();
            life.check_panic();
            seen.insert(if life.pool().state.panics() { "panic" } else { "calm" });
        }
        if life.members.iter().any(|member| member.was_out) {
            seen.insert("ejection");
        }
        for (member, (endpoint, _)) in life.members.iter_mut().zip(&life.table.pools[0].endpoints) {
            member.condition = Condition::Well;
            undrain(endpoint, life.now);
        }
        life.check();
        // The last streak of errors may still cost an ejection; then there are two probes, and the interval.
        let end = life.now + 2 * life.max_time + Duration::from_secs(20);
        life.live(end, false);
        let all_back = life.pool().endpoints.iter().all(|(endpoint, _)| endpoint.occupancy.is_available());
        assert!(all_back, "seed {seed}: {:?}", life.pool().endpoints);
        life.check_panic();
        assert!(!life.pool().state.panics(), "seed {seed}");
        let Shares { due, variance, got } = life.cold;
        (cold.due, cold.variance, cold.got) = (cold.due + due, cold.variance + variance, cold.got + got);
    }
    // Over all lives endpoints that are being warmed get what they are due, within four standard deviations.
    let stray = (cold.got as f64 - cold.due).abs() / cold.variance.sqrt();
    assert!(cold.got > 10_000 && stray < 4.0, "{cold:?}: off by {stray} deviations");
    assert_eq!(seen, BTreeSet::from(["calm", "ejection", "panic"]), "the lives are not eventful enough");
}

#[test]
fn a_warmed_endpoint_never_gets_less_than_before() {
    for seed in 0..SEEDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let window = Duration::from_millis(rng.u64(1..600_000));
        let slow = SlowStart { window, aggression: 0.1 + 9.9 * rng.f64(), min_weight: rng.f64() };
        let mut before = slow.min_weight;
        for step in 0..=200 {
            let factor = slow.factor(window * step / 190);
            assert!((before..=1.0).contains(&factor), "seed {seed}, step {step}: {factor} after {before}");
            before = factor;
        }
        assert_eq!(before, 1.0, "seed {seed}");
    }
}
