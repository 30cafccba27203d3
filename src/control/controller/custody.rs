//! Who may write: the store is given up to a successor, and taken back if the successor does not serve.

use std::sync::Arc;

use super::Controller;
use crate::control::{handle::ControlError, snapshot::Snapshot};

/// Who has the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Custody {
    /// This process.
    Ours,
    /// A successor, or nobody yet: changes are refused.
    HandedOver,
    /// It is to be ours again, and could not be had yet.
    Wanted,
}

impl Controller {
    /// Gives the store up, so that a successor can begin with all that was answered.
    pub(super) async fn hand_over(&mut self) -> Result<(), ControlError> {
        self.store.close().await?;
        self.custody = Custody::HandedOver;
        Ok(())
    }

    /// Takes the store again. A successor that has begun may have changed the state; that comes into force here.
    pub(super) async fn take_back(&mut self) -> Result<(), ControlError> {
        let (config, revision) = {
            let before = self.snapshot.borrow();
            (Arc::clone(&before.config), before.state.revision())
        };
        let begun = self.store.reopen(config, revision).await?;
        self.custody = Custody::Ours;
        let Some((state, config)) = begun else { return Ok(()) };
        self.guarded(|controller| {
            let before = Arc::clone(&controller.snapshot.borrow());
            let table = controller.compiled(&config, &state, &before.resolved, &before.table);
            tracing::info!(revision = state.revision(), "what the successor has changed is in force");
            controller.publish(Snapshot { config, state, table, ..Snapshot::clone(&before) });
            Ok(())
        })
    }
}
