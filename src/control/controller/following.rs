//! A process that was replaced decides what it still serves by what is in force in its successor.
//!
//! Invariant: it keeps nothing and answers no change; it compiles what it is told, and says when it decides by it. Its own
//! predecessor, if that has not ended either, is told in turn before.

use std::{sync::Arc, time::Duration};

use super::{Controller, custody::Custody};
use crate::{
    config,
    control::{
        handle::ControlError, snapshot::Snapshot, state::State, store::document::Document, succession::Told,
    },
};

impl Controller {
    /// Puts in force what the successor says to be.
    pub(super) async fn go_by(&mut self, told: Told) -> Result<(), ControlError> {
        if self.custody != Custody::HandedOver {
            return Err(ControlError::Busy);
        }
        self.guarded(|controller| controller.put_told_in_force(&told))?;
        self.have_gone_by(Duration::from_millis(told.within_ms / 2)).await;
        Ok(())
    }

    fn put_told_in_force(&mut self, told: &Told) -> Result<(), ControlError> {
        let before = Arc::clone(&self.snapshot.borrow());
        let config = match *before.config.text == told.file {
            true => Arc::clone(&before.config),
            false => {
                let read = config::parse("the successor's file", &told.file);
                let (config, _) = read.map_err(|errors| not_understood(&errors))?;
                Arc::new(config.sharing(&before.config))
            }
        };
        let (live, file) = Document::read(&told.state).map_err(|error| not_understood(&error))?;
        let state = State::resumed(told.revision, live, file, []);
        let table = self.compiled(&config, &state, &before.resolved, &before.table);
        let mut taken = before.taken.clone();
        taken.keep_those_of(&state);
        self.publish(Snapshot { config, state, table, taken, ..Snapshot::clone(&before) });
        tracing::info!(
            revision = told.revision,
            "what is still served here goes by the successor's revision"
        );
        Ok(())
    }

    /// Tells a predecessor what is in force. Nobody waits for it.
    pub(super) fn tell_predecessor(&self, within: Duration) -> Option<u64> {
        if !self.succession.leads() {
            return None;
        }
        let snapshot = self.snapshot.borrow();
        self.succession.tell(Told {
            number: 0,
            revision: snapshot.state.revision(),
            file: snapshot.config.text.to_string(),
            state: Document::of(&snapshot.state).to_text(),
            within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Tells a predecessor what is in force, and waits until it decides by it. Drains go on meanwhile.
    pub(super) async fn have_gone_by(&mut self, within: Duration) {
        if let Some(number) = self.tell_predecessor(within) {
            let succession = self.succession.clone();
            self.while_draining(succession.gone_by(number, within)).await;
        }
    }
}

fn not_understood(error: &dyn std::fmt::Display) -> ControlError {
    tracing::error!(%error, "what the successor has in force is not understood here; what is still served goes by what was");
    ControlError::Failed
}
