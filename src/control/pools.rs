//! What commands make of the endpoints and drains of pools. Pure.
//!
//! Invariant: a drain that is repeated on the same terms is the same drain, with the same beginning, so that a caller
//! who is not sure whether he was heard may ask again.

use std::{
    collections::{BTreeMap, HashSet},
    time::SystemTime,
};

use super::{
    change::Effect,
    command::{Command, EndpointOf, Terms},
    names,
    own_addresses::is_link_local,
    refusal::{AddressFault, Refusal, Unknown},
};
use crate::{
    config::{Config, DrainSettings, defaults},
    model::{
        endpoint_address::EndpointAddress,
        live_state::{Drain, LiveEndpoint, LivePool, PinsOnDrain},
        name::Name,
        weights::Weights,
    },
};

/// What a command about a pool or an endpoint comes to.
pub(super) fn effect(
    pools: &BTreeMap<Name, LivePool>,
    config: &Config,
    command: &Command,
    at: SystemTime,
) -> Result<Effect, Refusal> {
    match command {
        Command::DrainPool { pool, terms } => {
            let (name, live) = find(pools, pool)?;
            let after = drain(live.drain, terms, settings(config, name), PinsOnDrain::Keep, at);
            Ok(Effect::Pool { pool: name.clone(), before: live.drain, after: Some(after) })
        }
        Command::UndrainPool { pool } => {
            let (name, live) = find(pools, pool)?;
            Ok(Effect::Pool { pool: name.clone(), before: live.drain, after: None })
        }
        Command::DrainEndpoint { of, terms } => changed(pools, of, |name, before| {
            let drain = drain(before.drain, terms, settings(config, name), PinsOnDrain::Move, at);
            Some(LiveEndpoint { drain: Some(drain), ..before.clone() })
        }),
        Command::DeleteEndpoint { of, terms } => changed(pools, of, |name, before| {
            let drain = drain(before.drain, terms, settings(config, name), PinsOnDrain::Move, at);
            Some(LiveEndpoint { drain: Some(drain), is_leaving: true, ..before.clone() })
        }),
        Command::UndrainEndpoint { of } => changed(pools, of, |_, before| {
            Some(LiveEndpoint { drain: None, is_leaving: false, ..before.clone() })
        }),
        Command::PutEndpoint { of, weight } => put(pools, config, of, *weight),
        Command::WeighEndpoint { of, weight } => {
            let weight = weight.map(allowed).transpose()?;
            changed(pools, of, |_, before| {
                Some(LiveEndpoint { weight: weight.unwrap_or(before.weight), ..before.clone() })
            })
        }
        Command::SetWeights { .. }
        | Command::MergeWeights { .. }
        | Command::Switch { .. }
        | Command::Rollback { .. }
        | Command::Restore { .. }
        | Command::Forget { .. }
        | Command::Load { .. } => unreachable!("these are about splits, or about many objects"),
    }
}

/// Removes those of these endpoints that are leaving, and says which. Every endpoint is looked at once, however many go.
pub(super) fn forget(
    pools: &mut BTreeMap<Name, LivePool>,
    all: &BTreeMap<Name, HashSet<EndpointAddress>>,
) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (name, addresses) in all {
        let Some(pool) = pools.get_mut(name) else { continue };
        let goes = |endpoint: &mut LiveEndpoint| endpoint.is_leaving && addresses.contains(&endpoint.address);
        effects.extend(pool.endpoints.extract_if(.., goes).map(|before| Effect::Endpoint {
            pool: name.clone(),
            address: before.address.clone(),
            before: Some(before),
            after: None,
        }));
    }
    effects
}

/// Puts what an effect says in force.
pub(super) fn carry_out(pools: &mut BTreeMap<Name, LivePool>, effect: &Effect) {
    const DECLARED: &str = "an effect is about a declared pool";
    match effect {
        Effect::Weights { .. } | Effect::Split { .. } | Effect::Setting { .. } => {}
        Effect::Pool { pool, after, .. } => pools.get_mut(pool).expect(DECLARED).drain = *after,
        Effect::Endpoint { pool, address, after, .. } => {
            let endpoints = &mut pools.get_mut(pool).expect(DECLARED).endpoints;
            let place = endpoints.iter().position(|endpoint| endpoint.address == *address);
            match (place, after) {
                (Some(place), Some(after)) => endpoints[place] = after.clone(),
                (Some(place), None) => drop(endpoints.remove(place)),
                (None, Some(after)) => endpoints.push(after.clone()),
                (None, None) => {}
            }
        }
    }
}

