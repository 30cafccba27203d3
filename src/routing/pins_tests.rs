//! Which pins are honoured, seen from the selections.

use std::time::{Duration, SystemTime};

use super::{
    explain::{self, Outcome},
    pins::{Session, milliseconds},
    request_view::RequestView,
    select::{Earlier, Selection},
    testing::*,
};
use crate::{
    config::{Action, PinTo, SplitKey, Sticky, WhenUnavailable},
    model::{pin::Pin, pin_keys::PinKeys},
    telemetry::pins::Issued,
};

fn sticky() -> Sticky {
    Sticky { ttl: Some(Duration::from_secs(3600)), query: Some("pin".into()), ..Sticky::named("sb") }
}

/// A sticky split over two pools of three endpoints.
fn shop(sticky: Sticky, key: Option<SplitKey>) -> Bench {
    let mut config = config(&[("blue", &[1, 1, 1]), ("green", &[1, 1, 1])]);
    let mut shop = split("shop", &[("blue", 1), ("green", 1)], key, WhenUnavailable::PassOn);
    std::sync::Arc::make_mut(&mut shop).sticky = Some(sticky);
    config.splits = vec![shop];
    config.routes = vec![route("shop", matches(&[], "/"), Action::Split(name("shop"))).into()];
    let bench = Bench::new(config);
    bench.table.keys.publish(PinKeys::of(&[7; 32]));
    bench
}

/// A pin of this moment, or of so long ago.
fn pin(bench: &Bench, pool: &str, age: Duration) -> String {
    let issued = milliseconds(SystemTime::now() - age);
    let pin = Pin { session: 7, issued, endpoint: None, split: "shop", pool };
    let keys = bench.table.keys.load();
    String::from_utf8(pin.write(Some(&**keys)).unwrap().as_bytes().to_vec()).unwrap()
}

fn pinned(bench: &Bench, pool: &str, age: Duration) -> Request {
    get("a", "/").with("cookie", &format!("a=b; sb={}", pin(bench, pool, age)))
}

/// The pool that a request gets, and why its response would bring a cookie.
fn visit(bench: &mut Bench, request: &Request) -> (String, Option<Issued>) {
    let Selection::Forward { arm, pool, lease, session, .. } = bench.select(request) else {
        panic!("all are well")
    };
    let due = session.unwrap().due(PinTo::Pool, arm.unwrap().1, lease.id);
    (bench.table.pools[pool].settings.name.to_string(), due)
}

const NOW: Duration = Duration::ZERO;

#[test]
fn a_pin_wins_over_a_key_and_without_it_the_key_decides() {
    let mut bench = shop(sticky(), Some(SplitKey::Header("user".into())));
    for user in 0..50 {
        let user = user.to_string();
        let keyed = bench.pool(&get("a", "/").with("user", &user)).unwrap().to_owned();
        for pool in ["blue", "green"] {
            let request = pinned(&bench, pool, NOW).with("user", &user);
            assert_eq!(visit(&mut bench, &request), (pool.to_owned(), None));
        }
        let forged = get("a", "/").with("cookie", "sb=v1.x.y").with("user", &user);
        assert_eq!(visit(&mut bench, &forged), (keyed, Some(Issued::New)));
    }
}

#[test]
fn the_field_comes_before_the_query_and_the_query_before_the_cookie() {
    let mut bench = shop(sticky(), None);
    let (blue, green) = (pin(&bench, "blue", NOW), pin(&bench, "green", NOW));
    let cookie = format!("sb={blue}");
    let mut request = get("a", "/").with("cookie", &cookie);
    assert_eq!(visit(&mut bench, &request).0, "blue");
    request.query = Some(format!("x=1&pin={green}"));
    assert_eq!(visit(&mut bench, &request), ("green".into(), None));
    let request = request.with("x-switchback-pin", &blue);
    assert_eq!(visit(&mut bench, &request), ("blue".into(), None));
    let mut request = get("a", "/").with("cookie", &cookie).with("x-switchback-pin", "?");
    request.query = Some("pin=nonsense".into());
    assert_eq!(visit(&mut bench, &request).0, "blue", "what is no pin hides none");
}

