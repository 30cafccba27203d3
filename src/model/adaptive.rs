//! A limit of requests in flight that finds itself: a gradient controller.
//!
//! Invariant: the limit never leaves its bounds. Time, samples and the seed are passed in, so that a simulation is
//! this machine and no other.

use std::time::{Duration, Instant};

/// A limit of requests in flight that follows the latency: see `docs/limits.md`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    /// The least that the limit becomes.
    pub min: u32,
    /// The most that the limit becomes.
    pub max: u32,
    /// How much slower than at its best the pool may become before the limit falls, as a factor of at least 1.
    pub tolerance: f64,
}

/// How one attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the request was sent.
    pub began: Instant,
    /// When its response's head was there, or it was given up.
    pub ended: Instant,
    /// Requests in flight at its end, itself included, and streams aside.
    pub in_flight: u64,
}

/// The controller. After each window of samples
///
/// ```text
/// gradient = tolerance x best / median         within 0.5 and 2
/// limit    = gradient x limit + sqrt(limit)    within min and max
/// ```
///
/// where `median` is the window's latency and `best` that of an idle pool. This is the gradient controller of Envoy's
/// adaptive concurrency filter, with its buffer written as a tolerance. `best` is measured as there: for a few
/// requests at a time, with the limit at its least. What is added: a window in which no more than the least were in
/// flight is a part of such a measurement, so that only pools which are always busy are held back for one; and, as
/// Netflix' Gradient2 does, the limit stays while less than half of it is used, since it was not what mattered then.
#[derive(Debug)]
pub struct Gradient {
    settings: Adaptive,
    limit: f64,
    best: Option<Duration>,
    stage: Stage,
    window: Window,
    rng: fastrand::Rng,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// The limit is at its least; requests that were sent since then show the best latency.
    Measuring { since: Option<Instant> },
    /// The limit follows the latency until it is time to measure again.
    Following { until: Instant },
}

#[derive(Debug)]
struct Window {
    began: Option<Instant>,
    latencies: Vec<Duration>,
    most_in_flight: u64,
}

/// The least length of a window: ten adjustments a second.
const WINDOW: Duration = Duration::from_millis(100);
/// The fewest samples of a window: a median of fewer is noise.
const FEWEST: usize = 10;
/// The most samples that a window keeps. Those after it, in the same tenth of a second, say nothing new.
const MOST: usize = 256;
/// The samples that a measurement takes: if latencies are distributed exponentially, their median is then within a
/// tenth or two of the true one.
const MEASURED: usize = 100;
/// How much a calm window counts in what is known of the best latency: it has a tenth of a measurement's samples.
const CALM: f64 = 0.1;
/// A measurement of a pool with little to do ends after this time, too.
const MEASURING: Duration = Duration::from_secs(1);
/// A measurement ends after this time whatever has come: what was in flight before it may last, and may leave no room
/// for a request within it.
const LONGEST: Duration = Duration::from_secs(5);
/// The time between two measurements; each is moved by up to a tenth, so that instances don't measure all at once.
const BETWEEN: Duration = Duration::from_secs(60);

