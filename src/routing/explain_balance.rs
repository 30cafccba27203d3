//! What the balance and the limits of a certain pool mean for a request, in words.
//!
//! Invariant: as in [`super::explain`], nothing is claimed, counted or changed.

use xxhash_rust::xxh3::xxh3_64;

use super::{
    explain::{Explanation, Outcome},
    request_view::RequestView,
    select::takes,
    split_key::{ClientKey, key_of},
    table::Pool,
};
use crate::{
    config::Balance,
    upstream::{endpoint::Endpoint, gate::Limit},
};

impl Explanation {
    /// Tells which endpoint the request's key belongs to, if the pool balances by one, and whether the pool is full.
    pub(super) fn tell_balance(&mut self, pool: &Pool, request: &impl RequestView) {
        let panics = pool.ignores_ejections();
        let may = |endpoint: &Endpoint| takes(endpoint, false, panics);
        if let Some(limit) = pool.full(may) {
            return self.tell_full(pool, limit);
        }
        self.tell_owner(pool, request, may);
    }

    /// Tells that the request is turned away.
    pub(super) fn tell_full(&mut self, pool: &Pool, limit: Limit) {
        self.say(format!("pool {} is at its limit {}: 503", pool.settings.name, limit.name()));
        (self.outcome, self.status, self.endpoint) = (Outcome::Unavailable, Some(503), None);
    }

    /// Tells which of the endpoints that it `may` use the request's key belongs to, if the pool balances by one.
    pub(super) fn tell_owner(
        &mut self,
        pool: &Pool,
        request: &impl RequestView,
        may: impl Fn(&Endpoint) -> bool,
    ) {
        let Balance::Hash(settings) = &pool.settings.balance else { return };
        let mut client = ClientKey::default();
        let Some(key) = key_of(&settings.key, request, &mut client) else {
            self.say("it has no key to balance by: the less loaded of two endpoints gets it".to_owned());
            return;
        };
        let hash = xxh3_64(key);
        if let Some(owner) = pool.balancer.owner(&pool.endpoints, hash, may) {
            let address = pool.endpoints[owner].0.address;
            self.say(format!("its key to balance by belongs to endpoint {address}, while that has room"));
            self.endpoint = Some(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::{Action, HashBalance, SplitKey},
        routing::{explain::explain, select::Selection, testing::*},
    };

    #[test]
    fn the_keys_endpoint_and_a_full_pool_are_told_as_they_are_acted_out() {
        let mut config = config(&[("app", &[1; 5])]);
        let pool = Arc::make_mut(&mut config.pools[0]);
        let key = SplitKey::Header("x-user".into());
        pool.balance = Balance::Hash(HashBalance { key, max_load: 125 });
        pool.limits.max_requests = Some(1);
        config.routes = vec![Arc::new(route("all", matches(&["a"], "/"), Action::Pool(name("app"))))];
        let mut bench = Bench::new(config);
        for user in 0..20 {
            let request = get("a", "/").with("x-user", &format!("user-{user}"));
            let story = explain(&bench.table, &request, "a");
            let Selection::Forward { lease, .. } = bench.select(&request) else { panic!("there is room") };
            let told = format!("belongs to endpoint {}, while that has room", lease.address);
            assert!(story.steps.iter().any(|step| step.contains(&told)), "{told}: {story:?}");
            assert_eq!(story.endpoint, Some(lease.address));
            assert!(story.steps.iter().any(|step| step == "5 endpoints are available"), "{story:?}");
            let story = explain(&bench.table, &request, "a");
            assert_eq!((story.outcome, story.status), (Outcome::Unavailable, Some(503)), "{story:?}");
            assert!(story.steps.iter().any(|step| step.contains("max_requests")), "{story:?}");
        }
        let story = explain(&bench.table, &get("a", "/"), "a");
        assert!(story.steps.iter().any(|step| step.contains("no key to balance by")), "{story:?}");
        assert_eq!(story.endpoint, None);
    }
}
