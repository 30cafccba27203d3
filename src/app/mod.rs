//! Composition: builds the planes, starts them in order, and stops them in order.
//!
//! The order of a start: the first table is published, then the listeners open, then the process is ready. The order
//! of a stop: readiness fails, clients are asked to connect elsewhere, the listeners close after a delay, requests in
//! flight end or reach the deadline, and the admin API answers to the end.

use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use self::{
    control_plane::ControlPlane,
    descriptors::Shares,
    succession::{Relieved, heritage::Heritage, successor::Forerunner},
    surroundings::{Around, Log},
};
use crate::{
    admin::socket::Bound,
    config::Config,
    control::{
        file::File,
        succession::{Order, Succession, SuccessionError},
    },
    proxy::{self, Phase, Proxy},
    telemetry::{
        access_log::{AccessLog, Trial},
        registry::Registry,
    },
};

pub mod control_plane;
pub mod demo;
mod descriptors;
mod doors;
mod ending;
mod service;
pub mod sidecar;
mod succession;
mod surroundings;

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

/// An instance that could serve at once: all that can fail has been done.
#[derive(Debug)]
struct Prepared {
    control: ControlPlane,
    proxy: Proxy,
    listeners: proxy::Prepared,
    series: Arc<Registry>,
    log: Option<Trial>,
    file: Option<File>,
}

/// What a signal asks for.
enum Wish {
    Stop,
    Replace,
}

/// Why an instance serves no more.
enum End {
    /// It was told to stop.
    Stop,
    /// A successor serves.
    Relieved(Relieved),
}

/// The signals that a serving process knows.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: [Signal; 2],
}

/// Serves what a configuration declares, and follows the file that it is from, until SIGTERM or SIGINT, or until a successor
/// serves.
pub fn run(config: Config, file: Option<&Path>) -> anyhow::Result<()> {
    // Before there are other threads: it takes what it finds out of the environment.
    let given = service::sockets().context("the sockets of the service manager")?;
    let file = file.map(File::new);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    // Before anything is open: a signal that comes early must end the process in order, too.
    let mut signals = Signals::new()?;
    let (succession, orders) = Succession::new();
    let instance = match Forerunner::find()? {
        None => {
            service::warn_of_unused(&given, &config);
            Instance::prepare(config, file, given, succession)?.serve()?
        }
        Some(forerunner) => succeed(forerunner, config, file, succession)?,
    };
    service::ready();
    if let Err(error) = instance.announce() {
        // Nobody may read it any more where a successor is started by one that was started long ago.
        tracing::warn!(%error, "where it listens could not be written to the standard output");
    }
    runtime.block_on(async {
        match instance.until_end(&mut signals, orders).await {
            End::Stop => instance.stop(&mut signals).await,
            End::Relieved(relieved) => instance.leave(relieved, &mut signals).await,
        }
    });
    Ok(())
}

/// Takes the place of the process that has started this one.
fn succeed(
    mut forerunner: Forerunner,
    config: Config,
    file: Option<File>,
    succession: Succession,
) -> anyhow::Result<Instance> {
    let heritage = forerunner.greet()?;
    let prepared = Instance::prepare(config, file, heritage, succession.clone())?;
    // The predecessor serves as long as it takes.
    prepared.control.await_health();
    forerunner.await_go()?;
    // Before a change can be made here.
    forerunner.lead(&succession);
    let instance = prepared.serve()?;
    forerunner.serving(succession)?;
    Ok(instance)
}

impl Instance {
    /// Starts both planes, and follows the file that the configuration is from. When this returns, requests are served.
    pub fn start(config: Config, file: Option<File>) -> anyhow::Result<Self> {
        Self::prepare(config, file, Heritage::default(), Succession::default())?.serve()
    }

    /// Starts both planes. Nothing is accepted yet.
    fn prepare(
        config: Config,
        file: Option<File>,
        mut heritage: Heritage,
        succession: Succession,
    ) -> anyhow::Result<Prepared> {
        let (descriptors, series) = (descriptors::limit(), Arc::new(Registry::default()));
        let (of_control, of_file) = (Arc::clone(&series), file.clone());
        let control =
            ControlPlane::prepare(Arc::new(config), of_control, of_file, &mut heritage, succession)?;
        // A file that was applied later may be in force instead.
        let config = Arc::clone(&control.control.snapshot().config);
        let shares = Shares::of(descriptors, &config)?;
        shares.announce(descriptors, &config);
        let log = config.access_log.as_ref().map(|settings| {
            Trial::start(settings, Arc::clone(&series.log_lost))
                .with_context(|| format!("the access log {} can't be opened", settings.path.display()))
        });
        let log = log.transpose()?;
        let (inherited, fronts) = (heritage.listeners, control.certificates.fronts());
        let (proxy, listeners) = Proxy::start(
            &config,
            &fronts,
            inherited,
            &control.live,
            &series,
            log.as_ref().map(Trial::log),
            shares.proxy,
        )?;
        Ok(Prepared { control, proxy, listeners, series, log, file })
    }

