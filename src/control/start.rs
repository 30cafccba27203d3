//! With which state the control plane begins: what was kept, as the file that is there now changes it.

use std::time::SystemTime;

use super::{
    change::{Author, Change, Kind, Origin},
    command::Command,
    state::State,
    store::{Backend, Entry, Kept, StoreError, document::Document},
};
use crate::config::Config;

/// The state to begin with. It is durable when this returns.
pub(super) fn state(
    store: &mut impl Backend,
    config: &std::sync::Arc<Config>,
    at: SystemTime,
) -> Result<State, StoreError> {
    let Some(kept) = store.load()? else {
        let (state, change) = State::declared(config, at);
        keep(store, &state, change)?;
        return Ok(state);
    };
    let state =
        resumed(&kept).map_err(|why| StoreError::Damaged { path: kept.path.clone(), why, copy: None })?;
    let author = Author::from(Origin::File);
    let load = Command::Load { config: std::sync::Arc::clone(config) };
    let applied = state.apply(config, &load, &author, at);
    let (next, change) =
        applied.unwrap_or_else(|refusal| unreachable!("a checked file is not refused: {refusal}"));
    tracing::info!(revision = state.revision(), "the live state goes on from where it was left");
    if change.changed() {
        keep(store, &next, Change { kind: Kind::Load, ..change })?;
    }
    Ok(next)
}

fn resumed(kept: &Kept) -> Result<State, String> {
    let (live, file) = Document::read(&kept.state).map_err(|error| error.to_string())?;
    Ok(State::resumed(kept.revision, live, file, &kept.changes))
}

fn keep(store: &mut impl Backend, state: &State, change: Change) -> Result<(), StoreError> {
    let state = Some(Document::of(state).to_text());
    store.commit(&Entry { change, state, receipt: None })
}
