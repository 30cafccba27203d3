//! What becomes of the state when a successor has had the store and does not serve: the one that this process had in force
//! goes on, with what was answered meanwhile.
//!
//! Invariant: nothing is struck out. What the successor has written stays in the history, and a revision after it leads back.

use std::{sync::Arc, time::SystemTime};

use super::{
    change::{Author, Change, Origin},
    merge, start,
    state::State,
    store::{Backend, Entry, Kept, StoreError, document::Document},
};
use crate::{config::Config, model::live_state::LiveState};

/// What the revision that leads back says of itself.
const REASON: &str = "a successor that had begun did not come to serve";

/// What was in force here when the store was given up.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// The state.
    pub(super) state: State,
    /// The file.
    pub(super) config: Arc<Config>,
}

/// The state to go on with, durable; `None` if the store is as it was.
pub(super) fn state(
    store: &mut impl Backend,
    held: &Held,
    at: SystemTime,
) -> Result<Option<State>, StoreError> {
    let Some(kept) = store.load()?.filter(|kept| kept.revision != held.state.revision()) else {
        return Ok(None);
    };
    let newest = start::resumed(&kept)?;
    let live = live(store, &kept, &newest, &held.state, at)?;
    let author = Author { reason: Some(REASON.to_owned()), ..Origin::Switchback.into() };
    let (state, change) = newest.led_back(&held.state, live, author, at);
    if change.changed() {
        let applied = held.state.declaration().is_applied().then(|| held.config.text.to_string());
        let text = Document::of(&state).to_text();
        store.commit(&Entry { change, state: Some(text), applied, receipt: None })?;
    }
    tracing::warn!(revision = state.revision(), "what the successor had loaded is undone");
    Ok(Some(state))
}

/// The live state of before, but for what somebody has asked the successor for and was answered.
fn live(
    store: &mut impl Backend,
    kept: &Kept,
    newest: &State,
    held: &State,
    at: SystemTime,
) -> Result<LiveState, StoreError> {
    let is_asked = |change: &Change| matches!(change.author.origin, Origin::Api | Origin::Cli);
    let mut later = kept.changes.iter().filter(|change| change.revision > held.revision()).peekable();
    let mut base = None;
    while let Some(change) = later.next_if(|change| !is_asked(change)) {
        base = Some(change.revision);
    }
    if !later.any(is_asked) {
        return Ok(held.live().clone());
    }
    let base = match base {
        Some(revision) => read(store, kept, revision)?,
        None => held.live().clone(),
    };
    Ok(with_answered(held.live(), &base, newest.live(), at))
}

/// `held` with every difference between `base` and `newest`, as far as what they are about is declared here.
fn with_answered(held: &LiveState, base: &LiveState, newest: &LiveState, at: SystemTime) -> LiveState {
    let mut live = merge::restored(&merge::merged(base, newest, held), held, at);
    for ((split, pool), released) in &newest.released {
        if live.weights.contains_key(split) {
            let moment = live.released.entry((split.clone(), pool.clone())).or_insert(*released);
            *moment = (*moment).max(*released);
        }
    }
    live
}

fn read(store: &mut impl Backend, kept: &Kept, revision: u64) -> Result<LiveState, StoreError> {
    let damaged = |why: String| StoreError::Damaged { path: kept.path.clone(), why, copy: None };
    let found = store.find(revision)?.ok_or_else(|| damaged(format!("revision {revision} is missing")))?;
    Document::read(&found.1).map(|(live, _)| live).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        change::Kind,
        command::Command,
        declaration::Source,
        samples::config,
        store::sqlite::{Place, Sqlite},
    };

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn keep(store: &mut Sqlite, (state, change): (State, Change)) -> State {
        let text = Some(Document::of(&state).to_text());
        store.commit(&Entry { change, state: text, applied: None, receipt: None }).unwrap();
        state
    }

    fn applied(state: &State, command: &Command, origin: Origin) -> (State, Change) {
        state.apply(&config(&[95, 5]), command, &origin.into(), AT).unwrap()
    }

    fn put(green: u64) -> Command {
        let weights = vec![("blue".to_owned(), 50), ("green".to_owned(), green)];
        Command::SetWeights { split: "shop".into(), weights, pins: None }
    }

    fn green(state: &State) -> Option<u32> {
        state.live().weights["shop"].of("green")
    }

    /// A store in which a switch is kept, and the state that it led to.
    fn start() -> (Sqlite, Held) {
        let mut store = Sqlite::open(Place::Memory).unwrap();
        let config = Arc::new(config(&[95, 5]));
        let first = keep(&mut store, State::declared(&config, AT));
        let state = keep(&mut store, applied(&first, &put(70), Origin::Api));
        (store, Held { state, config })
    }

    fn load(state: &State) -> (State, Change) {
        let load = Command::Load { config: Arc::new(config(&[50, 50])), source: Source::Disk };
        applied(state, &load, Origin::File)
    }

    #[test]
    fn a_store_that_is_as_it_was_changes_nothing() {
        let (mut store, held) = start();
        assert!(state(&mut store, &held, AT).unwrap().is_none());
    }

    #[test]
    fn what_a_successor_has_loaded_is_led_back_and_stays_in_the_history() {
        let (mut store, held) = start();
        let loaded = keep(&mut store, load(&held.state));
        assert_eq!(green(&loaded), Some(50), "the file says something new");
        let back = state(&mut store, &held, AT).unwrap().expect("it is not as it was");
        assert_eq!((green(&back), back.revision()), (Some(70), loaded.revision() + 1));
        assert_eq!(back.live(), held.state.live());
        assert_eq!((back.file(), back.declaration()), (held.state.file(), held.state.declaration()));
        let kinds: Vec<_> = store.page(None, 9).unwrap().iter().map(|change| change.kind).collect();
        assert_eq!(kinds, [Kind::Restore, Kind::Load, Kind::Weights, Kind::Declared]);
        let kept = start::resumed(&store.load().unwrap().unwrap()).unwrap();
        assert_eq!((kept.live(), kept.declaration()), (back.live(), back.declaration()), "it is durable");
    }

    #[test]
    fn what_the_successor_has_answered_holds() {
        let (mut store, held) = start();
        let loaded = keep(&mut store, load(&held.state));
        let answered = keep(&mut store, applied(&loaded, &put(7), Origin::Cli));
        let back = state(&mut store, &held, AT).unwrap().expect("it is not as it was");
        assert_eq!((green(&back), back.revision()), (Some(7), answered.revision() + 1));
        assert_eq!(back.declaration(), held.state.declaration());
    }
}
