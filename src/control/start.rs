//! With which state the control plane begins: what was kept, as the file that is there now changes it.
//!
//! Invariant: nothing is written here, so that a process that does not come to serve has changed nothing.

use std::{sync::Arc, time::SystemTime};

use super::{
    change::{Author, Change, Kind, Origin},
    command::Command,
    declaration::Source,
    state::State,
    store::{
        Backend, Entry, Kept, StoreError, copy,
        document::{Document, UnreadableDocument},
    },
};
use crate::config::{self, Config};

/// What to begin with.
pub(super) struct Beginning {
    pub(super) state: State,
    /// The file that is in force: the one on disk, or one that was applied since that was last changed.
    pub(super) config: Arc<Config>,
    /// What has to be kept before the state is in force, oldest first.
    pub(super) entries: Vec<Entry>,
}

/// The state to begin with. What was `passed` on, oldest first, was kept by a predecessor, here or elsewhere.
pub(super) fn state(
    store: &mut impl Backend,
    passed: Vec<Entry>,
    disk: &Arc<Config>,
    at: SystemTime,
) -> Result<Beginning, StoreError> {
    let (kept, mut entries) = continued(store, passed)?;
    let Some(kept) = kept else {
        let (state, change) = State::declared(disk, at);
        let entries = vec![entry(&state, change)];
        return Ok(Beginning { state, config: Arc::clone(disk), entries });
    };
    let state = resumed(&kept)?;
    let (config, source) = in_force(&state, &kept, disk);
    let author = Author::from(Origin::File);
    let at = state.moment(at);
    let load = Command::Load { config: Arc::clone(&config), source };
    let applied = state.apply(&config, &load, &author, at);
    let (next, change) =
        applied.unwrap_or_else(|refusal| unreachable!("a checked file is not refused: {refusal}"));
    tracing::info!(revision = state.revision(), "the live state goes on from where it was left");
    entries.extend(change.changed().then(|| entry(&next, Change { kind: Kind::Load, ..change })));
    Ok(Beginning { state: next, config, entries })
}

/// What was kept, with what was passed on, and what of that is not kept here yet.
fn continued(
    store: &mut impl Backend,
    mut passed: Vec<Entry>,
) -> Result<(Option<Kept>, Vec<Entry>), StoreError> {
    let kept = store.load()?;
    let Some(newest) = passed.last().cloned() else { return Ok((kept, passed)) };
    let mut changes = Vec::new();
    let path = match kept {
        None => "what the predecessor has passed on".into(),
        Some(kept) => {
            // A start may have failed when some of it was written here.
            let newest_here = passed.iter().position(|entry| is_newest(entry, &kept));
            let Some(place) = newest_here else {
                return Err(StoreError::Other { path: kept.path, revision: kept.revision });
            };
            if place + 1 == passed.len() {
                return Ok((Some(kept), Vec::new()));
            }
            passed.drain(..=place);
            changes = kept.changes;
            kept.path
        }
    };
    changes.extend(passed.iter().map(|entry| entry.change.clone()));
    let Entry { change, state, applied, .. } = newest;
    let kept = Kept { path, revision: change.revision, state: state.unwrap_or_default(), applied, changes };
    Ok((Some(kept), passed))
}

/// Whether it is what is kept, and nothing after it is.
fn is_newest(entry: &Entry, kept: &Kept) -> bool {
    let is_alike = kept.changes.last() == Some(&entry.change);
    is_alike && entry.state.as_deref() == Some(kept.state.as_str())
}

/// Which declaration is the newest.
fn in_force(state: &State, kept: &Kept, disk: &Arc<Config>) -> (Arc<Config>, Source) {
    let declaration = state.declaration();
    if !declaration.is_applied() || declaration.disk != disk.digest() {
        return (Arc::clone(disk), Source::Disk);
    }
    let applied = kept.applied.as_deref().map(|text| config::parse("the applied file", text));
    match applied {
        Some(Ok((applied, _))) if applied.digest() == declaration.text => {
            tracing::info!("a file that was applied through the admin API is in force, not the one on disk");
            (Arc::new(applied), Source::Applied)
        }
        Some(Err(errors)) => {
            tracing::error!(%errors, "the file that was applied can't be used any more; the one on disk is");
            (Arc::clone(disk), Source::Disk)
        }
        _ => {
            tracing::error!("the file that was applied is not in the store; the one on disk is used");
            (Arc::clone(disk), Source::Disk)
        }
    }
}

/// The newest state that is kept.
pub(super) fn resumed(kept: &Kept) -> Result<State, StoreError> {
    let damaged = |error: UnreadableDocument| StoreError::Damaged {
        path: kept.path.clone(),
        why: error.to_string(),
        copy: copy::newest(&kept.path),
    };
    let (live, file) = Document::read(&kept.state).map_err(damaged)?;
    let touched = Document::touched(&kept.state).map_err(damaged)?;
    let oldest = kept.changes.first().map_or(kept.revision, |oldest| oldest.revision);
    Ok(State::resumed(kept.revision, live, file, &kept.changes).recalling(touched, oldest))
}

fn entry(state: &State, change: Change) -> Entry {
    Entry { change, state: Some(Document::of(state).to_text()), applied: None, receipt: None }
}
