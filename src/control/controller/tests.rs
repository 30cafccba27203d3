//! The controller as its handle sees it: one command after the other, whatever goes wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use super::{departures::endpoints_of, *};
use crate::{
    config::Config,
    control::{
        change::Origin,
        command::Command,
        handle::{Control, ControlError, Request},
        samples::config,
        snapshot::Snapshot,
        store::sqlite::{Place, Sqlite},
    },
    model::live_state::{Drain, LiveEndpoint, PinsOnDrain},
    routing,
    upstream::occupancy::Claim,
};

/// Compiles as ever, but never for one set of weights, and for another from the second time on.
fn broken(
    generation: u64,
    config: &Config,
    state: &LiveState,
    resolved: &Resolved,
    endpoints: &mut upstream::registry::Registry,
    series: &Series,
    previous: Option<&Table>,
) -> Table {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    let bug = match state.weights["shop"].of("green") {
        Some(13) => true,
        Some(31) => !HAS_FAILED.swap(true, Ordering::Relaxed),
        _ => false,
    };
    assert!(!bug, "the bug that the test is about");
    routing::build::build(generation, config, state, resolved, endpoints, series, previous)
}

fn start() -> (Controller, Control, Live) {
    let store = Sqlite::open(Place::Memory).unwrap();
    Controller::compiling_with(broken, Arc::new(config(&[95, 5])), Arc::default(), store).unwrap()
}

fn put(green: u64) -> Command {
    let weights = vec![("blue".to_owned(), 50), ("green".to_owned(), green)];
    Command::SetWeights { split: "shop".into(), weights, pins: None }
}

fn counted(control: &Control, outcome: &str) -> u64 {
    control.tally().all().filter(|(_, of, _)| *of == outcome).map(|(_, _, count)| count).sum()
}

#[tokio::test]
async fn an_answered_change_is_in_force_and_a_repeated_one_builds_nothing() {
    let (controller, control, live) = start();
    let task = tokio::spawn(controller.run());
    for (generation, changed) in [(2, true), (2, false)] {
        let change = control.change(Request::new(put(50), Origin::Api.into())).await.unwrap();
        assert_eq!((change.revision, change.changed()), (1, changed));
        assert_eq!((live.table().generation, control.snapshot().table.generation), (generation, generation));
    }
    assert!(control.preview(&Request::new(put(60), Origin::Api.into())).unwrap().changed());
    assert_eq!((live.table().generation, control.snapshot().state.revision()), (2, 1));
    drop(control);
    task.await.unwrap();
}

#[tokio::test]
async fn a_bug_in_one_command_changes_nothing_and_the_next_is_served() {
    let (controller, control, live) = start();
    tokio::spawn(controller.run());
    assert_eq!(control.change(Request::new(put(13), Origin::Api.into())).await, Err(ControlError::Failed));
    assert_eq!((live.table().generation, control.snapshot().state.revision()), (1, 0));
    assert!(control.is_alive());
    assert_eq!(control.change(Request::new(put(14), Origin::Api.into())).await.unwrap().revision, 1);
    assert_eq!((counted(&control, "failed"), counted(&control, "applied")), (1, 1));
}

/// Fails at the first event that tells of a change.
struct Failing(std::sync::atomic::AtomicBool);