#[test]
fn a_pin_is_renewed_in_the_second_half_of_its_time_and_over_at_its_end() {
    let mut bench = shop(sticky(), None);
    bench.set("shop", &[("blue", 1), ("green", 0)]);
    let seconds = Duration::from_secs;
    for (age, expected) in [
        (seconds(1), ("green", None)),
        (seconds(1790), ("green", None)),
        (seconds(1810), ("green", Some(Issued::Renewed))),
        (seconds(3590), ("green", Some(Issued::Renewed))),
        (seconds(3610), ("blue", Some(Issued::New))),
    ] {
        let request = pinned(&bench, "green", age);
        let (pool, due) = visit(&mut bench, &request);
        assert_eq!((pool.as_str(), due), expected, "{age:?}");
    }
    let mut forever = shop(Sticky { ttl: None, ..sticky() }, None);
    let request = pinned(&forever, "green", Duration::from_secs(1 << 30));
    assert_eq!(visit(&mut forever, &request), ("green".into(), None));
}

/// The session of a request that begins one on green.
fn begun(bench: &mut Bench) -> String {
    loop {
        let selection = bench.select(&get("a", "/"));
        let Selection::Forward { arm, lease, session, .. } = selection else { panic!("all are well") };
        let (split, arm) = arm.unwrap();
        if arm == 1 {
            let session: Session = session.unwrap();
            let text = session.pin(&bench.table, (split, arm), &lease).unwrap();
            return String::from_utf8(text.as_bytes().to_vec()).unwrap();
        }
    }
}

/// However close to each other: what was issued by the table before the release is released, what was issued by the
/// table after it is not.
#[test]
fn a_release_parts_the_pins_of_the_table_before_it_from_those_after_it() {
    let mut bench = shop(sticky(), None);
    let with = |pin: &str| get("a", "/").with("cookie", &format!("sb={pin}"));
    let mut at = SystemTime::UNIX_EPOCH;
    for _ in 0..20 {
        // A worker may go on deciding by the old table for a moment after the change.
        at = SystemTime::now().max(at + Duration::from_millis(1));
        let before = begun(&mut bench);
        bench.state.released.insert((name("shop"), name("green")), at);
        bench.publish();
        assert_eq!(visit(&mut bench, &with(&before)).1, Some(Issued::Moved));
        let after = begun(&mut bench);
        assert_eq!(visit(&mut bench, &with(&after)), ("green".into(), None));
        let blue = pinned(&bench, "blue", Duration::from_secs(60));
        assert_eq!(visit(&mut bench, &blue), ("blue".into(), None), "blue was not released");
    }
}

#[test]
fn pinned_requests_take_nothing_from_the_draws_of_the_others() {
    let draws = |with_pins: bool| {
        let mut bench = shop(sticky(), None);
        bench.set("shop", &[("blue", 7), ("green", 3)]);
        let mut pools = Vec::new();
        for _ in 0..200 {
            if with_pins {
                let request = pinned(&bench, "green", NOW);
                assert_eq!(visit(&mut bench, &request).0, "green");
            }
            pools.push(visit(&mut bench, &get("a", "/")).0);
        }
        pools.iter().filter(|pool| *pool == "green").count()
    };
    assert_eq!([draws(false), draws(true)], [60, 60]);
}

#[test]
fn without_a_key_there_are_no_pins_and_requests_are_served() {
    let mut bench = shop(sticky(), None);
    let request = pinned(&bench, "green", NOW);
    bench.table.keys.publish(PinKeys::default());
    bench.set("shop", &[("blue", 1), ("green", 0)]);
    let Selection::Forward { arm, pool, lease, session, .. } = bench.select(&request) else {
        panic!("all are well")
    };
    assert_eq!(pool, 0);
    assert!(session.unwrap().pin(&bench.table, arm.unwrap(), &lease).is_none());
}