impl Gradient {
    /// A controller that has seen nothing: it begins with a measurement.
    pub fn new(settings: Adaptive, seed: u64) -> Self {
        Self {
            settings,
            limit: f64::from(settings.min),
            best: None,
            stage: Stage::Measuring { since: None },
            window: Window { began: None, latencies: Vec::with_capacity(MOST), most_in_flight: 0 },
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Follows other settings from now on, with what it has learnt: the best latency is the pool's, whatever the bounds.
    pub fn set(&mut self, settings: Adaptive) {
        self.settings = settings;
        self.limit = self.limit.clamp(f64::from(settings.min), f64::from(settings.max));
    }

    /// How many requests may be in flight now.
    pub fn limit(&self) -> u64 {
        match self.stage {
            Stage::Measuring { .. } => u64::from(self.settings.min),
            Stage::Following { .. } => self.limit as u64,
        }
    }

    /// Takes in a sample; answers whether the limit may be another now.
    pub fn observe(&mut self, sample: Sample) -> bool {
        let now = sample.ended;
        if let Stage::Measuring { since } = &mut self.stage
            && sample.began < *since.get_or_insert(sample.began)
        {
            // It was sent when more were in flight.
            return self.look(now);
        }
        let began = *self.window.began.get_or_insert(now);
        self.window.add(sample);
        let (age, count) = (now.saturating_duration_since(began), self.window.latencies.len());
        match self.stage {
            Stage::Measuring { .. } if count >= MEASURED || (age >= MEASURING && count >= FEWEST) => {
                self.best = Some(self.window.median());
                self.follow(now);
            }
            Stage::Following { until } if age >= WINDOW && count >= FEWEST => self.adjust(now, until),
            _ => return self.look(now),
        }
        self.window.clear();
        true
    }

    /// Looks at the time, which ends a measurement in which too little is heard; answers whether the limit may be
    /// another now.
    pub fn look(&mut self, now: Instant) -> bool {
        let Stage::Measuring { since } = &mut self.stage else { return false };
        if now.saturating_duration_since(*since.get_or_insert(now)) < LONGEST {
            return false;
        }
        if self.window.latencies.len() >= FEWEST {
            self.best = Some(self.window.median());
        }
        self.follow(now);
        self.window.clear();
        true
    }

    /// A measurement has ended: the limit is what it was before.
    fn follow(&mut self, now: Instant) {
        let jitter = BETWEEN.mul_f64(0.2 * self.rng.f64() - 0.1 + 1.0);
        self.stage = Stage::Following { until: now + jitter };
    }

    /// A window has ended.
    fn adjust(&mut self, now: Instant, until: Instant) {
        let median = self.window.median();
        let in_use = self.window.most_in_flight;
        if in_use <= u64::from(self.settings.min) {
            let best = self.best.map_or(median, |best| best.mul_f64(1.0 - CALM) + median.mul_f64(CALM));
            self.best = Some(best);
            self.follow(now);
        } else if now >= until {
            self.stage = Stage::Measuring { since: Some(now) };
            return;
        }
        let best = self.best.get_or_insert(median).as_secs_f64();
        let gradient = self.settings.tolerance * best / median.as_secs_f64().max(f64::MIN_POSITIVE);
        if in_use as f64 >= self.limit / 2.0 {
            let next = gradient.clamp(0.5, 2.0) * self.limit + self.limit.sqrt();
            self.limit = next.clamp(f64::from(self.settings.min), f64::from(self.settings.max));
        }
    }
}

impl Window {
    fn add(&mut self, sample: Sample) {
        self.most_in_flight = self.most_in_flight.max(sample.in_flight);
        if self.latencies.len() < MOST {
            self.latencies.push(sample.ended.saturating_duration_since(sample.began));
        }
    }

    fn median(&mut self) -> Duration {
        let middle = self.latencies.len() / 2;
        *self.latencies.select_nth_unstable(middle).1
    }

    fn clear(&mut self) {
        self.began = None;
        self.latencies.clear();
        self.most_in_flight = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Adaptive = Adaptive { min: 8, max: 1000, tolerance: 1.5 };

    /// A queue before `servers` that each take an exponential time of 20 ms on average (M/M/n), with the controller
    /// before it: what is over the limit is turned away.
    struct Simulation {
        start: Instant,
        now: Duration,
        rng: fastrand::Rng,
        gradient: Gradient,
        /// When each server is free again.
        servers: BinaryHeap<Reverse<Duration>>,
        /// (when it ends, when it began).
        in_flight: BinaryHeap<Reverse<(Duration, Duration)>>,
    }

    /// What came of a while.
    #[derive(Debug, Default)]
    struct Outcome {
        done: u64,
        shed: u64,
        latency: Duration,
    }

    impl Simulation {
        fn new(seed: u64, servers: usize) -> Self {
            Self {
                start: Instant::now(),
                now: Duration::ZERO,
                rng: fastrand::Rng::with_seed(seed),
                gradient: Gradient::new(SETTINGS, seed),
                servers: std::iter::repeat_n(Reverse(Duration::ZERO), servers).collect(),
                in_flight: BinaryHeap::new(),
            }
        }

        fn servers(&mut self, count: usize) {
            while self.servers.len() > count {
                self.servers.pop();
            }
            while self.servers.len() < count {
                self.servers.push(Reverse(self.now));
            }
        }

        fn exponential(&mut self, mean: f64) -> Duration {
            Duration::from_secs_f64(-mean * (1.0 - self.rng.f64()).ln())
        }

        /// Requests come at random, `rate` a second, for so many seconds.
        fn run(&mut self, rate: f64, seconds: u64) -> Outcome {
            let end = self.now + Duration::from_secs(seconds);
            let mut outcome = Outcome::default();
            while self.now < end {
                let pause = self.exponential(1.0 / rate);
                self.now += pause;
                self.end_requests(&mut outcome);
                if self.in_flight.len() as u64 >= self.gradient.limit() {
                    outcome.shed += 1;
                    continue;
                }
                let Reverse(free) = self.servers.pop().unwrap();
                let ends = free.max(self.now) + self.exponential(0.020);
                self.servers.push(Reverse(ends));
                self.in_flight.push(Reverse((ends, self.now)));
            }
            outcome
        }

        fn end_requests(&mut self, outcome: &mut Outcome) {
            while let Some(Reverse((ends, began))) = self.in_flight.peek().copied()
                && ends <= self.now
            {
                outcome.done += 1;
                outcome.latency += ends - began;
                let in_flight = self.in_flight.len() as u64;
                self.in_flight.pop();
                let (began, ended) = (self.start + began, self.start + ends);
                self.gradient.observe(Sample { began, ended, in_flight });
                let limit = self.gradient.limit();
                assert!((8..=1000).contains(&limit), "{limit}");
            }
        }
    }

    /// Fifty servers do 2,500 a second. At twice that, without a limit, the queue would grow by 2,500 a second.
    #[test]
    fn the_limit_finds_the_knee_falls_with_the_capacity_and_comes_back() {
        for seed in 0..8 {
            let mut simulation = Simulation::new(seed, 50);
            simulation.run(5_000.0, 5);
            let busy = simulation.run(5_000.0, 50);
            let limit = simulation.gradient.limit();
            assert!((40..=150).contains(&limit), "seed {seed}: {limit}");
            assert!(busy.done > 50 * 2_500 * 9 / 10, "seed {seed}: {busy:?}");
            let mean = busy.latency.as_secs_f64() / busy.done as f64;
            assert!(mean < 0.060, "seed {seed}: {mean} s on average");

            simulation.servers(20);
            simulation.run(5_000.0, 5);
            let slow = simulation.gradient.limit();
            assert!(slow < limit * 2 / 3, "seed {seed}: {slow} of {limit}");

            simulation.servers(50);
            simulation.run(5_000.0, 5);
            let back = simulation.run(5_000.0, 20);
            assert!(back.done > 20 * 2_500 * 9 / 10, "seed {seed}: {back:?}");
        }
    }

    /// At half its capacity nothing is turned away once the limit has risen, however long the calm was before.
    #[test]
    fn a_pool_with_room_turns_nothing_away() {
        for seed in 0..8 {
            let mut simulation = Simulation::new(seed, 50);
            simulation.run(1_250.0, 5);
            let calm = simulation.run(1_250.0, 40);
            assert!(calm.shed * 1_000 < calm.done, "seed {seed}: {calm:?}");
            simulation.run(50.0, 60);
            let again = simulation.run(1_250.0, 10);
            assert!(again.shed * 20 < again.done, "seed {seed}: {again:?}");
        }
    }

    #[test]
    fn a_measurement_hears_only_requests_that_were_sent_within_it() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut gradient = Gradient::new(SETTINGS, 7);
        for number in 0..100 {
            gradient.observe(Sample { began: at(number), ended: at(number + 10), in_flight: 8 });
        }
        assert_eq!(gradient.best, Some(Duration::from_millis(10)));
        // Busy until it is time to measure again.
        let mut now = 100;
        while !matches!(gradient.stage, Stage::Measuring { .. }) {
            now += 10;
            gradient.observe(Sample { began: at(now - 10), ended: at(now), in_flight: 100 });
        }
        assert!((54_000..67_000).contains(&now), "{now}");
        assert_eq!(gradient.limit(), 8);
        for _ in 0..100 {
            assert!(!gradient.observe(Sample { began: at(now - 1), ended: at(now + 500), in_flight: 100 }));
        }
        for number in 0..100 {
            gradient.observe(Sample { began: at(now + number), ended: at(now + number + 20), in_flight: 8 });
        }
        assert_eq!(gradient.best, Some(Duration::from_millis(20)));
    }

    /// What is in flight may last for hours, and leave no room for a request that could be measured.
    #[test]
    fn a_measurement_that_hears_nothing_is_ended_by_the_clock() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut gradient = Gradient::new(SETTINGS, 7);
        assert!(!gradient.look(at(0)) && !gradient.look(at(4_999)));
        assert!(gradient.look(at(5_000)), "also the first one");
        assert_eq!((gradient.limit(), gradient.best), (8, None));
        let mut now = 5_000;
        let mut busy = |gradient: &mut Gradient, until: u64, in_flight| {
            while now < until && !matches!(gradient.stage, Stage::Measuring { .. }) {
                now += 10;
                gradient.observe(Sample { began: at(now - 10), ended: at(now), in_flight });
            }
            now
        };
        busy(&mut gradient, 8_000, 8);
        let now = busy(&mut gradient, 80_000, 1_000);
        let (best, grown) = (gradient.best, gradient.limit);
        assert!(matches!(gradient.stage, Stage::Measuring { .. }) && best.is_some() && grown > 100.0);
        assert_eq!(gradient.limit(), 8);
        assert!(!gradient.look(at(now + 4_999)));
        // One that was sent before tells the time, too.
        assert!(gradient.observe(Sample { began: start, ended: at(now + 5_000), in_flight: 8 }));
        assert_eq!((gradient.limit(), gradient.best), (grown as u64, best));
        assert!(!gradient.look(at(now + 50_000)), "no measurement is under way");
    }

    proptest! {
        #[test]
        fn no_sample_leads_out_of_the_bounds(
            samples in prop::collection::vec((0_u64..5_000, 0_u64..100_000, 0_u64..2_000), 0..2_000), seed: u64,
        ) {
            let start = Instant::now();
            let mut gradient = Gradient::new(SETTINGS, seed);
            let mut now = start;
            for (step, latency, in_flight) in samples {
                now += Duration::from_millis(step);
                gradient.observe(Sample { began: now, ended: now + Duration::from_micros(latency), in_flight });
                prop_assert!((8..=1000).contains(&gradient.limit()));
            }
        }
    }
}
