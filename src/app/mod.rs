//! Composition: builds the planes, starts them in order, and stops them in order.
//!
//! The order of a start: the first table is published, then the listeners open, then the process is ready. The order
//! of a stop: readiness fails, clients are asked to connect elsewhere, the listeners close after a delay, requests in
//! flight end or reach the deadline, and the admin API answers to the end.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{
    control_plane::ControlPlane,
    descriptors::Shares,
    surroundings::{Around, Log},
};
use crate::{
    admin::socket::Bound,
    config::Config,
    control::{file::File, lifecycle},
    proxy::{Phase, Proxy},
    telemetry::{access_log::AccessLog, registry::Registry},
};

pub mod control_plane;
pub mod demo;
mod descriptors;
mod surroundings;

/// How often a stop looks whether the last request has ended.
const LOOK: Duration = Duration::from_millis(20);
/// A running instance: both planes and what they share.
#[derive(Debug)]
pub struct Instance {
    /// The control plane.
    pub control: ControlPlane,
    /// The address of each listener, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// What is counted.
    pub series: Arc<Registry>,
    proxy: Proxy,
    log: Log,
    file: Option<File>,
}

/// The signals that a serving process knows.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: [Signal; 2],
}

/// Serves what a file declares, and follows it, until SIGTERM or SIGINT.
pub fn run(config: Config, file: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    // Before anything is open: a signal that comes early must end the process in order, too.
    let mut signals = Signals::new()?;
    let instance = Instance::start(config, Some(File::new(file)))?;
    instance.announce()?;
    runtime.block_on(async {
        signals.until_stop(&instance.hang_up()).await;
        instance.stop(&mut signals).await;
    });
    Ok(())
}

impl Instance {
    /// Starts both planes, and follows the file that the configuration is from. When this returns, requests are served.
    pub fn start(config: Config, file: Option<File>) -> anyhow::Result<Self> {
        let (descriptors, series) = (descriptors::limit(), Arc::new(Registry::default()));
        let control = ControlPlane::start(Arc::new(config), Arc::clone(&series), file.clone())?;
        // A file that was applied later may be in force instead.
        let config = Arc::clone(&control.control.snapshot().config);
        let shares = Shares::of(descriptors, &config)?;
        shares.announce(descriptors, &config);
        let log = config.access_log.as_ref().map(|settings| {
            AccessLog::start(settings, Arc::clone(&series.log_lost))
                .with_context(|| format!("the access log {} can't be opened", settings.path.display()))
        });
        let log = log.transpose()?;
        let proxy = Proxy::start(&config, &control.live, &series, log.as_ref(), shares.proxy)?;
        let log = Log::new(log);
        let around = Around {
            listeners: proxy.listeners.clone(),
            log: log.clone(),
            lost: Arc::clone(&series.log_lost),
            keys: control.live.table().keys.clone(),
            key_files: control.key_files.clone(),
            lifecycle: control.lifecycle.clone(),
            own: control.control.own_addresses().clone(),
            others: control_plane::own_admin(control.admin.as_ref())
                .into_iter()
                .chain(control.probes)
                .collect(),
        };
        around.show();
        control.control.surrounded_by(Arc::new(around));
        control.listening();
        let addresses = proxy.listeners.addresses();
        Ok(Self { control, addresses, series, proxy, log, file })
    }

    /// What SIGHUP does: it opens the access log's file anew, as log rotation asks for, and reads the file again.
    fn hang_up(&self) -> impl Fn() + use<> {
        let (log, file) = (self.log.clone(), self.file.clone());
        move || {
            tracing::info!("SIGHUP: the file is read again, and the access log's file opened anew");
            log.get().iter().for_each(AccessLog::reopen);
            file.iter().for_each(File::ask);
        }
    }

    /// Says on the standard output where it listens, a line each, for people and for scripts.
    fn announce(&self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        for (listener, address) in
            self.control.control.snapshot().config.listeners.iter().zip(&self.addresses)
        {
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
        let settings = self.control.control.snapshot().config.shutdown;
        let hang_up = self.hang_up();
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
            () = signals.until_interrupt(&hang_up) => tracing::warn!("stopping at once"),
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

    /// Ends everything at once, but for the access log's last lines, which have [`surroundings::LOG_LIMIT`].
    pub fn end(self) {
        self.proxy.enter(Phase::Stopped);
        self.proxy.join();
        self.control.stop();
        let log = self.log.get().take();
        log.into_iter().for_each(surroundings::finish);
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
    async fn until_stop(&mut self, hung_up: &impl Fn()) {
        loop {
            let Self { terminate, interrupt, hang_up, user: [first, second] } = self;
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => hung_up(),
                // Their default is to end the process, which nobody who sends them has in mind.
                _ = first.recv() => tracing::info!("SIGUSR1 means nothing in this version"),
                _ = second.recv() => tracing::info!("SIGUSR2 means nothing in this version"),
            }
        }
    }

    /// Waits for SIGINT: the second Ctrl-C of somebody who can't wait. SIGTERM comes twice from some supervisors, and
    /// means no more the second time.
    async fn until_interrupt(&mut self, hung_up: &impl Fn()) {
        loop {
            let Self { terminate, interrupt, hang_up, user: [first, second] } = self;
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => hung_up(),
                _ = terminate.recv() => tracing::info!("stopping already"),
                _ = first.recv() => {}
                _ = second.recv() => {}
            }
        }
    }
}
