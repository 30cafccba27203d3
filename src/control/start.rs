//! With which state the control plane begins: what was kept, as the file that is there now changes it.

use std::{sync::Arc, time::SystemTime};

use super::{
    change::{Author, Change, Kind, Origin},
    command::Command,
    declaration::Source,
    state::State,
    store::{Backend, Entry, Kept, StoreError, document::Document},
};
use crate::config::{self, Config};

/// The state to begin with, and the file that is in force: the one on disk, or one that was applied since that was last
/// changed. It is durable when this returns.
pub(super) fn state(
    store: &mut impl Backend,
    disk: &Arc<Config>,
    at: SystemTime,
) -> Result<(State, Arc<Config>), StoreError> {
    let Some(kept) = store.load()? else {
        let (state, change) = State::declared(disk, at);
        keep(store, &state, change)?;
        return Ok((state, Arc::clone(disk)));
    };
    let state =
        resumed(&kept).map_err(|why| StoreError::Damaged { path: kept.path.clone(), why, copy: None })?;
    let (config, source) = in_force(&state, &kept, disk);
    let author = Author::from(Origin::File);
    let at = state.moment(at);
    let load = Command::Load { config: Arc::clone(&config), source };
    let applied = state.apply(&config, &load, &author, at);
    let (next, change) =
        applied.unwrap_or_else(|refusal| unreachable!("a checked file is not refused: {refusal}"));
    tracing::info!(revision = state.revision(), "the live state goes on from where it was left");
    if change.changed() {
        keep(store, &next, Change { kind: Kind::Load, ..change })?;
    }
    Ok((next, config))
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

fn resumed(kept: &Kept) -> Result<State, String> {
    let (live, file) = Document::read(&kept.state).map_err(|error| error.to_string())?;
    Ok(State::resumed(kept.revision, live, file, &kept.changes))
}

fn keep(store: &mut impl Backend, state: &State, change: Change) -> Result<(), StoreError> {
    let state = Some(Document::of(state).to_text());
    store.commit(&Entry { change, state, applied: None, receipt: None })
}
