//! What is known of each name, for whoever wants to read it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use crate::model::endpoint_address::EndpointAddress;

/// How a round went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every question was answered, and there are addresses.
    Answered,
    /// A question failed: what was last known good stands in for its answer, if there was one.
    Incomplete,
    /// There is nothing, and that is sure.
    Empty,
    /// A question failed, and no address is known.
    Failed,
}

const OUTCOMES: [Outcome; 4] = [Outcome::Answered, Outcome::Incomplete, Outcome::Empty, Outcome::Failed];

/// What is known of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How its last round went; `None` before the first has ended.
    pub outcome: Option<Outcome>,
    /// How many addresses it stands for.
    pub addresses: usize,
    /// When every question was last answered.
    pub answered_at: Option<SystemTime>,
    /// How long those answers could be used, by their own word.
    pub ttl: Option<Duration>,
    /// When it is asked again.
    pub next_at: Option<SystemTime>,
    /// What went wrong in the last round.
    pub fault: Option<Box<str>>,
    /// What of the last answers was left out.
    pub left_out: Option<Box<str>>,
}

/// What is known of all names that are in use, and counts of their rounds.
#[derive(Debug, Default)]
pub struct Book {
    entries: Mutex<BTreeMap<EndpointAddress, Entry>>,
    rounds: [AtomicU64; OUTCOMES.len()],
}

impl Outcome {
    /// Its name in the admin API and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Incomplete => "incomplete",
            Self::Empty => "empty",
            Self::Failed => "failed",
        }
    }
}

impl Book {
    /// What is known of a name, if it is in use.
    pub fn entry(&self, name: &EndpointAddress) -> Option<Entry> {
        self.lock().get(name).cloned()
    }

    /// What is known of all names.
    pub fn entries(&self) -> Vec<(EndpointAddress, Entry)> {
        self.lock().iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }

    /// Counts of rounds by how they went, zeros included.
    pub fn rounds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.iter().zip(&self.rounds).map(|(outcome, count)| (outcome.name(), count.load(Relaxed)))
    }

    pub(super) fn open(&self, name: &EndpointAddress) {
        let entry = Entry {
            outcome: None,
            addresses: 0,
            answered_at: None,
            ttl: None,
            next_at: None,
            fault: None,
            left_out: None,
        };
        self.lock().entry(name.clone()).or_insert(entry);
    }

    /// Counts a round and writes down what came of it, unless the name has gone meanwhile.
    pub(super) fn write(&self, name: &EndpointAddress, outcome: Outcome, with: impl FnOnce(&mut Entry)) {
        let place = OUTCOMES.iter().position(|known| *known == outcome).expect("all are listed");
        self.rounds[place].fetch_add(1, Relaxed);
        if let Some(entry) = self.lock().get_mut(name) {
            entry.outcome = Some(outcome);
            with(entry);
        }
    }

    pub(super) fn close(&self, name: &EndpointAddress) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EndpointAddress, Entry>> {
        // A panic while it was held can't leave it half changed: each change is of one entry.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
