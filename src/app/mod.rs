//! Composition: builds the planes, starts them and stops them in order.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::{config::Config, control::lifecycle::Phase, telemetry::registry::Registry};

pub mod control_plane;
pub mod demo;

/// How `run` differs from what the file says.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {}

/// Serves until SIGTERM or SIGINT.
pub fn run(config: Config, _options: RunOptions) -> anyhow::Result<()> {
    let control = control_plane::ControlPlane::start(Arc::new(config), Arc::new(Registry::default()))?;
    control.lifecycle.advance(Phase::Ready);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut end, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! { _ = end.recv() => {}, _ = interrupt.recv() => {} }
        anyhow::Ok(())
    })?;
    control.lifecycle.advance(Phase::Draining);
    control.stop();
    Ok(())
}
