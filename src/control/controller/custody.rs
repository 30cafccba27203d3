//! Who may write: this process from the moment on at which it serves, until the store is given up to a successor; and again
//! if that successor does not serve.

use std::sync::Arc;

use super::{Behind, Controller};
use crate::control::{handle::ControlError, succession::GOES_BY_WITHIN, taken_back::Held};

/// Who has the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Custody {
    /// This process, once it serves. Until then it may yet fail, and leave everything as it was.
    Awaited,
    /// This process.
    Ours,
    /// A successor, or nobody yet: changes are refused.
    HandedOver,
    /// It is to be ours again, and could not be had yet.
    Wanted,
}

impl Custody {
    /// Whether writing can be tried.
    pub(super) fn may_write(self) -> bool {
        matches!(self, Self::Ours | Self::Wanted)
    }
}

impl Controller {
    /// Makes durable what the process begins with. From now on changes are taken.
    pub(super) async fn begin(&mut self) -> Result<(), ControlError> {
        for entry in std::mem::take(&mut self.first) {
            self.commit(entry).await?;
        }
        self.custody = Custody::Ours;
        // It may have begun with another file than its predecessor's.
        self.tell_predecessor(GOES_BY_WITHIN);
        Ok(())
    }

    /// Gives the store up, so that a successor can begin with all that was answered.
    pub(super) async fn hand_over(&mut self) -> Result<(), ControlError> {
        self.custody = Custody::HandedOver;
        Ok(self.store.close().await?)
    }

    /// Takes the store again, and goes on with what was in force. What a successor that had begun has answered comes into
    /// force here.
    pub(super) async fn take_back(&mut self) -> Result<(), ControlError> {
        let before = Arc::clone(&self.snapshot.borrow());
        let held = Held { state: before.state.clone(), config: Arc::clone(&before.config) };
        let state = self.store.reopen(held).await?;
        self.custody = Custody::Ours;
        let Some(state) = state else { return Ok(()) };
        // It is kept: should a bug be in the way now, the next change puts it in force first.
        self.behind = Some(Behind { config: Arc::clone(&before.config), state });
        self.catch_up()
    }
}
