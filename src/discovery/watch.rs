//! Follows the names in use: a task for each, which asks again in time and tells what it found.
//!
//! Invariant: a task lives as long as its name is in use, and no longer than the watch.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::SystemTime,
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    ask::Ask,
    book::{Book, Outcome},
    pace::Pace,
    round::{Round, Rounds},
};
use crate::{
    config::{Dns, defaults},
    model::{endpoint_address::EndpointAddress, resolved::Target},
};

/// What a round found. Each round ends with one, even if nothing changed.
#[derive(Debug)]
pub struct Finding {
    /// The name.
    pub name: EndpointAddress,
    /// What it stands for from now on; `None` if nothing is known, which changes nothing.
    pub targets: Option<Vec<Target>>,
}

/// The watched names.
#[derive(Debug)]
pub struct Watch<A> {
    ask: Arc<A>,
    settings: Dns,
    own: Arc<[SocketAddr]>,
    book: Arc<Book>,
    found: mpsc::Sender<Finding>,
    names: BTreeMap<EndpointAddress, AbortHandle>,
    tasks: JoinSet<()>,
}

impl<A: Ask> Watch<A> {
    /// Watches nothing yet. `own` are the addresses that this process listens on. What is found goes to `found`, which
    /// holds tasks back when it is full.
    pub fn new(
        ask: A,
        settings: Dns,
        own: Vec<SocketAddr>,
        book: Arc<Book>,
        found: mpsc::Sender<Finding>,
    ) -> Self {
        let (names, tasks) = (BTreeMap::new(), JoinSet::new());
        Self { ask: Arc::new(ask), settings, own: own.into(), book, found, names, tasks }
    }

    /// Watches these names from now on, and no others. Names over the limit are left out, and the log says so.
    pub fn follow(&mut self, wanted: &BTreeSet<EndpointAddress>) {
        while self.tasks.try_join_next().is_some() {}
        self.names.retain(|name, task| {
            let stays = wanted.contains(name);
            if !stays {
                task.abort();
                self.book.close(name);
            }
            stays
        });
        for name in wanted {
            if self.names.contains_key(name) {
                continue;
            }
            if self.names.len() == defaults::MAX_DNS_NAMES {
                tracing::error!(
                    most = defaults::MAX_DNS_NAMES,
                    "there are too many names: the others have no endpoints"
                );
                break;
            }
            self.book.open(name);
            let rounds = Rounds::new(Arc::clone(&self.ask), self.settings.family, Arc::clone(&self.own));
            let pace = Pace { min: self.settings.min_ttl, max: self.settings.max_ttl };
            let (book, found) = (Arc::clone(&self.book), self.found.clone());
            let task = self.tasks.spawn(follow(name.clone(), rounds, pace, book, found));
            self.names.insert(name.clone(), task);
        }
    }

    /// The names that are watched.
    pub fn names(&self) -> impl Iterator<Item = &EndpointAddress> {
        self.names.keys()
    }
}

