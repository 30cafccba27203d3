//! How often a route takes requests of one key: a token bucket for each key, kept as the one moment at which it will be
//! full again (the generic cell rate algorithm, ITU-T I.371 annex A).
//!
//! Invariant: all workers count in one table of a size that the file sets, and none waits for another. A bucket that is
//! full is worth nothing, so its place is given away without a loss; where all places that a key may have are in use, its
//! requests pass uncounted, so that what others do never refuses a request.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    request_view::RequestView,
    split_key::{ClientKey, key_of},
};
use crate::config;

/// Places that a key may have: two cache lines of them.
const WAYS: usize = 8;

/// The buckets of one route.
#[derive(Debug)]
pub struct RateLimit {
    settings: config::RateLimit,
    places: Box<[Place]>,
    /// Nobody outside knows which keys share places.
    seed: u64,
    /// What the moments are counted from.
    epoch: Instant,
    /// The time in which one token comes, and that in which an empty bucket fills, in nanoseconds.
    interval: u64,
    window: u64,
}

/// A bucket's place. Both words are changed apart: a place whose bucket is full may be given away while a request of its
/// old key is being charged, and the new key then pays for that one.
#[derive(Debug, Default)]
struct Place {
    /// The key's hash; 0 is nobody's.
    key: AtomicU64,
    /// When the bucket will be full, in nanoseconds since the epoch.
    full_at: AtomicU64,
}

/// What a key has left after a request that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Requests that would be taken at once.
    pub remaining: u64,
    /// Seconds until the bucket is full, rounded up.
    pub reset: u64,
}

/// A request that comes too early, and the seconds after which one would be taken, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests: the next one is taken in {wait} s")]
pub struct Limited {
    /// The seconds.
    pub wait: u64,
}

impl RateLimit {
    /// Buckets that are all full.
    pub fn new(settings: &config::RateLimit) -> Self {
        let per = u64::try_from(settings.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (per / settings.requests).max(1);
        let mut places = Vec::new();
        places.resize_with(settings.keys.next_multiple_of(WAYS), Place::default);
        Self {
            settings: settings.clone(),
            places: places.into(),
            seed: fastrand::u64(..),
            epoch: Instant::now(),
            interval,
            // So far ahead is as good as never; the sum with the time that has passed must not overflow.
            window: interval.saturating_mul(settings.burst).min(u64::MAX / 4),
        }
    }

    /// What the file says of it.
    pub fn settings(&self) -> &config::RateLimit {
        &self.settings
    }

    /// Takes a request, or says when to come again. `None` is one that passes uncounted.
    pub fn take(&self, request: &impl RequestView, now: Instant) -> Result<Option<Allowance>, Limited> {
        let (key, now) = (self.key(request), self.since_epoch(now));
        let Some(place) = self.find(key).or_else(|| self.claim(key, now)) else { return Ok(None) };
        let mut full_at = place.full_at.load(Relaxed);
        loop {
            let next = full_at.max(now) + self.interval;
            self.judge(next - now)?;
            match place.full_at.compare_exchange_weak(full_at, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(Some(self.allowance(next - now))),
                Err(other) => full_at = other,
            }
        }
    }

    /// What [`Self::take`] would answer now, without taking part.
    pub fn look(&self, request: &impl RequestView, now: Instant) -> Result<Allowance, Limited> {
        let now = self.since_epoch(now);
        let full_at = self.find(self.key(request)).map_or(0, |place| place.full_at.load(Relaxed));
        let next = full_at.max(now) + self.interval;
        self.judge(next - now).map(|()| self.allowance(next - now))
    }

    /// Whether a bucket would hold the token of a request that brings it to be full in so long.
    fn judge(&self, full_in: u64) -> Result<(), Limited> {
        let over = full_in.saturating_sub(self.window);
        if over == 0 { Ok(()) } else { Err(Limited { wait: seconds(over) }) }
    }

    fn allowance(&self, full_in: u64) -> Allowance {
        Allowance { remaining: (self.window - full_in) / self.interval, reset: seconds(full_in) }
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX / 4)
    }

    fn find(&self, key: u64) -> Option<&Place> {
        self.ways(key).iter().find(|place| place.key.load(Relaxed) == key)
    }

    /// Gives a key the place of a bucket that is full.
    fn claim(&self, key: u64, now: u64) -> Option<&Place> {
        self.ways(key).iter().find(|place| {
            let old = place.key.load(Relaxed);
            place.full_at.load(Relaxed) <= now
                && place.key.compare_exchange(old, key, Relaxed, Relaxed).is_ok()
        })
    }

    fn ways(&self, key: u64) -> &[Place] {
        let sets = (self.places.len() / WAYS) as u64;
        let start = (key % sets) as usize * WAYS;
        &self.places[start..start + WAYS]
    }

    /// A request that lacks what it is to be counted by is counted by its client, so that leaving it out frees nobody.
    fn key(&self, request: &impl RequestView) -> u64 {
        let mut client = ClientKey::default();
        let named = match &self.settings.key {
            config::SplitKey::ClientIp => None,
            key => key_of(key, request, &mut client).map(|value| xxh3_64_with_seed(value, self.seed)),
        };
        named.unwrap_or_else(|| self.client(request.client())).max(1)
    }

    /// An IPv6 client is its network of 64 bits: a host has all addresses of it for the asking (RFC 8981).
    fn client(&self, address: IpAddr) -> u64 {
        // Its own kind of key: nobody is to spend a client's tokens by naming its address in a field.
        let seed = !self.seed;
        match address.to_canonical() {
            IpAddr::V4(address) => xxh3_64_with_seed(&address.octets(), seed),
            IpAddr::V6(address) => xxh3_64_with_seed(&address.octets()[..8], seed),
        }
    }
}

fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(Duration::from_secs(1).as_nanos() as u64)
}

#[cfg(test)]
#[path = "rate_limit_tests.rs"]
mod tests;