/// The effect of a change of an endpoint that is there.
fn changed(
    pools: &BTreeMap<Name, LivePool>,
    of: &EndpointOf,
    change: impl FnOnce(&Name, &LiveEndpoint) -> Option<LiveEndpoint>,
) -> Result<Effect, Refusal> {
    let (name, live) = find(pools, &of.pool)?;
    let asked = of.address.parse::<EndpointAddress>().ok();
    let before = live.endpoints.iter().find(|endpoint| Some(&endpoint.address) == asked.as_ref());
    let before = before.ok_or_else(|| Refusal::NoEndpoint {
        pool: name.clone(),
        unknown: Unknown::new(&of.address, live.endpoints.iter().map(|endpoint| &endpoint.address)),
    })?;
    Ok(Effect::Endpoint {
        pool: name.clone(),
        address: before.address.clone(),
        before: Some(before.clone()),
        after: change(name, before),
    })
}

fn put(
    pools: &BTreeMap<Name, LivePool>,
    config: &Config,
    of: &EndpointOf,
    weight: u64,
) -> Result<Effect, Refusal> {
    let (name, live) = find(pools, &of.pool)?;
    let refuse =
        |fault| Refusal::Address { address: of.address.chars().take(Unknown::MAX_ECHO).collect(), fault };
    let address: EndpointAddress = of.address.parse().map_err(|why| refuse(AddressFault::Invalid(why)))?;
    let weight = allowed(weight)?;
    let before = live.endpoints.iter().find(|endpoint| endpoint.address == address).cloned();
    let after = match &before {
        // One that was leaving is wanted again; a drain of its own stays.
        Some(before) if !before.is_leaving => LiveEndpoint { weight, ..before.clone() },
        Some(_) => LiveEndpoint { address: address.clone(), weight, drain: None, is_leaving: false },
        None => {
            let declared = config.pools.iter().filter(|pool| pool.name == *name);
            let mut declared = declared.flat_map(|pool| &pool.endpoints);
            if is_link_local(&address) && !declared.any(|endpoint| endpoint.address == address) {
                return Err(refuse(AddressFault::LinkLocal));
            }
            if live.endpoints.len() >= defaults::MAX_ENDPOINTS {
                return Err(refuse(AddressFault::TooMany));
            }
            if address.socket().is_none() && is_a_name_too_many(pools, &address) {
                return Err(refuse(AddressFault::TooManyNames));
            }
            LiveEndpoint { address: address.clone(), weight, drain: None, is_leaving: false }
        }
    };
    Ok(Effect::Endpoint { pool: name.clone(), address, before, after: Some(after) })
}

/// Whether a name would be one more than are resolved. One that another pool has is resolved already.
fn is_a_name_too_many(pools: &BTreeMap<Name, LivePool>, name: &EndpointAddress) -> bool {
    let names = names::in_use(pools);
    names.len() >= defaults::MAX_DNS_NAMES && !names.contains(name)
}

/// A weight of an endpoint, if it may have it.
fn allowed(weight: u64) -> Result<u32, Refusal> {
    let weight = u32::try_from(weight).ok().filter(|weight| *weight <= Weights::MAX);
    weight.ok_or(Refusal::EndpointWeight)
}

fn find<'a>(pools: &'a BTreeMap<Name, LivePool>, name: &str) -> Result<(&'a Name, &'a LivePool), Refusal> {
    pools.get_key_value(name).ok_or_else(|| Refusal::NoPool(Unknown::new(name, pools.keys())))
}

fn settings(config: &Config, pool: &Name) -> DrainSettings {
    let pool = config.pools.iter().find(|settings| settings.name == *pool);
    pool.expect("the live state has declared pools only").drain
}