impl tracing::Subscriber for Failing {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let tells = event.metadata().target().ends_with("announcement");
        let bug = tells && !self.0.swap(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!bug, "the bug that the test is about");
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn what_is_kept_is_in_force_though_a_bug_was_in_the_way() {
    let (controller, control, live) = start();
    let _failing = tracing::subscriber::set_default(Failing(false.into()));
    tokio::spawn(controller.run());
    for revision in [1, 2] {
        let answer = control.change(Request::new(put(50 + revision), Origin::Api.into())).await;
        assert_eq!(answer.expect("it is kept, so it is answered").revision, revision);
        assert_eq!(control.snapshot().state.revision(), revision, "what was answered is in force");
        assert!(control.store().find(revision).await.unwrap().is_some());
    }
    assert_eq!(control.snapshot().table.generation, live.table().generation);
    assert!(live.table().generation >= 3);
}

#[tokio::test]
async fn what_a_successor_has_answered_comes_into_force_though_a_bug_was_in_the_way() {
    let folder = std::env::temp_dir().join(format!("switchback-custody-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let place = || Place::File(folder.join("state.db"));
    let config = Arc::new(config(&[95, 5]));
    let store = Sqlite::open(place()).unwrap();
    let (controller, control, live) =
        Controller::compiling_with(broken, Arc::clone(&config), Arc::default(), store).unwrap();
    tokio::spawn(controller.run());
    control.hand_over().await.unwrap();
    let (successor, successors, _) =
        Controller::open(config, Arc::default(), Sqlite::inherit(place()).unwrap()).unwrap();
    let serving = tokio::spawn(successor.run());
    successors.change(Request::new(put(31), Origin::Api.into())).await.unwrap();
    successors.hand_over().await.unwrap();
    drop(successors);
    serving.await.unwrap();
    assert_eq!(control.take_back().await, Err(ControlError::NotInForce(1)));
    assert_eq!((control.snapshot().state.revision(), live.table().generation), (0, 1), "a bug is in the way");
    let answer = control.change(Request::new(put(31), Origin::Api.into())).await.unwrap();
    assert!(!answer.changed(), "it is what the successor had answered");
    assert_eq!(control.snapshot().state.live().weights["shop"].of("green"), Some(31));
    assert_eq!((control.snapshot().state.revision(), live.table().generation), (answer.revision, 2));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn more_than_may_wait_are_turned_away_at_once() {
    let (controller, control, _live) = start();
    let waiting: Vec<_> = (0..MAX_WAITING as u64)
        .map(|green| {
            let control = control.clone();
            tokio::spawn(
                async move { control.change(Request::new(put(100 + green), Origin::Api.into())).await },
            )
        })
        .collect();
    while control.orders.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(control.change(Request::new(put(1), Origin::Api.into())).await, Err(ControlError::Busy));
    tokio::spawn(controller.run());
    for change in waiting {
        assert!(change.await.unwrap().is_ok());
    }
    assert_eq!((counted(&control, "busy"), counted(&control, "applied")), (1, MAX_WAITING as u64));
}

#[tokio::test]
async fn a_thousand_endpoints_whose_drains_end_together_are_removed_in_few_revisions() {
    const MANY: u16 = 1_000;
    let (controller, control, live) = start();
    tokio::spawn(controller.run());
    let restore = async |state: &LiveState| {
        let command = Command::Restore { revision: 0, live: Arc::new(state.clone()) };
        control.change(Request::new(command, Origin::Api.into())).await.expect("it is taken").revision
    };
    let endpoint = |port| LiveEndpoint {
        address: std::net::SocketAddr::from(([10, 9, 0, 1], port)).into(),
        weight: 1,
        drain: None,
        is_leaving: false,
    };
    let mut state = control.snapshot().state.live().clone();
    let blue = state.pools.get_mut("blue").expect("it is declared");
    blue.endpoints = (1..=MANY).map(endpoint).collect();
    restore(&state).await;
    // Each has a request in flight, so that none ends before all do.
    let held: Vec<_> = endpoints_of(&live.table()).map(|(endpoint, _)| Arc::clone(endpoint)).collect();
    assert_eq!(held.len(), usize::from(MANY));
    assert!(held.iter().all(|endpoint| endpoint.occupancy.claim(u64::MAX) == Claim::Granted));
    let drain =
        Drain { since: SystemTime::now(), deadline: None, stream_deadline: None, pins: PinsOnDrain::Move };
    for endpoint in &mut state.pools.get_mut("blue").expect("it is declared").endpoints {
        (endpoint.drain, endpoint.is_leaving) = (Some(drain), true);
    }
    let deleted = restore(&state).await;
    held.iter().for_each(|endpoint| endpoint.occupancy.release());
    let is_empty = |snapshot: &Arc<Snapshot>| snapshot.state.live().pools["blue"].endpoints.is_empty();
    control.changes().wait_for(is_empty).await.expect("the controller lives");
    let revisions = control.snapshot().state.revision() - deleted;
    assert!((1..=2).contains(&revisions), "{revisions} revisions for {MANY} endpoints");
}

#[tokio::test]
async fn without_its_controller_a_change_is_refused_and_not_awaited() {
    let (controller, control, _live) = start();
    drop(controller);
    assert!(!control.is_alive());
    assert_eq!(control.change(Request::new(put(1), Origin::Api.into())).await, Err(ControlError::Stopped));
}
