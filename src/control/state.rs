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
    declaration::Declaration,
    difference, fixed,
    history::{self, History, Revision},
    merge, pools,
    refusal::{Refusal, Unknown, WeightFault},
};
use crate::{
    config::Config,
    model::{live_state::LiveState, name::Name, weights::Weights},
};

/// The weight that a switch gives to the pool that takes everything.
const SWITCHED: u32 = 100;

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
                let declared = next.declared_state(at);
                let faults = fixed::faults(config, next, *source);
                if !faults.is_empty() {
                    return Err(Refusal::File(faults));
                }
                if self.declaration.holds_against(next, *source) {
                    return Ok((self.clone(), change(Vec::new())));
                }
                let live = merge::merged(&self.declared, &declared, &self.live);
                let mut effects = difference::of_live(&self.live, &live);
                if config.text != next.text {
                    effects.extend(difference::of_files(&config.document(), &next.document()));
                }
                effects.extend(difference::of_references(config, next));
                let declaration = self.declaration.after(next, *source);
                if effects.is_empty() && declaration.text != self.declaration.text {
                    effects.push(of_text(&self.declaration, &declaration));
                }
                let state = Self { live, declared: Arc::new(declared), declaration, ..self.clone() };
                return Ok(state.advanced(change(effects)));
            }
            Command::Restore { live: then, .. } => {
                let live = merge::restored(then, &self.live);
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
        }
    }
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

fn has_pins(config: &Config, split: &Name) -> bool {
    config.splits.iter().any(|settings| settings.name == *split && settings.sticky.is_some())
}

/// The pools whose pins are released by a change of weights: those whose share falls, and where that `is_asked` for in so
/// many words, every one of weight 0.
fn released(before: &Weights, after: &Weights, is_asked: bool) -> Vec<Name> {
    let falls = |pool: &Name| history::gain(pool, before, after) < 0;
    let released = after.iter().filter(|(pool, weight)| falls(pool) || (is_asked && *weight == 0));
    released.map(|(pool, _)| pool.clone()).collect()
}

