//! The pure state machine of the control plane.
//!
//! Invariant: [`State::apply`] does no I/O, reads no clock and changes nothing in place. It answers a whole new
//! state or everything that is wrong with the command.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    change::{Author, Change, Effect, Kind, Origin},
    command::{Command, PinsOnChange},
    declaration::{Declaration, Source},
    difference, fixed,
    history::{History, Revision},
    merge, pools,
    refusal::{Refusal, Unknown},
    weights::{completed, has_pins, released, switched, whole_set},
};
use crate::{
    config::Config,
    model::{live_state::LiveState, name::Name, weights::Weights},
};

/// The store knows the moments of revisions in microseconds.
const REVISIONS_APART: Duration = Duration::from_micros(1);

/// Pins know their moment of issue in milliseconds.
const RELEASES_APART: Duration = Duration::from_millis(1);

/// The live state and how it came to be.
#[derive(Debug, Clone)]
pub struct State {
    revision: u64,
    live: LiveState,
    /// What the file that was loaded last declares: what the next one is compared with.
    declared: Arc<LiveState>,
    declaration: Declaration,
    histories: BTreeMap<Name, Arc<History>>,
    /// For each object that a revision was about, the newest of those.
    touched: BTreeMap<Object, u64>,
    /// When the newest revision was made.
    latest: SystemTime,
}

/// What can be read, changed and compared by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A split.
    Split(Name),
    /// A pool with its endpoints.
    Pool(Name),
    /// The file that is in force.
    File,
}

impl State {
    /// The state that a file declares, as revision 0.
    pub fn declared(config: &Config, at: SystemTime) -> (Self, Change) {
        let live = config.declared_state(at);
        let effects = difference::of_live(&LiveState::default(), &live);
        let change = Change { revision: 0, kind: Kind::Declared, author: Origin::File.into(), at, effects };
        let declared = Arc::new(live.clone());
        let declaration = Declaration::of_disk(config);
        let (histories, touched) = Default::default();
        let mut state = Self { revision: 0, live, declared, declaration, histories, touched, latest: at };
        state.remember(&change);
        (state, change)
    }