/// The drain that is in force after a call for one on these terms.
fn drain(
    current: Option<Drain>,
    terms: &Terms,
    settings: DrainSettings,
    pins: PinsOnDrain,
    since: SystemTime,
) -> Drain {
    let deadline = match (terms.deadline, current) {
        (Some(bound), _) => bound.limit(),
        (None, Some(current)) => current.deadline,
        (None, None) => Some(settings.deadline),
    };
    let stream_deadline = match (terms.stream_deadline, terms.deadline, current) {
        (Some(bound), _, _) => bound.limit(),
        // Who says when all is to be over means the streams, too.
        (None, Some(_), _) => {
            Some(deadline.map_or(settings.stream_deadline, |at| at.min(settings.stream_deadline)))
        }
        (None, None, Some(current)) => current.stream_deadline,
        (None, None, None) => Some(settings.stream_deadline),
    };
    let pins = terms.pins.or(current.map(|current| current.pins)).unwrap_or(pins);
    let drain = Drain { since, deadline, stream_deadline, pins };
    match current {
        Some(current) if (Drain { since: current.since, ..drain }) == current => current,
        // New terms count from now on, as whoever names them expects.
        _ => drain,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::{
        change::{Change, Origin},
        command::Bound,
        state::State,
    };

    const FILE: &str = r#"
[[listener]]
name = "web"
listen = "127.0.0.1:8080"

[pool.blue]
endpoints = ["127.0.0.1:1", "169.254.0.1:1", "app.internal:80"]

[[route]]
name = "all"
pool = "blue"
"#;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn of(address: &str) -> EndpointOf {
        EndpointOf { pool: "blue".into(), address: address.into() }
    }

    fn forget(addresses: &[&str]) -> Command {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Command::Forget { all: BTreeMap::from([(Name::new("blue").unwrap(), addresses)]) }
    }

    fn within(count: u64) -> Terms {
        Terms { deadline: Some(Bound::Within(seconds(count))), ..Terms::default() }
    }

    /// A state, and what makes the next one of it.
    struct Live(Config, State, SystemTime);

    impl Live {
        fn new() -> Self {
            let (config, _) = crate::config::parse("test.toml", FILE).expect("the sample is good");
            let state = State::declared(&config, SystemTime::UNIX_EPOCH).0;
            Self(config, state, SystemTime::UNIX_EPOCH)
        }

        /// Applies a command ten seconds after the one before.
        fn apply(&mut self, command: Command) -> Result<Change, Refusal> {
            self.2 += seconds(10);
            let (state, change) = self.1.apply(&self.0, &command, &Origin::Api.into(), self.2)?;
            self.1 = state;
            Ok(change)
        }

        fn endpoint(&self, address: &str) -> Option<LiveEndpoint> {
            let endpoints = &self.1.live().pools["blue"].endpoints;
            endpoints.iter().find(|endpoint| endpoint.address.to_string() == address).cloned()
        }

        fn drain(&self, address: &str) -> Option<Drain> {
            self.endpoint(address).expect("it is there").drain
        }
    }

    #[test]
    fn a_drain_that_is_repeated_is_the_same_and_new_terms_change_it() {
        let mut live = Live::new();
        let drain = |terms| Command::DrainEndpoint { of: of("127.0.0.1:1"), terms };
        let first = live.apply(drain(within(5))).unwrap();
        assert_eq!((first.revision, first.changed()), (1, true));
        let begun = live.drain("127.0.0.1:1").unwrap();
        let expected = (SystemTime::UNIX_EPOCH + seconds(10), Some(seconds(5)), PinsOnDrain::Move);
        assert_eq!((begun.since, begun.deadline, begun.pins), expected);
        assert_eq!(begun.stream_deadline, Some(seconds(5)), "streams have no longer than all has");
        for same in [within(5), Terms::default()] {
            let again = live.apply(drain(same)).unwrap();
            assert_eq!((again.revision, again.changed()), (1, false), "{same:?}");
        }
        assert_eq!(live.apply(drain(within(60))).unwrap().revision, 2);
        let longer = live.drain("127.0.0.1:1").unwrap();
        assert_eq!(
            (longer.since, longer.deadline),
            (SystemTime::UNIX_EPOCH + seconds(40), Some(seconds(60)))
        );
        let off = Terms { stream_deadline: Some(Bound::Unbounded), ..Terms::default() };
        live.apply(drain(off)).unwrap();
        let streams = live.drain("127.0.0.1:1").unwrap();
        assert_eq!((streams.deadline, streams.stream_deadline), (Some(seconds(60)), None));
        assert!(live.apply(Command::UndrainEndpoint { of: of("127.0.0.1:1") }).unwrap().changed());
        assert_eq!(live.drain("127.0.0.1:1"), None);
    }

    #[test]
    fn a_pools_drain_and_its_endpoints_are_apart() {
        let mut live = Live::new();
        let terms = Terms::default();
        live.apply(Command::DrainEndpoint { of: of("127.0.0.1:1"), terms }).unwrap();
        live.apply(Command::DrainPool { pool: "blue".into(), terms }).unwrap();
        assert_eq!(live.1.live().pools["blue"].drain.unwrap().pins, PinsOnDrain::Keep);
        live.apply(Command::UndrainPool { pool: "blue".into() }).unwrap();
        assert_eq!(live.1.live().pools["blue"].drain, None);
        assert!(live.drain("127.0.0.1:1").is_some());
        assert!(!live.apply(Command::UndrainPool { pool: "blue".into() }).unwrap().changed());
    }

    #[test]
    fn an_endpoint_is_removed_after_its_drain_unless_it_is_wanted_again() {
        let mut live = Live::new();
        let delete = || Command::DeleteEndpoint { of: of("127.0.0.1:1"), terms: Terms::default() };
        let forget_it = || forget(&["127.0.0.1:1"]);
        let back = [
            Command::PutEndpoint { of: of("127.0.0.1:1"), weight: 3 },
            Command::UndrainEndpoint { of: of("127.0.0.1:1") },
        ];
        for back in back {
            live.apply(delete()).unwrap();
            assert!(live.endpoint("127.0.0.1:1").unwrap().is_leaving);
            live.apply(back).unwrap();
            assert!(!live.apply(forget_it()).unwrap().changed());
            let endpoint = live.endpoint("127.0.0.1:1").unwrap();
            assert!(!endpoint.is_leaving && endpoint.drain.is_none() && endpoint.weight == 3);
        }
        live.apply(delete()).unwrap();
        assert!(!live.apply(delete()).unwrap().changed());
        live.apply(delete()).unwrap();
        let gone = live.apply(forget(&["127.0.0.1:1", "app.internal:80", "127.0.0.1:9"])).unwrap();
        assert_eq!(gone.effects.len(), 1, "one is to stay, one was never there");
        assert!(live.endpoint("app.internal:80").is_some());
        assert_eq!(live.endpoint("127.0.0.1:1"), None);
        assert!(matches!(live.apply(delete()), Err(Refusal::NoEndpoint { .. })));
        live.apply(Command::PutEndpoint { of: of("127.0.0.1:1"), weight: 1 }).unwrap();
        assert!(live.endpoint("127.0.0.1:1").is_some());
    }

    #[test]
    fn a_full_pool_takes_no_other_endpoint_before_one_has_left_it() {
        let mut live = Live::new();
        let listed = |number: usize| format!("\"10.1.{}.{}:80\"", number / 250, number % 250 + 1);
        let many: Vec<_> = (3..defaults::MAX_ENDPOINTS).map(listed).collect();
        let full = FILE.replacen("endpoints = [", &format!("endpoints = [{}, ", many.join(", ")), 1);
        (live.0, _) = crate::config::parse("test.toml", &full).expect("it is full, not more");
        live.1 = State::declared(&live.0, SystemTime::UNIX_EPOCH).0;
        let put = || Command::PutEndpoint { of: of("10.2.0.1:80"), weight: 1 };
        let is_full = |refused: Result<Change, Refusal>| {
            matches!(refused, Err(Refusal::Address { fault: AddressFault::TooMany, .. }))
        };
        assert!(is_full(live.apply(put())));
        live.apply(Command::DeleteEndpoint { of: of("127.0.0.1:1"), terms: Terms::default() }).unwrap();
        assert!(is_full(live.apply(put())), "one that is being removed is still there");
        live.apply(forget(&["127.0.0.1:1"])).unwrap();
        assert!(live.apply(put()).unwrap().changed());
    }

    #[test]
    fn a_name_more_than_are_resolved_is_refused_and_one_that_is_known_is_not() {
        let mut live = Live::new();
        let green = "[pool.green]\nendpoints = [\"127.0.0.1:2\"]\n[[route]]";
        (live.0, _) =
            crate::config::parse("test.toml", &FILE.replacen("[[route]]", green, 1)).expect("sound");
        live.1 = State::declared(&live.0, SystemTime::UNIX_EPOCH).0;
        let mut put = |pool: &str, address: &str| {
            let of = EndpointOf { pool: pool.into(), address: address.into() };
            live.apply(Command::PutEndpoint { of, weight: 1 })
        };
        // The file has one.
        for number in 1..defaults::MAX_DNS_NAMES {
            put("blue", &format!("n{number}.test:80")).unwrap();
        }
        for pool in ["blue", "green"] {
            for address in ["other.test:80", "n1.test:81", "srv:_http._tcp.n1.test"] {
                let fault = AddressFault::TooManyNames;
                assert_eq!(put(pool, address), Err(Refusal::Address { address: address.into(), fault }));
            }
        }
        assert!(put("green", "n1.test:80").unwrap().changed(), "it is resolved already");
        assert!(put("green", "127.0.0.1:3").unwrap().changed(), "an address needs no resolving");
        let terms = Terms::default();
        live.apply(Command::DeleteEndpoint { of: of("n2.test:80"), terms }).unwrap();
        live.apply(forget(&["n2.test:80"])).unwrap();
        let other = Command::PutEndpoint { of: of("other.test:80"), weight: 1 };
        assert!(live.apply(other).unwrap().changed(), "one has gone");
    }

    #[test]
    fn an_endpoint_keeps_its_drain_when_its_weight_changes() {
        let mut live = Live::new();
        live.apply(Command::DrainEndpoint { of: of("App.Internal:80"), terms: within(5) }).unwrap();
        live.apply(Command::PutEndpoint { of: of("app.internal:80"), weight: 7 }).unwrap();
        let endpoint = live.endpoint("app.internal:80").unwrap();
        assert!(endpoint.weight == 7 && endpoint.drain.is_some());
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        let mut live = Live::new();
        let mut put = |address: &str, weight| live.apply(Command::PutEndpoint { of: of(address), weight });
        for bad in ["169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.1.1]:80"] {
            let refused = Refusal::Address { address: bad.into(), fault: AddressFault::LinkLocal };
            assert_eq!(put(bad, 1), Err(refused));
        }
        assert!(put("169.254.0.1:1", 2).unwrap().changed(), "the file declares it");
        for bad in [
            "0.0.0.0:80",
            "[::ffff:0.0.0.0]:80",
            "0.0.0.1:80",
            "255.255.255.255:80",
            "[::ffff:224.0.0.1]:80",
            "[::]:80",
            "127.0.0.1",
            "127.0.0.1:0",
            "x y:1",
        ] {
            assert!(
                matches!(put(bad, 1), Err(Refusal::Address { fault: AddressFault::Invalid(_), .. })),
                "{bad}"
            );
        }
        assert_eq!(put("127.0.0.1:2", 1_000_001), Err(Refusal::EndpointWeight));
        let terms = Terms::default();
        let Err(Refusal::NoEndpoint { unknown, .. }) =
            live.apply(Command::DrainEndpoint { of: of("127.0.0.1:2"), terms })
        else {
            panic!("there is none")
        };
        assert_eq!(unknown.nearest.as_deref(), Some("127.0.0.1:1"));
        let Err(Refusal::NoPool(unknown)) = live.apply(Command::DrainPool { pool: "bleu".into(), terms })
        else {
            panic!("there is none")
        };
        assert_eq!(unknown.nearest.as_deref(), Some("blue"));
    }
}
