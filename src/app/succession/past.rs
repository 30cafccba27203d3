//! What the store of a predecessor held, and the store in which its successor goes on.
//!
//! Invariant: a successor that keeps its state elsewhere begins with what was in force, and nothing is written there before it
//! serves.

use std::path::PathBuf;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::channel::MAX_MESSAGE;
use crate::{
    app::control_plane::ControlPlane,
    config::{Config, StatePlace},
    control::{
        change::Change,
        store::{
            Entry,
            sqlite::{Place, Sqlite},
        },
    },
};

/// The revisions that a successor is told, as far as they fit a message.
const TOLD: usize = 100;
/// What the revisions of a [`Past`] may take of a message: half of the largest.
const MAX_BYTES: usize = MAX_MESSAGE / 2;

/// What a store holds, as a successor is told it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// Where it is; `None` if the predecessor does not say so.
    place: Option<PathBuf>,
    /// The newest revisions with the state after each, oldest first. None if they could not be read.
    pub(super) revisions: Vec<(Change, String)>,
    /// What they take of a message.
    #[serde(skip)]
    bytes: usize,
    /// The text of the file that was applied, if one is in force.
    applied: Option<String>,
}

impl Past {
    /// Takes the revision before the oldest; false if there is no room for it. There is for the first.
    fn take_older(&mut self, revision: (Change, String)) -> bool {
        let bytes = serde_json::to_vec(&revision).map_or(MAX_BYTES, |text| text.len());
        let fits = self.revisions.is_empty() || self.bytes + bytes <= MAX_BYTES;
        if fits {
            self.bytes += bytes;
            self.revisions.insert(0, revision);
        }
        fits
    }

    /// As they are kept. The file that was applied belongs to the newest.
    fn into_entries(self) -> Vec<Entry> {
        let entry = |(change, state)| Entry { change, state: Some(state), applied: None, receipt: None };
        let mut entries: Vec<_> = self.revisions.into_iter().map(entry).collect();
        if let Some(newest) = entries.last_mut() {
            newest.applied = self.applied;
        }
        entries
    }
}

impl ControlPlane {
    /// What the store holds. It is read while no change is taken, and before the store is given up.
    pub(in crate::app) async fn past(&self) -> Past {
        let snapshot = self.control.snapshot();
        let place = place(&snapshot.config).resolved().ok().map(|place| place.path());
        let mut past = Past { place, ..Past::default() };
        let store = self.control.store();
        // Where nothing can be read, a successor can go on only in the same place.
        for change in store.page(None, TOLD).await.unwrap_or_default() {
            let Ok(Some(revision)) = store.find(change.revision).await else { break };
            if !past.take_older(revision) {
                let revisions = past.revisions.len();
                tracing::info!(revisions, "older revisions are too long to be handed over");
                break;
            }
        }
        past.applied = snapshot.state.declaration().is_applied().then(|| snapshot.config.text.to_string());
        past
    }
}

/// The store that the file names, and what a predecessor had in its own.
pub(in crate::app) fn store(
    config: &Config,
    past: Past,
    is_succession: bool,
) -> anyhow::Result<(Sqlite, Vec<Entry>)> {
    if config.state.is_none() && config.admin.is_some() {
        tracing::warn!(
            "live changes are not kept over a restart: name a [state] path to keep them, and their history"
        );
    }
    let place = place(config).resolved()?;
    let is_same = past.place.as_ref().is_none_or(|before| *before == place.path());
    if is_succession && !is_same {
        let (before, now) = (past.place.clone().unwrap_or_default(), place.path());
        let (before, now) = (before.display(), now.display());
        ensure!(
            !past.revisions.is_empty(),
            "what {before} holds could not be read, so the state can't go on in {now}"
        );
        tracing::info!("the state goes on in {now}, no longer in {before}");
    }
    // A predecessor had its own checked, and changes are refused until this process has it.
    let store = if is_succession && is_same { Sqlite::inherit(place)? } else { Sqlite::open(place)? };
    Ok((store, past.into_entries()))
}

/// Where a file has its state kept.
fn place(config: &Config) -> Place {
    match &config.state {
        Some(StatePlace::File(path)) => Place::File(path.clone()),
        Some(StatePlace::Memory) | None => Place::Memory,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn as_many_revisions_go_along_as_fit_a_message() {
        let change = |revision| -> Change {
            let text = json!({ "revision": revision, "kind": "load", "origin": "file", "at": "2026-01-01T00:00:00Z", "effects": [] });
            serde_json::from_value(text).expect("it is as it is written")
        };
        // Each quote takes two bytes in the message, so that two of these are too much.
        let state = "\"".repeat(MAX_BYTES / 4 + 1);
        let mut past = Past::default();
        assert!(past.take_older((change(3), "x".repeat(MAX_BYTES))), "the newest is needed");
        assert!(!past.take_older((change(2), String::new())));
        let mut past = Past { applied: Some("a file".into()), ..Past::default() };
        assert!(past.take_older((change(3), String::new())) && past.take_older((change(2), state.clone())));
        assert!(!past.take_older((change(1), state)));
        let entries = past.into_entries();
        let told: Vec<_> =
            entries.iter().map(|entry| (entry.change.revision, entry.applied.is_some())).collect();
        assert_eq!(told, [(2, false), (3, true)], "oldest first");
    }
}
