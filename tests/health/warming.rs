//! Slow start over real sockets: an endpoint that has become available gets its share bit by bit, as
//! `docs/balancing.md` says.
//!
//! Nothing here depends on how fast the machine is: what an endpoint should get is reckoned from the moments in which
//! requests were really sent. The draws are Switchback's own; six standard deviations are a chance of 1 in 500 million.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    fast, get,
    support::{Client, Setup, Switchback, Upstream, upstream::response},
    wait_state,
};

const WINDOW: Duration = Duration::from_secs(3);
const SLOW_START: &str = "slow_start = { window = \"3s\" }";
/// The default of `min_weight`.
const LEAST: f64 = 0.1;
/// How many parts of the window are looked at by themselves.
const PARTS: usize = 4;

/// Answers probes as told, and everything else with its name.
fn named(name: &'static str) -> (Upstream, Arc<AtomicU16>) {
    let health = Arc::new(AtomicU16::new(200));
    let answered = Arc::clone(&health);
    let upstream = Upstream::start(move |exchange| {
        let status = if exchange.head.target() == "/healthz" { answered.load(Ordering::SeqCst) } else { 200 };
        exchange.send(&response(status, name.as_bytes()));
    });
    (upstream, health)
}

/// What came to the cold endpoint in a part of its window, and what should have.
#[derive(Debug, Default)]
struct Part {
    requests: u32,
    came: u32,
    /// The least and the most that can be expected, as the moment in which it became available is known to a bound.
    expected: (f64, f64),
    variance: f64,
}

impl Part {
    fn count(&mut self, share: (f64, f64), came: bool) {
        self.requests += 1;
        self.came += u32::from(came);
        self.expected.0 += share.0;
        self.expected.1 += share.1;
        self.variance += share.1 * (1.0 - share.0);
    }

    fn assert_as_expected(&self, what: &str) {
        let (least, most) = self.expected;
        let deviation = 6.0 * self.variance.sqrt();
        let came = f64::from(self.came);
        assert!((least - deviation..=most + deviation).contains(&came), "{what}: {self:?}");
    }
}

/// The share of two equal endpoints that the cold one has at an age.
fn share(age: Duration) -> f64 {
    let factor = (age.as_secs_f64() / WINDOW.as_secs_f64()).clamp(LEAST, 1.0);
    factor / (1.0 + factor)
}

/// Does what makes the endpoint `cold` available, and watches over the window what it gets beside the warm one.
fn watch(switchback: &Switchback, make_available: impl FnOnce()) {
    let mut client = switchback.client();
    let earliest = Instant::now();
    make_available();
    let latest = Instant::now();
    let mut parts: [Part; PARTS] = Default::default();
    loop {
        let before = latest.elapsed();
        let came = came_to_cold(&mut client);
        let after = earliest.elapsed();
        let part = before.as_secs_f64() / WINDOW.as_secs_f64() * PARTS as f64;
        let Some(part) = parts.get_mut(part as usize) else { break };
        part.count((share(before), share(after)), came);
    }
    for (number, part) in parts.iter().enumerate() {
        part.assert_as_expected(&format!("part {number} of the window"));
    }
    let mut afterwards = Part::default();
    (0..500).for_each(|_| afterwards.count((0.5, 0.5), came_to_cold(&mut client)));
    afterwards.assert_as_expected("after the window");
    println!("{parts:?}, {afterwards:?}");
}

fn came_to_cold(client: &mut Client) -> bool {
    let answer = client.exchange(get("/")).whole();
    assert_eq!(answer.status, 200);
    answer.text() == "cold"
}

/// A change of the endpoint by the admin API.
fn change(switchback: &Switchback, method: &str, upstream: &Upstream, act: &str) {
    let path = format!("/v1/pools/app/endpoints/{}{act}", upstream.address);
    let answer = switchback.admin(method, &path, "{}");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_new_endpoint_gets_its_share_bit_by_bit() {
    let ((warm, _), (cold, _)) = (named("warm"), named("cold"));
    let switchback = Setup::new().pool(SLOW_START).start(&warm);
    watch(&switchback, || change(&switchback, "PUT", &cold, ""));
}

#[test]
fn an_endpoint_that_is_undrained_gets_its_share_bit_by_bit() {
    let ((warm, _), (cold, _)) = (named("warm"), named("cold"));
    let switchback = Setup::new().pool(SLOW_START).start_all(&[&warm, &cold]);
    change(&switchback, "POST", &cold, "/drain");
    assert!(!came_to_cold(&mut switchback.client()));
    watch(&switchback, || change(&switchback, "POST", &cold, "/undrain"));
}

#[test]
fn an_endpoint_whose_probes_pass_again_gets_its_share_bit_by_bit() {
    let ((warm, _), (cold, health)) = (named("warm"), named("cold"));
    let setup = Setup::new().pool(SLOW_START).pool(&fast("http = \"/healthz\""));
    let switchback = setup.start_all(&[&warm, &cold]);
    for upstream in [&warm, &cold] {
        wait_state(&switchback, upstream.address, "available");
    }
    health.store(503, Ordering::SeqCst);
    wait_state(&switchback, cold.address, "unhealthy");
    // The warm one was cold itself until its first success.
    let (mut client, since) = (switchback.client(), Instant::now());
    while since.elapsed() < WINDOW {
        assert!(!came_to_cold(&mut client));
    }
    watch(&switchback, || {
        health.store(200, Ordering::SeqCst);
        wait_state(&switchback, cold.address, "available");
    });
}
