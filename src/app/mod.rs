//! Composition: builds the planes, starts them in order, and stops them in order.
//!
//! The order of a start: the first table is published, then the listeners open, then the process is ready. The order
//! of a stop: readiness fails, clients are asked to connect elsewhere, the listeners close after a delay, requests in
//! flight end or reach the deadline, and the admin API answers to the end.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{control_plane::ControlPlane, descriptors::Shares};
use crate::{
    admin::socket::Bound,
    config::Config,
    control::lifecycle,
    proxy::{Phase, Proxy},
    telemetry::{access_log::AccessLog, registry::Registry},
};

pub mod control_plane;
pub mod demo;
mod descriptors;

/// How often a stop looks whether the last request has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long the end waits for the access log's last lines to be taken. A file takes them in milliseconds; a reader that
/// needs longer has most likely stopped reading.
const LOG_LIMIT: Duration = Duration::from_secs(1);

/// A running instance: both planes and what they share.
#[derive(Debug)]
pub struct Instance {
    config: Arc<Config>,
    /// The control plane.
    pub control: ControlPlane,
    /// The address of each listener, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// What is counted.
    pub series: Arc<Registry>,
    proxy: Proxy,
    log: Option<AccessLog>,
}

/// The signals that a serving process knows.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: [Signal; 2],
}

/// Serves until SIGTERM or SIGINT.
pub fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    // Before anything is open: a signal that comes early must end the process in order, too.
    let mut signals = Signals::new()?;
    let instance = Instance::start(config)?;
    instance.announce()?;
    runtime.block_on(async {
        signals.until_stop(instance.log.as_ref()).await;
        instance.stop(&mut signals).await;
    });
    Ok(())
}

impl Instance {
    /// Starts both planes. When this returns, requests are served.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let descriptors = descriptors::limit();
        let shares = Shares::of(descriptors, &config)?;
        shares.announce(descriptors, &config);
        let series = Arc::new(Registry::default());
        let log = config.access_log.as_ref().map(|settings| {
            AccessLog::start(settings, Arc::clone(&series.log_lost))
                .with_context(|| format!("the access log {} can't be opened", settings.path.display()))
        });
        let log = log.transpose()?;
        let control = ControlPlane::start(Arc::clone(&config), Arc::clone(&series))?;
        let proxy = Proxy::start(&config, &control.live, &series, log.as_ref(), shares.proxy)?;
        let addresses = proxy.addresses.clone();
        control.lifecycle.listening_at(addresses.clone());
        control.listening();
        let admin = match control.admin {
            Some(Bound::Tcp(address)) => Some(address),
            _ => None,
        };
        let own = addresses.iter().copied().chain(admin).chain(control.probes);
        control.control.listens_at(own.collect());
        Ok(Self { config, control, addresses, series, proxy, log })
    }

    /// Says on the standard output where it listens, a line each, for people and for scripts.
    fn announce(&self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        for (listener, address) in self.config.listeners.iter().zip(&self.addresses) {
            writeln!(out, "listening listener={} address={address}", listener.name)?;
        }
        if let Some(address) = self.control.probes {
            writeln!(out, "listening health address={address}")?;
        }
        match &self.control.admin {
            Some(Bound::Tcp(address)) => writeln!(out, "listening admin address={address}")?,
            Some(Bound::Unix(path)) => writeln!(out, "listening admin address=unix:{}", path.display())?,
            None => {}
        }
        out.flush()
    }

    /// Stops in order. SIGINT meanwhile ends it at once.
    async fn stop(self, signals: &mut Signals) {
        let settings = self.config.shutdown;
        tracing::info!(delay = ?settings.delay, deadline = ?settings.deadline, "stopping");
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
            () = signals.until_interrupt(self.log.as_ref()) => tracing::warn!("stopping at once"),
        }
        if !self.proxy.is_finished() {
            let left: u64 = self.series.workers().iter().map(|worker| worker.connections.value()).sum();
            tracing::warn!(connections = left, "what is left is cut");
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

    /// Ends everything at once, but for the access log's last lines, which have [`LOG_LIMIT`].
    pub fn end(self) {
        self.proxy.enter(Phase::Stopped);
        self.proxy.join();
        self.control.stop();
        if let Some(log) = self.log {
            let left = log.finish(LOG_LIMIT);
            if left > 0 {
                tracing::warn!(lines = left, "the access log's reader has stalled; its last lines are lost");
            }
        }
    }
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// Waits for a signal to stop.
    async fn until_stop(&mut self, log: Option<&AccessLog>) {
        loop {
            let Self { terminate, interrupt, hang_up, user: [first, second] } = self;
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => reopen(log),
                // Their default is to end the process, which nobody who sends them has in mind.
                _ = first.recv() => tracing::info!("SIGUSR1 means nothing in this version"),
                _ = second.recv() => tracing::info!("SIGUSR2 means nothing in this version"),
            }
        }
    }

    /// Waits for SIGINT: the second Ctrl-C of somebody who can't wait. SIGTERM comes twice from some supervisors, and
    /// means no more the second time.
    async fn until_interrupt(&mut self, log: Option<&AccessLog>) {
        loop {
            let Self { terminate, interrupt, hang_up, user: [first, second] } = self;
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => reopen(log),
                _ = terminate.recv() => tracing::info!("stopping already"),
                _ = first.recv() => {}
                _ = second.recv() => {}
            }
        }
    }
}

/// SIGHUP: opens the access log's file anew, as log rotation asks for.
fn reopen(log: Option<&AccessLog>) {
    match log {
        Some(log) => {
            tracing::info!("SIGHUP: the access log's file is opened anew");
            log.reopen();
        }
        None => tracing::info!(
            "SIGHUP: there is no access log to open anew; the file is not read again in this version"
        ),
    }
}