    /// Waits until it is to stop, or a successor serves.
    async fn until_end(&self, signals: &mut Signals, mut orders: mpsc::Receiver<Order>) -> End {
        let hang_up = self.hang_up();
        loop {
            let order = tokio::select! {
                Some(order) = orders.recv() => order,
                wish = signals.wish(&hang_up) => match wish {
                    Wish::Stop => return End::Stop,
                    // Who sends a signal hears no answer; the log says what came of it.
                    Wish::Replace => Order::by_signal(),
                },
            };
            let Order { binary, timeout, answer } = order;
            let mut replacing = std::pin::pin!(self.replace(binary, timeout));
            let outcome = loop {
                tokio::select! {
                    outcome = &mut replacing => break outcome,
                    Some(other) = orders.recv() => drop(other.answer.send(Err(SuccessionError::Busy))),
                    wish = signals.wish(&hang_up) => match wish {
                        // The successor is not to outlive what is stopped; it is killed.
                        Wish::Stop => return End::Stop,
                        Wish::Replace => tracing::info!("a successor is being started already"),
                    },
                }
            };
            let told = outcome.as_ref().map(|relieved| relieved.successor.clone()).map_err(Clone::clone);
            if told.is_ok() {
                self.control.leave();
                self.proxy.enter(Phase::HandedOver);
            }
            // Whoever asked may have gone.
            let _ = answer.send(told);
            if let Ok(relieved) = outcome {
                return End::Relieved(relieved);
            }
        }
    }

    /// What SIGHUP does: it opens the access log's file anew, as log rotation asks for, and reads the file and the
    /// certificates again.
    fn hang_up(&self) -> impl Fn() + use<> {
        let (log, file) = (self.log.clone(), self.file.clone());
        let certificates = self.control.certificates.clone();
        move || {
            tracing::info!(
                "SIGHUP: file and certificates are read again, and the access log's file opened anew"
            );
            certificates.ask();
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
}

impl Prepared {
    /// Serves from now on.
    fn serve(self) -> anyhow::Result<Instance> {
        let Self { mut control, proxy, listeners, series, log, file } = self;
        // What can fail because of others comes before anything is written, and that before anything is served: what a
        // process that does not come to serve has left behind would outlive it.
        listeners.listen()?;
        control.control.begin().context("what this process begins with can't be kept")?;
        listeners.put_in_force(control.control.snapshot().config.shutdown.deadline)?;
        let log = Log::new(log.map(Trial::accepted));
        let around = Around {
            listeners: proxy.listeners.clone(),
            log: log.clone(),
            lost: Arc::clone(&series.log_lost),
            keys: control.live.table().keys.clone(),
            own_key: control.own_key.clone(),
            key_files: control.key_files.clone(),
            certificates: control.certificates.clone(),
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
        control.open();
        let addresses = proxy.listeners.addresses();
        Ok(Instance { control, addresses, series, proxy, log, file })
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

    /// Waits for a signal to stop, in a process that can't be replaced.
    async fn until_stop(&mut self, hung_up: &impl Fn()) {
        while let Wish::Replace = self.wish(hung_up).await {
            tracing::info!("SIGUSR2: a demo is not replaced");
        }
    }

    /// Waits for a signal that asks for something.
    async fn wish(&mut self, hung_up: &impl Fn()) -> Wish {
        loop {
            let Self { terminate, interrupt, hang_up, user: [first, second] } = self;
            tokio::select! {
                _ = terminate.recv() => return Wish::Stop,
                _ = interrupt.recv() => return Wish::Stop,
                _ = hang_up.recv() => hung_up(),
                // Their default is to end the process, which nobody who sends them has in mind.
                _ = first.recv() => tracing::info!("SIGUSR1 means nothing in this version"),
                _ = second.recv() => return Wish::Replace,
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
