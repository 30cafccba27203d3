//! How an instance ends: when it is told to stop, or while a successor serves.
//!
//! Invariant: what is in flight has until the deadline, and SIGINT ends it at once, whatever is waited for.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{Instance, Signals, service, succession::Relieved, surroundings};
use crate::{
    control::{
        lifecycle,
        succession::{Standing, Told},
    },
    proxy::Phase,
};

/// How often a stop looks whether the last request has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long the admin API of a process that was replaced still hears who had connected to it, at least.
const LAST_CALLS: Duration = Duration::from_secs(1);
/// How often a process that drains tells its successor how far it has come, at least. News are told at the next look.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Instance {
    /// Ends in peace while a successor serves: clients are asked to connect anew, requests in flight and tunnels have until
    /// the deadline.
    pub(super) async fn leave(self, relieved: Relieved, signals: &mut Signals) {
        let since = Instant::now();
        let deadline = since + self.control.control.snapshot().config.shutdown.deadline;
        let hang_up = self.hang_up();
        tracing::info!(successor = relieved.successor.pid, "a successor serves; what is in flight here ends");
        tokio::select! {
            () = self.drain_for(&relieved, (since, deadline)) => {}
            () = signals.until_interrupt(&hang_up) => tracing::warn!("ending at once"),
        }
        self.proxy.enter(Phase::Draining);
        self.end_apart(signals).await;
    }

    /// Waits until nothing is left, and meanwhile decides by what the successor says and tells it how far this has come.
    async fn drain_for(&self, relieved: &Relieved, (since, deadline): (Instant, Instant)) {
        let (mut told, telling, mut goes_by) = heard(relieved);
        let mut said: Option<(Instant, Standing)> = None;
        // Older ones are heard by way of this one.
        let is_last = || self.control.predecessor().is_none();
        let is_done = || self.proxy.is_finished() && since.elapsed() >= LAST_CALLS && is_last();
        while !is_done() && Instant::now() < deadline {
            let standing = Standing { goes_by, ..self.standing() };
            let is_due =
                said.as_ref().is_none_or(|(at, before)| standing != *before || at.elapsed() >= TELL_EVERY);
            // One that has not taken the last news yet gets the newest when it has.
            if is_due && telling.try_send(standing.clone()).is_ok() {
                said = Some((Instant::now(), standing));
            }
            tokio::select! {
                Some(next) = told.recv() => {
                    let number = next.number;
                    goes_by = self.control.control.go_by(next).await.ok().map(|()| number);
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// What is left here, and in a predecessor that has not ended either.
    fn standing(&self) -> Standing {
        let standing = Standing { connections: self.connections(), ..self.control.left() };
        standing.and(self.control.predecessor())
    }

    fn connections(&self) -> u64 {
        self.series.workers().iter().map(|worker| worker.connections.value()).sum()
    }

    /// Stops in order. SIGINT meanwhile ends it at once.
    pub(super) async fn stop(self, signals: &mut Signals) {
        let settings = self.control.control.snapshot().config.shutdown;
        let hang_up = self.hang_up();
        tracing::info!(delay = ?settings.delay, deadline = ?settings.deadline, "stopping");
        service::stopping();
        self.control.lifecycle.advance(lifecycle::Phase::Draining);
        self.proxy.enter(Phase::Leaving);
        let in_order = async {
            tokio::time::sleep(settings.delay).await;
            self.proxy.enter(Phase::Draining);
            let deadline = Instant::now() + settings.deadline;
            while !self.proxy.is_finished() && Instant::now() < deadline {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = in_order => {}
            () = signals.until_interrupt(&hang_up) => tracing::warn!("stopping at once"),
        }
        self.end_apart(signals).await;
    }

    /// Ends, whatever is left.
    async fn end_apart(self, signals: &mut Signals) {
        if !self.proxy.is_finished() {
            tracing::warn!(connections = self.connections(), "what is left is cut");
        }
        // On a thread of its own, so that SIGINT is heard whatever the end waits for.
        let (ended, end) = tokio::sync::oneshot::channel();
        let ending = std::thread::Builder::new().name("end".into()).spawn(move || {
            self.end();
            // Nobody listens after a SIGINT.
            let _ = ended.send(());
        });
        if let Err(error) = ending {
            tracing::warn!(%error, "a thread for the end can't be had; the process ends at once");
            return;
        }
        tokio::select! {
            // An error says that the thread has ended otherwise, which is an end, too.
            _ = end => {}
            _ = signals.interrupt.recv() => tracing::warn!("ending at once"),
        }
    }

    /// Ends everything at once, but for the access log's last lines, which have [`surroundings::LOG_LIMIT`].
    pub fn end(self) {
        self.proxy.enter(Phase::Stopped);
        self.proxy.join();
        self.control.stop();
        let log = self.log.get().take();
        log.into_iter().for_each(surroundings::finish);
    }
}

/// What the successor says, where it is told, and whether what it says is gone by here.
fn heard(relieved: &Relieved) -> (mpsc::Receiver<Told>, SyncSender<Standing>, Option<u64>) {
    match relieved.told().and_then(|told| Ok((told, relieved.telling()?))) {
        Ok((told, telling)) => (told, telling, Some(0)),
        Err(error) => {
            tracing::error!(%error, "the successor is not heard; what is still served goes by what is in force now");
            (mpsc::channel(1).1, sync_channel(1).0, None)
        }
    }
}
