//! What the tests over real sockets share: a raw upstream, a raw client and the real binary.
//!
//! Invariant: nothing here uses the product's codec, or hides, repairs or retries anything. A byte that the product
//! sends is recorded as it came, and what is not canonical is an error, so that no test can pass by leniency.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

pub mod client;
pub mod config;
pub mod dns;
pub mod latency;
pub mod message;
pub mod port;
pub mod successors;
pub mod switchback;
pub mod upstream;
pub mod wire;

use std::time::{Duration, Instant};

pub use self::{
    client::{Client, Response},
    config::Setup,
    message::{Body, Head, Message},
    port::Reserved,
    switchback::Switchback,
    upstream::{Exchange, Upstream},
    wire::{Broken, Wire},
};

/// How long anything may take that should happen at once. Far above what is needed, so that a slow machine does not
/// fail a test; nothing waits for as long as this unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds; panics with its description if it does not.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until there is an answer, and gives it.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A seed, from `SWITCHBACK_SEED` or fresh, printed so that a failure can be repeated.
pub fn seeded(test: &str) -> fastrand::Rng {
    let seed = std::env::var("SWITCHBACK_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: SWITCHBACK_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Whether the long forms of the tests were asked for.
pub fn is_long() -> bool {
    std::env::var_os("SWITCHBACK_LONG").is_some_and(|value| value == "1")
}

/// Bytes that no two positions share by accident: a shift, loss or repetition changes them.
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

/// Bytes as a person reads them.
pub fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 1500;
    let cut = if bytes.len() > MOST { "…" } else { "" };
    format!("{}{cut}", bytes[..bytes.len().min(MOST)].escape_ascii())
}