/// A whole set of weights over the pools of `current`, in their order; a pool that is not named gets 0.
fn whole_set(current: &Weights, named: &[(String, u64)]) -> Result<Weights, Vec<WeightFault>> {
    let mut faults = Vec::new();
    let mut set: Vec<(Name, Option<u32>)> = current.iter().map(|(pool, _)| (pool.clone(), None)).collect();
    for (pool, weight) in named {
        let Some((name, place)) = set.iter_mut().find(|(name, _)| name.as_str() == pool) else {
            faults.push(WeightFault::Pool(unknown_pool(current, pool)));
            continue;
        };
        let valid = u32::try_from(*weight).ok().filter(|weight| *weight <= Weights::MAX);
        if place.is_some() {
            faults.push(WeightFault::Repeated(name.clone()));
        } else if valid.is_none() {
            faults.push(WeightFault::TooLarge(name.clone(), *weight));
        }
        *place = Some(valid.unwrap_or(Weights::MAX));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    // The names are the split's own, each once, and the weights are in range: only their sum can be wrong.
    Weights::new(set.into_iter().map(|(pool, weight)| (pool, weight.unwrap_or(0))).collect())
        .map_err(|_| vec![WeightFault::AllZero])
}

/// The weights that are named, and those in force of the pools that are not.
fn completed(current: &Weights, named: &[(String, u64)]) -> Vec<(String, u64)> {
    let others = current.iter().filter(|(pool, _)| !named.iter().any(|(name, _)| name == pool.as_str()));
    let others = others.map(|(pool, weight)| (pool.to_string(), weight.into()));
    named.iter().cloned().chain(others).collect()
}

fn switched(current: &Weights, to: &str) -> Result<Weights, Refusal> {
    if current.of(to).is_none() {
        return Err(Refusal::Pool(unknown_pool(current, to)));
    }
    let weight = |pool: &Name| if pool.as_str() == to { SWITCHED } else { 0 };
    let set = current.iter().map(|(pool, _)| (pool.clone(), weight(pool))).collect();
    Ok(Weights::new(set).expect("one pool of the split has a weight above 0"))
}

fn unknown_pool(current: &Weights, name: &str) -> Unknown {
    let pools: Vec<&Name> = current.iter().map(|(pool, _)| pool).collect();
    Unknown::new(name, pools.iter().copied())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const POOLS: [&str; 3] = ["blue", "green", "red"];

    pub(crate) fn config(weights: &[u32]) -> Config {
        let named: Vec<_> =
            weights.iter().zip(POOLS).map(|(weight, pool)| format!("{pool} = {weight}")).collect();
        let pools: String = POOLS.iter().map(|pool| format!("[pool.{pool}]\nendpoints = []\n")).collect();
        let file = format!(
            "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n{pools}[split.shop]\nweights = {{ {} }}\n\
             [[route]]\nname = \"shop\"\nsplit = \"shop\"\n",
            named.join(", ")
        );
        crate::config::parse("test.toml", &file).expect("the sample is good").0
    }

    const STICKY: &str = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n[pool.blue]\nendpoints = []\n\
                          [split.shop]\nweights = { blue = 1 }\nsticky = { cookie = \"sb\" }\n\
                          [[route]]\nname = \"shop\"\nsplit = \"shop\"\n";

    fn declared(weights: &[u32]) -> State {
        State::declared(&config(weights), SystemTime::UNIX_EPOCH).0
    }

    fn put(weights: &[(&str, u64)]) -> Command {
        let weights = weights.iter().map(|(pool, weight)| ((*pool).to_owned(), *weight)).collect();
        Command::SetWeights { split: "shop".into(), weights, pins: None }
    }

    fn rollback() -> Command {
        Command::Rollback { split: "shop".into(), to_revision: None, pins: None }
    }

    fn apply(state: &State, command: &Command) -> Result<(State, Change), Refusal> {
        state.apply(&config(&[1]), command, &Origin::Api.into(), SystemTime::UNIX_EPOCH)
    }

    fn weights(change: &Change) -> (&Weights, &Weights) {
        let Effect::Weights { before, after, .. } = change.effect() else { panic!("it is about weights") };
        (before, after)
    }

    fn pins(change: &Change) -> (PinsOnChange, Vec<&str>) {
        let Effect::Weights { pins, released, .. } = change.effect() else { panic!("it is about weights") };
        (*pins, released.iter().map(Name::as_str).collect())
    }

    fn in_force(state: &State) -> Vec<u32> {
        state.live().weights["shop"].iter().map(|(_, weight)| weight).collect()
    }

    #[test]
    fn a_set_is_put_whole_and_reads_back_as_it_was_put() {
        let (state, change) = apply(&declared(&[95, 5]), &put(&[("green", 0), ("blue", 7)])).unwrap();
        assert_eq!((in_force(&state), change.revision, state.revision()), (vec![7, 0], 1, 1));
        let (state, _) = apply(&state, &put(&[("green", 3)])).unwrap();
        assert_eq!(in_force(&state), [0, 3]);
        let (state, change) = apply(&state, &put(&[("green", 3), ("blue", 0)])).unwrap();
        assert_eq!((change.changed(), change.revision, state.revision()), (false, 2, 2));
    }

    #[test]
    fn a_wrong_set_is_refused_with_everything_that_is_wrong_with_it() {
        let state = declared(&[95, 5]);
        let set = put(&[("gren", 1), ("blue", 1_000_001), ("green", 1), ("green", 2), ("blue", u64::MAX)]);
        let Err(Refusal::Weights(faults)) = apply(&state, &set) else { panic!("it is wrong") };
        let blue = Name::new("blue").unwrap();
        let green = Name::new("green").unwrap();
        let known = vec![blue.to_string(), green.to_string()];
        let unknown = Unknown { name: "gren".into(), known, nearest: Some(green.to_string()) };
        assert_eq!(
            faults,
            [
                WeightFault::Pool(unknown),
                WeightFault::TooLarge(blue.clone(), 1_000_001),
                WeightFault::Repeated(green),
                WeightFault::Repeated(blue),
            ]
        );
        for zero in [put(&[]), put(&[("blue", 0)]), put(&[("blue", 0), ("green", 0)])] {
            assert_eq!(apply(&state, &zero).unwrap_err(), Refusal::Weights(vec![WeightFault::AllZero]));
        }
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let state = declared(&[95, 5]);
        let unknown = Command::Switch { split: "shp".into(), to: "green".into(), pins: None };
        let Err(Refusal::Split(said)) = apply(&state, &unknown) else { panic!("there is no such split") };
        assert_eq!(said.nearest.as_deref(), Some("shop"));
        let unknown = Command::Switch { split: "shop".into(), to: "purple".into(), pins: None };
        assert!(matches!(apply(&state, &unknown), Err(Refusal::Pool(_))));
        let unknown = Command::Rollback { split: "shop".into(), to_revision: Some(1), pins: None };
        let there = Refusal::Revision { asked: 1, oldest: 0, newest: 0 };
        assert_eq!(apply(&state, &unknown).unwrap_err(), there);
    }

    #[test]
    fn a_rollback_goes_back_over_the_whole_rise_once() {
        let mut state = declared(&[100, 0]);
        for green in [5, 25, 50] {
            state = apply(&state, &put(&[("blue", 100 - green), ("green", green)])).unwrap().0;
        }
        let (state, change) = apply(&state, &rollback()).unwrap();
        assert_eq!((in_force(&state), change.revision), (vec![100, 0], 4));
        let (state, change) = apply(&state, &rollback()).unwrap();
        assert_eq!((in_force(&state), change.changed(), change.revision), (vec![100, 0], false, 4));
        let back = Command::Rollback { split: "shop".into(), to_revision: Some(2), pins: None };
        assert_eq!(in_force(&apply(&state, &back).unwrap().0), [75, 25]);
    }

    #[test]
    fn pins_are_released_by_what_lowers_a_share_if_the_change_says_so() {
        let mut config = config(&[100, 0, 0]);
        let state = State::declared(&config, SystemTime::UNIX_EPOCH).0;
        let change = apply(&state, &put(&[("blue", 1), ("green", 1)])).unwrap().1;
        assert_eq!(pins(&change), (PinsOnChange::Keep, vec![]));
        // Without pins there are none to release.
        let plain = apply(&state, &release(put(&[("green", 1)]))).unwrap().1;
        assert_eq!(pins(&plain), (PinsOnChange::Release, vec![]));
        let sticky = crate::config::parse("test.toml", STICKY).unwrap().0.splits[0].sticky.clone();
        Arc::make_mut(&mut config.splits[0]).sticky = sticky;
        let mut state = State::declared(&config, SystemTime::UNIX_EPOCH).0;
        let mut last = None;
        for (command, released) in [
            (put(&[("blue", 1), ("green", 1)]), vec![]),
            // Blue's weight stays and its share falls, but nobody has said that its pins are released.
            (put(&[("blue", 1), ("green", 3)]), vec![]),
            (rollback(), vec!["green"]),
            (rollback(), vec![]),
            (release(put(&[("blue", 3), ("green", 1)])), vec!["blue", "red"]),
            (release(put(&[("blue", 3), ("green", 1)])), vec!["red"]),
            (release(put(&[("blue", 3), ("green", 1)])), vec!["red"]),
        ] {
            let (next, change) =
                state.apply(&config, &command, &Origin::Api.into(), SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(pins(&change).1, released, "{command:?}");
            if released.contains(&"red") {
                let red = (Name::new("shop").unwrap(), Name::new("red").unwrap());
                let moment = next.live().released.get(&red).copied();
                assert!(moment > last, "each release has a moment of its own");
                last = moment;
            }
            state = next;
        }
    }

    fn release(command: Command) -> Command {
        match command {
            Command::SetWeights { split, weights, .. } => {
                Command::SetWeights { split, weights, pins: Some(PinsOnChange::Release) }
            }
            other => other,
        }
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let weight = prop_oneof![Just(0u64), 0..=10u64, 0..=1_000_001u64];
        let pool = prop::sample::select(vec!["blue", "green", "red", "purple"]);
        let set = prop::collection::vec((pool.clone().prop_map(String::from), weight), 0..4);
        let split = || "shop".to_owned();
        prop_oneof![
            4 => set.prop_map(move |weights| Command::SetWeights { split: split(), weights, pins: None }),
            2 => pool.prop_map(move |to| Command::Switch { split: split(), to: to.to_owned(), pins: None }),
            1 => prop::option::of(0..30u64)
                .prop_map(move |to_revision| Command::Rollback { split: split(), to_revision, pins: None }),
        ]
    }

    proptest! {
        /// Whatever comes, in any order: a refusal changes nothing, a success is what its change says, revisions
        /// count up by one, and the pools stay the declared ones.
        #[test]
        fn a_state_stays_whole(commands in prop::collection::vec(any_command(), 0..40)) {
            let mut state = declared(&[8, 1, 1]);
            for command in commands {
                let Ok((next, change)) = apply(&state, &command) else { continue };
                let (before, after) = weights(&change);
                prop_assert_eq!(&state.live().weights["shop"], before);
                prop_assert_eq!(&next.live().weights["shop"], after);
                prop_assert_eq!(next.revision(), state.revision() + u64::from(change.changed()));
                prop_assert_eq!(&next.history("shop").unwrap().current().weights, after);
                prop_assert_eq!(next.history("shop").unwrap().current().number, change.revision);
                prop_assert!(after.iter().map(|(pool, _)| pool.as_str()).eq(POOLS));
                prop_assert!(after.sum() > 0);
                state = next;
            }
        }

        /// After whatever history, a rollback that is repeated changes nothing, and it never makes a split's weights
        /// anything that they have not been.
        #[test]
        fn a_rollback_is_repeatable_and_makes_nothing_up(commands in prop::collection::vec(any_command(), 0..40)) {
            let mut state = declared(&[8, 1, 1]);
            for command in commands {
                if let Ok((next, _)) = apply(&state, &command) {
                    state = next;
                }
            }
            let (once, change) = apply(&state, &rollback()).unwrap();
            prop_assert!(state.history("shop").unwrap().newest_first().any(|of| &of.weights == weights(&change).1));
            let (twice, change) = apply(&once, &rollback()).unwrap();
            prop_assert!(!change.changed());
            prop_assert_eq!(in_force(&twice), in_force(&once));
        }

        /// After whatever history: a rise of one pool in any number of steps is undone by one rollback, and a
        /// second rollback changes nothing.
        #[test]
        fn a_rise_in_steps_is_undone_by_one_rollback(
            earlier in prop::collection::vec(any_command(), 0..20),
            steps in prop::collection::btree_set(1..1_000u64, 1..12),
        ) {
            let mut state = declared(&[8, 1, 1]);
            for command in earlier {
                if let Ok((next, _)) = apply(&state, &command) {
                    state = next;
                }
            }
            // A rollback to where it is, or a fall of green, so that the rise begins here.
            let base = [("blue", 1_000), ("green", 0)];
            state = apply(&state, &put(&[("green", 1)])).unwrap().0;
            state = apply(&state, &put(&base)).unwrap().0;
            for green in steps {
                state = apply(&state, &put(&[("blue", 1_000 - green), ("green", green)])).unwrap().0;
            }
            let (state, _) = apply(&state, &rollback()).unwrap();
            prop_assert_eq!(in_force(&state), [1_000, 0, 0]);
            let (again, change) = apply(&state, &rollback()).unwrap();
            prop_assert!(!change.changed());
            prop_assert_eq!(again.revision(), state.revision());
        }
    }
}
