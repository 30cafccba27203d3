//! What happens besides changes and is told to whoever listens: an endpoint that fails or comes back, a drain that ends.
//!
//! Invariant: nothing of it is kept, and nobody waits for a listener. One that falls behind loses what it missed and is
//! told so; what must not be missed is a revision, and is read from the store.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::sync::broadcast;

use super::{drains::Draining, handle::Control, snapshot::Snapshot};
use crate::model::name::Name;

/// Events that a listener may be behind.
const MAX_BEHIND: usize = 256;
/// How often endpoints are looked at. What comes and goes in between is in the metrics and the log.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An endpoint takes requests, or takes none for another reason than before.
    Endpoint {
        /// Its pool.
        pool: Name,
        /// Its address.
        address: String,
        /// What it was: `available`, `draining`, `unhealthy`, `ejected`.
        before: &'static str,
        /// What it is.
        after: &'static str,
    },
    /// The file on disk can't be loaded, or can be again.
    File {
        /// What is wrong with it; `None` is nothing any more.
        error: Option<String>,
    },
    /// Nothing is in flight any more on an endpoint that drains.
    Drained {
        /// Its pool.
        pool: Name,
        /// Its address.
        address: String,
    },
}

/// Where events are told and heard. Every clone is the same one.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Arc<Event>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(MAX_BEHIND))
    }
}

impl Events {
    /// Tells whoever listens now.
    pub fn tell(&self, event: Event) {
        // Nobody may be there.
        let _ = self.0.send(Arc::new(event));
    }

    /// Hears what is told from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.subscribe()
    }
}

impl Event {
    /// The name of its kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } => "endpoint",
            Self::Drained { .. } => "drained",
            Self::File { .. } => "file",
        }
    }
}

/// Tells what becomes of endpoints, until the process ends.
pub async fn watch(control: Control) {
    // It goes on while nobody listens: who comes then hears of what changes from that moment on.
    let mut known = standing(&control.snapshot());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = standing(&control.snapshot());
        differences(&known, &now).for_each(|event| control.events().tell(event));
        known = now;
    }
}

/// How endpoints are, by pool and address.
type Known = BTreeMap<(Name, SocketAddr), Seen>;

#[derive(Debug, Clone, Copy)]
struct Seen {
    standing: &'static str,
    is_drained: bool,
}

fn standing(snapshot: &Snapshot) -> Known {
    let endpoints =
        snapshot.table.pools.iter().flat_map(|pool| &pool.endpoints).map(|(endpoint, _)| endpoint);
    let gone = snapshot.draining.values().map(|draining| &draining.endpoint);
    let seen = gone.chain(endpoints).map(|endpoint| {
        let draining = snapshot.draining.get(&endpoint.id);
        let is_drained = draining.is_some_and(Draining::is_drained);
        let seen = Seen { standing: endpoint.occupancy.standing().name(), is_drained };
        ((endpoint.pool.clone(), endpoint.address), seen)
    });
    seen.collect()
}

fn differences(before: &Known, now: &Known) -> impl Iterator<Item = Event> {
    let both = now.iter().filter_map(|(of, now)| Some((of, before.get(of)?, now)));
    both.flat_map(|((pool, address), before, now)| {
        let (pool, address) = (pool.clone(), address.to_string());
        let moved = (before.standing != now.standing).then(|| Event::Endpoint {
            pool: pool.clone(),
            address: address.clone(),
            before: before.standing,
            after: now.standing,
        });
        let ended = (now.is_drained && !before.is_drained).then_some(Event::Drained { pool, address });
        moved.into_iter().chain(ended)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_told_once_and_what_did_not_is_not() {
        let of = (Name::new("blue").expect("a name"), SocketAddr::from(([127, 0, 0, 1], 1)));
        let known = |(standing, is_drained)| Known::from([(of.clone(), Seen { standing, is_drained })]);
        let told = |before, now| -> Vec<_> {
            differences(&known(before), &known(now)).map(|event| event.name()).collect()
        };
        assert!(told(("available", false), ("available", false)).is_empty());
        assert_eq!(told(("available", false), ("ejected", false)), ["endpoint"]);
        assert_eq!(told(("available", false), ("draining", true)), ["endpoint", "drained"]);
        assert!(told(("draining", true), ("draining", true)).is_empty());
        assert_eq!(differences(&Known::new(), &known(("available", false))).count(), 0);
    }
}