#[test]
fn an_explanation_tells_of_each_pin_what_a_selection_does_with_it() {
    let mut bench = shop(sticky(), None);
    bench.set("shop", &[("blue", 1), ("green", 0)]);
    let green = bench.table.pools[1].clone();
    let told = |bench: &Bench, request: &Request| {
        let story = explain::explain(&bench.table, request, request.host());
        assert_eq!((story.outcome, story.status), (Outcome::Forward, None), "{story:?}");
        (story.pool.map(|pool| pool.to_string()).unwrap_or_default(), story.steps.join("\n"))
    };
    let good = pinned(&bench, "green", NOW);
    let (pool, steps) = told(&bench, &good);
    assert!(pool == "green" && steps.contains("the session stays with pool green"), "{steps}");
    for (request, why) in [
        (get("a", "/"), "the request has no pin"),
        (get("a", "/").with("cookie", "sb=v1.AAAA.BBBB"), "the pin in the cookie sb is as if absent"),
        (pinned(&bench, "green", Duration::from_secs(4000)), "its time is over"),
        (pinned(&bench, "red", NOW), "its pool is none of the split's"),
    ] {
        let (pool, steps) = told(&bench, &request);
        assert!(pool == "blue" && steps.contains(why), "{steps}");
        assert_eq!(visit(&mut bench, &request).0, "blue");
    }
    green.endpoints.iter().for_each(|(endpoint, _)| endpoint.occupancy.reserve());
    assert_eq!(told(&bench, &good).0, "green", "a reserved pool keeps its sessions");
    assert_eq!(visit(&mut bench, &good).0, "green");
    green.endpoints.iter().for_each(|(endpoint, _)| drained(endpoint));
    let (pool, steps) = told(&bench, &good);
    assert!(pool == "blue" && steps.contains("no endpoint that takes it"), "{steps}");
    assert_eq!(visit(&mut bench, &good), ("blue".into(), Some(Issued::Moved)));
    green.endpoints.iter().for_each(|(endpoint, _)| endpoint.occupancy.undrain());
    bench.state.released.insert((name("shop"), name("green")), SystemTime::now());
    bench.publish();
    let (pool, steps) = told(&bench, &good);
    assert!(pool == "blue" && steps.contains("it was released"), "{steps}");
}

fn drained(endpoint: &crate::upstream::endpoint::Endpoint) {
    endpoint.occupancy.drain();
}

#[test]
fn an_endpoint_that_takes_no_new_session_is_spared_those_of_its_pool_while_there_are_others() {
    let mut bench = shop(sticky(), None);
    let green = bench.table.pools[1].clone();
    green.endpoints[0].0.occupancy.reserve();
    let request = pinned(&bench, "green", NOW);
    for _ in 0..50 {
        let Selection::Forward { lease, .. } = bench.select(&request) else { panic!("two are well") };
        assert_ne!(lease.id, green.endpoints[0].0.id);
    }
    green.endpoints.iter().skip(1).for_each(|(endpoint, _)| drained(endpoint));
    let Selection::Forward { lease, .. } = bench.select(&request) else { panic!("one takes who was there") };
    assert_eq!(lease.id, green.endpoints[0].0.id);
}

#[test]
fn a_retry_stays_in_a_pool_that_takes_no_new_sessions() {
    let mut bench = shop(sticky(), None);
    let green = bench.table.pools[1].clone();
    let request = pinned(&bench, "green", NOW);
    let Selection::Forward { route, arm, pool, lease, session } = bench.select(&request) else {
        panic!("all are well")
    };
    green.endpoints.iter().for_each(|(endpoint, _)| endpoint.occupancy.reserve());
    let tried = [lease.id];
    let again =
        bench.select_after(Earlier { route, arm, pool, session, key: b"", tried: &tried, insists: false });
    let Selection::Forward { pool: next, lease: other, .. } = again else { panic!("there are others") };
    assert_eq!((next, other.id == lease.id), (pool, false));
}

/// It would get a pin to what takes no new sessions.
#[test]
fn a_retry_brings_no_new_session_to_what_takes_none() {
    for key in [&b""[..], b"user"] {
        let mut bench = shop(Sticky { to: PinTo::Endpoint, ..sticky() }, None);
        let green = bench.table.pools[1].clone();
        bench.set("shop", &[("blue", 0), ("green", 1)]);
        let Selection::Forward { route, arm, pool, lease, session } = bench.select(&get("a", "/")) else {
            panic!("all are well")
        };
        let others: Vec<_> = green.endpoints.iter().filter(|(endpoint, _)| endpoint.id != lease.id).collect();
        others[0].0.occupancy.reserve();
        let tried = [lease.id];
        let earlier = Earlier { route, arm, pool, session, key, tried: &tried, insists: false };
        for _ in 0..20 {
            let Selection::Forward { lease, .. } = bench.select_after(earlier) else { panic!("one is left") };
            assert_eq!(lease.id, others[1].0.id);
        }
        others[1].0.occupancy.reserve();
        let again = bench.select_after(earlier);
        assert!(matches!(again, Selection::Unavailable { .. }), "{again:?}");
    }
}

