use std::{collections::HashMap, thread};

use super::*;
use crate::{
    config::SplitKey,
    routing::testing::{Request, get},
};

fn limit(requests: u64, per: Duration, burst: u64, key: SplitKey, keys: usize) -> RateLimit {
    RateLimit::new(&config::RateLimit { requests, per, burst, key, keys })
}

fn of(user: u64) -> Request {
    get("a", "/").with("x-user", &format!("user-{user}"))
}

fn by_user() -> SplitKey {
    SplitKey::Header("x-user".into())
}

#[test]
fn a_burst_passes_and_then_one_for_each_interval() {
    let limit = limit(10, Duration::from_secs(1), 3, by_user(), 64);
    let start = limit.epoch;
    for remaining in [2, 1, 0] {
        assert_eq!(limit.take(&of(1), start), Ok(Some(Allowance { remaining, reset: 1 })));
    }
    assert_eq!(limit.take(&of(1), start), Err(Limited { wait: 1 }));
    assert!(limit.take(&of(2), start).is_ok(), "another key has a bucket of its own");
    let before = start + Duration::from_nanos(99_999_999);
    assert!(limit.take(&of(1), before).is_err());
    assert_eq!(limit.look(&of(1), before), Err(Limited { wait: 1 }));
    let then = start + Duration::from_millis(100);
    assert_eq!(limit.look(&of(1), then).map(|allowance| allowance.remaining), Ok(0));
    assert!(limit.take(&of(1), then).is_ok(), "looking takes nothing");
    assert!(limit.take(&of(1), then).is_err());
}

/// Against a bucket that is filled by hand, with requests at any moments.
#[test]
fn it_decides_as_a_bucket_that_is_filled_token_by_token() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..200 {
        let (requests, burst) = (rng.u64(1..50), rng.u64(1..20));
        let limit = limit(requests, Duration::from_secs(1), burst, by_user(), 8);
        let interval = 1_000_000_000 / requests;
        // In nanoseconds' worth of tokens.
        let (mut filled, mut at) = (burst * interval, 0);
        for _ in 0..200 {
            let passed = rng.u64(0..2 * interval);
            (filled, at) = ((filled + passed).min(burst * interval), at + passed);
            let expected = filled >= interval;
            filled -= if expected { interval } else { 0 };
            let taken = limit.take(&of(1), limit.epoch + Duration::from_nanos(at));
            assert_eq!(taken.is_ok(), expected, "{requests} a second, {burst} at once, at {at}");
            if let Ok(Some(allowance)) = taken {
                assert_eq!(allowance.remaining, filled / interval);
            }
        }
    }
}

#[test]
fn whoever_leaves_the_key_out_is_counted_by_the_address() {
    let limit = limit(1, Duration::from_secs(60), 1, by_user(), 64);
    let at = |address: &str| Request { client: address.parse().unwrap(), ..get("a", "/") };
    for (address, passes) in [
        ("192.0.2.1", true),
        ("192.0.2.1", false),
        ("::ffff:192.0.2.1", false),
        ("192.0.2.2", true),
        ("2001:db8:0:1::1", true),
        ("2001:db8:0:1:ffff::2", false),
        ("2001:db8:0:2::1", true),
    ] {
        assert_eq!(limit.take(&at(address), limit.epoch).is_ok(), passes, "{address}");
        let empty = at(address).with("x-user", "");
        assert!(limit.take(&empty, limit.epoch).is_err(), "an empty key is none: {address}");
    }
    let named = get("a", "/").with("x-user", "192.0.2.1");
    assert!(limit.take(&named, limit.epoch).is_ok(), "a name that looks like an address is another's");
}

#[test]
fn full_buckets_give_their_place_and_the_others_keep_theirs() {
    let limit = limit(1, Duration::from_secs(1), 1, by_user(), WAYS);
    let start = limit.epoch;
    let take = |user, at: Duration| limit.take(&of(user), start + at);
    for user in 0..WAYS as u64 {
        assert!(matches!(take(user, Duration::ZERO), Ok(Some(_))));
    }
    assert_eq!(take(99, Duration::ZERO), Ok(None), "there is no place, so nobody counts");
    for user in 0..WAYS as u64 {
        assert!(take(user, Duration::from_millis(999)).is_err(), "who was there is still counted");
    }
    for user in 100..100 + WAYS as u64 {
        assert!(matches!(take(user, Duration::from_secs(1)), Ok(Some(_))), "the first are full again");
        assert!(take(user, Duration::from_secs(1)).is_err());
    }
}

#[test]
fn workers_together_take_no_more_than_one_would() {
    let limit = limit(1, Duration::from_secs(3600), 1_000, by_user(), 1_024);
    let taken = thread::scope(|scope| {
        let count = || (0..4_000).filter(|request| limit.take(&of(request % 2), limit.epoch).is_ok()).count();
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>()
    });
    // Two workers that meet a key at first may give it a place each.
    let mut places = HashMap::new();
    for place in &limit.places {
        *places.entry(place.key.load(Relaxed)).or_insert(0) += usize::from(place.key.load(Relaxed) != 0);
    }
    assert!(taken >= 2_000 && taken <= places.values().sum::<usize>() * 1_000, "{taken}: {places:?}");
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let a_day = Duration::from_secs(86_400);
    let limit_of = |burst| limit(1, a_day, burst, SplitKey::ClientIp, 8);
    for (burst, then) in [(1, Err(Limited { wait: 86_400 })), (1_000_000, Ok(()))] {
        let limit = limit_of(burst);
        let late = limit.epoch + 365 * 100 * a_day;
        assert!(limit.take(&get("a", "/"), late).is_ok());
        assert_eq!(limit.take(&get("a", "/"), late).map(drop), then);
    }
    let limit = limit_of(1);
    assert!(limit.take(&get("a", "/"), limit.epoch + a_day).is_ok());
    assert!(limit.take(&get("a", "/"), limit.epoch).is_err(), "a clock that goes back fills no bucket");
}
