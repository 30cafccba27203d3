//! A pool, as all workers see it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::gate::Gate;

/// What is shared of a pool over all workers and tables.
#[derive(Debug, Default)]
pub struct PoolState {
    panics: AtomicBool,
    /// What bounds its requests.
    pub gate: Gate,
}

impl PoolState {
    /// Whether so few endpoints are available that ejections are ignored.
    #[inline]
    pub fn panics(&self) -> bool {
        self.panics.load(Ordering::Relaxed)
    }

    /// Says whether ejections are ignored.
    pub fn set_panic(&self, panics: bool) {
        self.panics.store(panics, Ordering::Relaxed);
    }
}