/// A session that was passed on to another pool has not been there before.
#[test]
fn a_pinned_session_is_a_new_one_in_another_pool_than_its_pins() {
    let mut bench = shop(sticky(), None);
    let request = pinned(&bench, "green", NOW);
    let Selection::Forward { route, arm, lease, session, .. } = bench.select(&request) else {
        panic!("all are well")
    };
    let split = arm.expect("it is of a split").0;
    let blue = bench.table.pools[0].clone();
    blue.endpoints.iter().for_each(|(endpoint, _)| endpoint.occupancy.reserve());
    bench.set_healthy("green", false);
    let tried = [lease.id];
    let at_blue =
        Earlier { route, arm: Some((split, 0)), pool: 0, session, key: b"", tried: &tried, insists: false };
    let again = bench.select_after(at_blue);
    assert!(matches!(again, Selection::Unavailable { .. }), "{again:?}");
}

/// A sticky shop whose pools have these limits.
fn limited(to: PinTo, max_requests: Option<u32>, max_endpoint_requests: Option<u32>) -> Bench {
    let mut bench = shop(Sticky { to, ..sticky() }, None);
    for pool in &mut bench.config.pools {
        let limits = &mut std::sync::Arc::make_mut(pool).limits;
        (limits.max_requests, limits.max_endpoint_requests) = (max_requests, max_endpoint_requests);
    }
    bench.publish();
    bench
}

#[test]
fn a_full_pool_sheds_its_sessions_and_does_not_move_them() {
    for (to, max_requests, max_endpoint_requests, room) in [
        (PinTo::Pool, Some(2), None, 2),
        (PinTo::Pool, None, Some(1), 3),
        (PinTo::Endpoint, Some(2), None, 2),
        // Its endpoint alone counts for a session that is pinned to one: the others have not what it left there.
        (PinTo::Endpoint, None, Some(1), 1),
    ] {
        let mut bench = limited(to, max_requests, max_endpoint_requests);
        let request = get("a", "/").with("cookie", &format!("sb={}", begun(&mut bench)));
        let story = |bench: &Bench| {
            let story = explain::explain(&bench.table, &request, request.host());
            assert_eq!(story.pool, Some(name("green")), "{story:?}");
            (story.outcome, story.status)
        };
        let mut held = Vec::new();
        for _ in 0..room {
            assert_eq!(story(&bench), (Outcome::Forward, None), "{to:?}");
            let selection = bench.select(&request);
            assert!(matches!(selection, Selection::Forward { pool: 1, .. }), "{to:?}: {selection:?}");
            held.push(selection);
        }
        let full = bench.select(&request);
        assert!(matches!(full, Selection::Shed { pool: 1, arm: Some((_, 1)), .. }), "{to:?}: {full:?}");
        assert_eq!(story(&bench), (Outcome::Unavailable, Some(503)), "{to:?}");
        drop(held);
        assert_eq!(bench.table.pools[1].state.gate.in_flight(), 0);
        assert!(matches!(bench.select(&request), Selection::Forward { pool: 1, .. }));
    }
}

#[test]
fn a_full_pool_that_nobody_is_left_of_moves_its_sessions() {
    let mut bench = limited(PinTo::Pool, Some(1), None);
    let request = pinned(&bench, "green", NOW);
    let held = bench.select(&request);
    assert!(matches!(bench.select(&request), Selection::Shed { pool: 1, .. }));
    bench.set_healthy("green", false);
    assert_eq!(visit(&mut bench, &request), ("blue".into(), Some(Issued::Moved)));
    drop(held);
}

/// A pin that is never over would survive every release.
#[test]
fn a_pin_that_is_dated_far_ahead_counts_for_nothing() {
    let mut bench = shop(sticky(), Some(SplitKey::Header("user".into())));
    let dated = |bench: &Bench, issued: u64, pool| {
        let pin = Pin { session: 7, issued, endpoint: None, split: "shop", pool };
        let text = pin.write(Some(&**bench.table.keys.load())).unwrap();
        get("a", "/")
            .with("user", "42")
            .with("cookie", &format!("sb={}", String::from_utf8_lossy(text.as_bytes())))
    };
    let now = milliseconds(SystemTime::now());
    for pool in ["blue", "green"] {
        let request = dated(&bench, now + 4 * 60_000, pool);
        assert_eq!(visit(&mut bench, &request), (pool.to_owned(), None), "a clock may be a little ahead");
    }
    let keyed = bench.pool(&get("a", "/").with("user", "42")).unwrap().to_owned();
    for pool in ["blue", "green"] {
        for issued in [now + 6 * 60_000, (1 << 48) - 1] {
            let request = dated(&bench, issued, pool);
            assert_eq!(visit(&mut bench, &request), (keyed.clone(), Some(Issued::Moved)), "{issued}");
        }
    }
}