/// Asks for one name again and again.
async fn follow<A: Ask>(
    name: EndpointAddress,
    mut rounds: Rounds<A>,
    pace: Pace,
    book: Arc<Book>,
    found: mpsc::Sender<Finding>,
) {
    let mut failures = 0;
    let mut said = None;
    loop {
        let round = rounds.round(&name).await;
        let outcome = outcome(&round);
        failures = if outcome == Outcome::Answered { 0 } else { failures + 1 };
        let pause = pace.next(round.ttl, failures, fastrand::f64());
        book.write(&name, outcome, |entry| {
            let now = SystemTime::now();
            if outcome == Outcome::Answered {
                (entry.answered_at, entry.ttl) = (Some(now), round.ttl);
            }
            entry.addresses = round.targets.as_ref().map_or(0, Vec::len);
            entry.next_at = Some(now + pause);
            entry.fault = round.fault.clone();
            entry.left_out = round.left_out.clone();
        });
        log(&name, outcome, &round, &mut said);
        if found.send(Finding { name: name.clone(), targets: round.targets }).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

fn outcome(round: &Round) -> Outcome {
    match (&round.targets, &round.fault) {
        (None, _) => Outcome::Failed,
        (Some(_), Some(_)) => Outcome::Incomplete,
        (Some(targets), None) if targets.is_empty() => Outcome::Empty,
        (Some(_), None) => Outcome::Answered,
    }
}

/// Says how it went when that is not how it went before: an outage is one line, not one for each round.
fn log(name: &EndpointAddress, outcome: Outcome, round: &Round, said: &mut Option<(Outcome, bool)>) {
    let now = (outcome, round.left_out.is_some());
    if said.as_ref() == Some(&now) {
        return;
    }
    let before = said.replace(now).map(|(outcome, _)| outcome);
    let fault = round.fault.as_deref().unwrap_or_default();
    match outcome {
        Outcome::Failed => {
            tracing::warn!(%name, fault, "a name could not be resolved; it has no endpoints yet")
        }
        Outcome::Incomplete => {
            tracing::warn!(%name, fault, "a name could not be resolved again; what was last known of it stands");
        }
        Outcome::Empty => tracing::warn!(%name, "a name has no addresses"),
        Outcome::Answered if before.is_some_and(|before| before != Outcome::Answered) => {
            tracing::info!(%name, "a name is resolved again");
        }
        Outcome::Answered => {}
    }
    if let Some(left_out) = &round.left_out {
        tracing::warn!(%name, left_out, "a part of the answers for a name is not used");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::discovery::ask::{Answer, Kind, Question, Record};

    /// Every name has the same address.
    #[derive(Debug)]
    struct Same;

    impl Ask for Same {
        fn candidates(&self, name: &str) -> Vec<Box<str>> {
            vec![name.into()]
        }

        async fn ask(&self, question: &Question) -> Answer {
            assert_eq!(question.kind, Kind::A);
            let records = vec![Record::Address([10, 0, 0, 1].into())];
            Answer::Records { records, ttl: Duration::ZERO }
        }
    }

    fn set(names: &[&str]) -> BTreeSet<EndpointAddress> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn shown(book: &Book) -> BTreeSet<EndpointAddress> {
        book.entries().into_iter().map(|(name, _)| name).collect()
    }

    #[tokio::test]
    async fn names_are_asked_for_while_they_are_in_use_and_no_longer() {
        let (sender, mut found) = mpsc::channel(1);
        let (book, ttl) = (Arc::new(Book::default()), Duration::from_millis(1));
        let settings =
            Dns { family: crate::config::DnsFamily::Ipv4, min_ttl: ttl, max_ttl: ttl, ..Dns::default() };
        let mut watch = Watch::new(Same, settings, Vec::new(), Arc::clone(&book), sender);
        for names in [&["a:1", "b:1"][..], &["b:1", "c:1"], &[], &["a:1"]] {
            let names = set(names);
            watch.follow(&names);
            assert_eq!(shown(&book), names);
            // One that was found before may be on its way still.
            found.try_recv().ok();
            let mut seen = BTreeSet::new();
            while seen != names {
                let Finding { name, targets } = found.recv().await.expect("the watch lives");
                assert!(names.contains(&name), "{name} is not in use");
                assert_eq!(targets.expect("an answer")[0].address, "10.0.0.1:1".parse().unwrap());
                seen.insert(name);
            }
        }
        drop(watch);
        while found.recv().await.is_some() {}
    }

    #[tokio::test]
    async fn no_more_names_than_may_be_are_watched() {
        let (sender, _found) = mpsc::channel(1);
        let book = Arc::new(Book::default());
        let mut watch = Watch::new(Same, Dns::default(), Vec::new(), Arc::clone(&book), sender);
        let many = (0..defaults::MAX_DNS_NAMES + 5).map(|number| format!("n{number}:1").parse().unwrap());
        watch.follow(&many.collect());
        assert_eq!(shown(&book).len(), defaults::MAX_DNS_NAMES);
    }
}
