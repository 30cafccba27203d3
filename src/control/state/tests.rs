//! What commands make of a state, in whatever order they come.

use proptest::prelude::*;

use super::*;
use crate::control::{
    refusal::WeightFault,
    samples::{POOLS, config},
};

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