    /// The state as it was when it was left: the newest revision's, with the changes that led to it, oldest first.
    pub fn resumed<'a>(
        revision: u64,
        live: LiveState,
        (declared, declaration): (LiveState, Declaration),
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Self {
        let declared = Arc::new(declared);
        let (histories, touched) = Default::default();
        let latest = SystemTime::UNIX_EPOCH;
        let mut state = Self { revision, live, declared, declaration, histories, touched, latest };
        changes.into_iter().for_each(|change| state.remember(change));
        state.histories.retain(|split, _| state.live.weights.contains_key(split));
        for (split, weights) in &state.live.weights {
            // The changes that led here may be older than what is kept of the history.
            let unknown = || {
                let (weights, at) = (weights.clone(), SystemTime::UNIX_EPOCH);
                let (author, kind, released) = (Origin::File.into(), Kind::Declared, Vec::new());
                Arc::new(History::new(Revision { number: revision, at, author, kind, weights, released }))
            };
            state.histories.entry(split.clone()).or_insert_with(unknown);
        }
        state
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The moment of the next revision, if the wall clock shows `wall`: never that of the newest one, nor before it, so that
    /// the order of times is that of numbers where the clock was set back, too.
    pub fn moment(&self, wall: SystemTime) -> SystemTime {
        wall.max(self.latest + REVISIONS_APART)
    }

    /// What a table is compiled from.
    pub fn live(&self) -> &LiveState {
        &self.live
    }

    /// What the file that was loaded last declares.
    pub fn file(&self) -> &LiveState {
        &self.declared
    }

    /// Which declaration is in force, and by which way it came.
    pub fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// The newest revision that was about an object; that of the start if none was.
    pub fn touched(&self, object: &Object) -> u64 {
        self.touched.get(object).copied().unwrap_or(0)
    }

    /// Whether there is such an object.
    pub fn has(&self, object: &Object) -> bool {
        match object {
            Object::Split(split) => self.live.weights.contains_key(split),
            Object::Pool(pool) => self.live.pools.contains_key(pool),
            Object::File => true,
        }
    }

    /// The history of a split's weights, if it is declared.
    pub fn history(&self, split: &str) -> Option<&History> {
        self.histories.get(split).map(Arc::as_ref)
    }

    /// What a command makes of this state, under the settings of `config`. A command that changes nothing answers the
    /// same state and the revision in force, so that repeating one is harmless.
    pub fn apply(
        &self,
        config: &Config,
        command: &Command,
        author: &Author,
        at: SystemTime,
    ) -> Result<(State, Change), Refusal> {
        let change = |effects| Change {
            revision: self.revision,
            kind: command.kind(),
            author: author.clone(),
            at,
            effects,
        };
        match command {
            Command::Load { config: next, source } => {
                let (state, effects) = self.loaded(config, next, *source, at)?;
                return Ok(state.advanced(change(effects)));
            }
            Command::Restore { live: then, .. } => {
                let live = merge::restored(then, &self.live, at);
                let effects = difference::of_live(&self.live, &live);
                return Ok(Self { live, ..self.clone() }.advanced(change(effects)));
            }
            Command::Forget { all } => {
                let mut live = self.live.clone();
                let effects = pools::forget(&mut live.pools, all);
                return Ok(Self { live, ..self.clone() }.advanced(change(effects)));
            }
            _ => {}
        }
        let effect = match command {
            Command::SetWeights { split, weights, pins } => self.weighted(config, split, |history| {
                let after = whole_set(&history.current().weights, weights).map_err(Refusal::Weights)?;
                Ok((after, *pins, PinsOnChange::Keep))
            }),
            Command::MergeWeights { split, weights, pins } => self.weighted(config, split, |history| {
                let current = &history.current().weights;
                let after = whole_set(current, &completed(current, weights)).map_err(Refusal::Weights)?;
                Ok((after, *pins, PinsOnChange::Keep))
            }),
            Command::Switch { split, to, pins } => self.weighted(config, split, |history| {
                Ok((switched(&history.current().weights, to)?, *pins, PinsOnChange::Keep))
            }),
            Command::Rollback { split, to_revision, pins } => self.weighted(config, split, |history| {
                let after = match to_revision {
                    None => history.before_last_rise().unwrap_or(&history.current().weights).clone(),
                    Some(number) => self.at(history, *number)?,
                };
                Ok((after, *pins, PinsOnChange::Release))
            }),
            _ => pools::effect(&self.live.pools, config, command, at),
        };
        Ok(self.with(change(vec![effect?])))
    }

    /// What a file that is loaded in place of `config` makes of this state, and the effects of that.
    fn loaded(
        &self,
        config: &Config,
        next: &Config,
        source: Source,
        at: SystemTime,
    ) -> Result<(State, Vec<Effect>), Refusal> {
        let declared = next.declared_state(at);
        let faults = fixed::faults(config, next, source);
        if !faults.is_empty() {
            return Err(Refusal::File(faults));
        }
        if self.declaration.holds_against(next, source) {
            return Ok((self.clone(), Vec::new()));
        }
        let live = merge::merged(&self.declared, &declared, &self.live);
        let mut effects = difference::of_live(&self.live, &live);
        if config.text != next.text {
            effects.extend(difference::of_files(&config.document(), &next.document()));
        }
        effects.extend(difference::of_references(config, next));
        let declaration = self.declaration.after(next, source);
        if effects.is_empty() && declaration.text != self.declaration.text {
            effects.push(of_text(&self.declaration, &declaration));
        }
        let state = Self { live, declared: Arc::new(declared), declaration, ..self.clone() };
        Ok((state, effects))
    }

    /// The effect of a change of a split's weights: to which, what was said of pins, and what holds if nothing was.
    fn weighted(
        &self,
        config: &Config,
        split: &str,
        to: impl FnOnce(&History) -> Result<(Weights, Option<PinsOnChange>, PinsOnChange), Refusal>,
    ) -> Result<Effect, Refusal> {
        let (split, history) = self
            .histories
            .get_key_value(split)
            .ok_or_else(|| Refusal::Split(Unknown::new(split, self.histories.keys())))?;
        let before = history.current().weights.clone();
        let (after, said, otherwise) = to(history)?;
        let pins = said.unwrap_or(otherwise);
        let released = match pins {
            PinsOnChange::Release if has_pins(config, split) => {
                released(&before, &after, said == Some(PinsOnChange::Release))
            }
            _ => Vec::new(),
        };
        Ok(Effect::Weights { split: split.clone(), before, after, pins, released })
    }

    /// The weights that a split had at a revision.
    fn at(&self, history: &History, number: u64) -> Result<Weights, Refusal> {
        let (oldest, newest) = (history.oldest().number, self.revision);
        let there = (number <= newest).then(|| history.at(number)).flatten();
        let revision = there.ok_or(Refusal::Revision { asked: number, oldest, newest })?;
        Ok(revision.weights.clone())
    }

    /// This state after a change, and the change with its revision.
    fn with(&self, mut change: Change) -> (State, Change) {
        let mut next = self.clone();
        if !change.changed() {
            if let Effect::Weights { split, .. } = change.effect() {
                change.revision = self.histories[split].current().number;
            }
            return (next, change);
        }
        if let Effect::Weights { split, after, released, .. } = change.effect() {
            for pool in released {
                // Two releases are told apart by their moments, however quickly one follows the other.
                let moment = next.live.released.entry((split.clone(), pool.clone())).or_insert(change.at);
                *moment = change.at.max(*moment + RELEASES_APART);
            }
            next.live.weights.insert(split.clone(), after.clone());
        }
        pools::carry_out(&mut next.live.pools, change.effect());
        next.advanced(change)
    }

    /// This state, whose live part is that after a change already, as the next revision; the same if nothing changed.
    fn advanced(mut self, mut change: Change) -> (State, Change) {
        if change.changed() {
            self.revision += 1;
            change.revision = self.revision;
            self.remember(&change);
        }
        (self, change)
    }

    /// The object that shows a setting of the file, beside the file itself: `pool.blue.balance` is one of pool blue.
    fn shows(&self, effect: &Effect) -> Option<Object> {
        let Effect::Setting { key, .. } = effect else { return None };
        let (table, path) = key.split_once('.')?;
        match table {
            "pool" => first_of(self.live.pools.keys(), path).map(Object::Pool),
            "split" => first_of(self.live.weights.keys(), path).map(Object::Split),
            _ => None,
        }
    }

    /// Takes down what a change was about.
    fn remember(&mut self, change: &Change) {
        let Change { revision: number, at, kind, author, effects } = change;
        let (number, at, kind) = (*number, *at, *kind);
        self.latest = self.latest.max(at);
        for effect in effects {
            let revision = |weights: &Weights, released: &[Name]| {
                let (author, weights, released) = (author.clone(), weights.clone(), released.to_vec());
                Revision { number, at, author, kind, weights, released }
            };
            match effect {
                Effect::Weights { split, after, released, .. } => {
                    let next = revision(after, released);
                    let history = match self.histories.get(split) {
                        Some(history) => history.with(next),
                        None => History::new(next),
                    };
                    self.histories.insert(split.clone(), Arc::new(history));
                }
                Effect::Split { split, weights: Some(weights) } => {
                    let history = History::new(revision(weights, &[]));
                    self.histories.insert(split.clone(), Arc::new(history));
                }
                Effect::Split { split, weights: None } => drop(self.histories.remove(split)),
                Effect::Endpoint { .. } | Effect::Pool { .. } | Effect::Setting { .. } => {}
            }
            self.touched.insert(Object::of(effect), number);
            if let Some(object) = self.shows(effect) {
                self.touched.insert(object, number);
            }
        }
    }
}

/// The name that a path of keys begins with; names may have dots themselves.
fn first_of<'a>(mut names: impl Iterator<Item = &'a Name>, path: &str) -> Option<Name> {
    let begins = |name: &&Name| {
        path.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    names.find(begins).cloned()
}

impl Object {
    fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Weights { split, .. } | Effect::Split { split, .. } => Self::Split(split.clone()),
            Effect::Endpoint { pool, .. } | Effect::Pool { pool, .. } => Self::Pool(pool.clone()),
            Effect::Setting { .. } => Self::File,
        }
    }
}

/// The effect of a file that says the same in another way: in another order, which may matter, or with other comments.
fn of_text(before: &Declaration, after: &Declaration) -> Effect {
    let digest = |of: &Declaration| Some(serde_json::Value::from(format!("sha256:{}", of.text)));
    Effect::Setting { key: "text".into(), before: digest(before), after: digest(after) }
}

#[cfg(test)]
mod tests;
