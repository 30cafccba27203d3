//! Where the process stands between start and end, which is what `readyz` answers, and where it is reached.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

/// Where the process stands. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not all listeners are open yet.
    Starting,
    /// Requests are served where endpoints are healthy, but not all that are probed have had their first result.
    Probing,
    /// Requests are served.
    Ready,
    /// Requests are still served, but new ones should go elsewhere: the process is about to end.
    Draining,
    /// A successor serves; what is in flight here ends.
    HandedOver,
}

/// The phase of the process; every clone is the same one.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    listening: Arc<ArcSwap<Vec<SocketAddr>>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Starting)), listening: Arc::default() }
    }
}

impl Lifecycle {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Moves on to a later phase. An earlier one is ignored, so that a late "ready" can't undo a stop.
    pub fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            *phase = to.max(*phase);
            later
        });
    }

    /// Says where the listeners are bound, in the order of the configuration.
    pub fn listening_at(&self, addresses: Vec<SocketAddr>) {
        self.listening.store(Arc::new(addresses));
    }

    /// Where the listeners are bound, with the ports that were taken; empty until they are open.
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.listening.load_full()
    }

    /// Tells of every later phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back() {
        let lifecycle = Lifecycle::default();
        let seen = lifecycle.watch();
        assert_eq!(lifecycle.phase(), Phase::Starting);
        lifecycle.advance(Phase::Ready);
        lifecycle.clone().advance(Phase::Draining);
        lifecycle.advance(Phase::Ready);
        assert_eq!((lifecycle.phase(), *seen.borrow()), (Phase::Draining, Phase::Draining));
    }
}
