//! Starts and stops the control plane: the controller and the admin API, on one thread of their own.
//!
//! Invariant: nothing of it runs on a worker of the data plane, so a slow admin call can't delay a request.

mod tasks;

use std::{
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use tokio::sync::{mpsc, oneshot, watch};

use self::tasks::{Files, follow_names, run, targets};
use super::{
    descriptors::{self, Shares},
    doors::{Doors, Held},
    succession::{
        heritage::{Door, Heritage},
        past,
    },
    surroundings,
};
use crate::{
    admin::{
        access::Access, probes, router::Admin, server::Limits, socket::Bound, streams::Streams, tag::Tags,
    },
    config::{self, Config, defaults},
    control::{
        controller::Controller,
        file::File,
        handle::Control,
        lifecycle::{Lifecycle, Phase},
        pin_keys::{self, KeyFile, PassingKey},
        succession::{Left, Predecessor, Standing, Succession},
        tokens::TokenBook,
    },
    health::board::Health,
    model::name::Name,
    routing::live::Live,
    telemetry::registry::Registry,
    tls,
};

/// How often a start looks whether the first probes have ended.
const LOOK: Duration = Duration::from_millis(5);

/// The running control plane. It ends when it is stopped or dropped.
#[derive(Debug)]
pub struct ControlPlane {
    /// The published table, for the workers to read.
    pub live: Live,
    /// Where the process stands; the composition advances it.
    pub lifecycle: Lifecycle,
    /// Where the admin API is reached, with the port that was taken; `None` if the file turns it off.
    pub admin: Option<Bound>,
    /// Where probes and scrapers are served; `None` if the file names no address for them.
    pub probes: Option<SocketAddr>,
    /// Makes and reads changes from inside the process.
    pub control: Control,
    /// What is known of the endpoints' health.
    pub health: Health,
    /// The TLS of the listeners.
    pub(super) certificates: tls::Book,
    /// Has another file of keys followed.
    pub(super) key_files: mpsc::UnboundedSender<Option<KeyFile>>,
    /// The key of pins, where no file names any.
    pub(super) own_key: PassingKey,
    /// Knows of a process that was replaced by this one.
    succession: Succession,
    /// Has the sockets served.
    open: Option<(oneshot::Sender<Doors>, Doors)>,
    held: Held,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Compiles and publishes the first table, listens for the admin API, and starts the thread that serves both.
    ///
    /// When this returns, the admin API can be connected to, and is served by [`Self::open`]; and the names of endpoints
    /// have been resolved as far as that takes no longer than [`defaults::DNS_START_WAIT`]. The lifecycle is still at
    /// `Starting`.
    pub(super) fn prepare(
        config: Arc<Config>,
        series: Arc<Registry>,
        file: Option<File>,
        heritage: &mut Heritage,
        succession: Succession,
    ) -> anyhow::Result<Self> {
        let doors = Doors::open(&config, heritage)?;
        let held = doors.hold(&config)?;
        let (admin, probes) = doors.bound().context("the addresses of the control plane")?;
        let shares = Shares::of(descriptors::limit(), &config)?;
        let limits = Limits { connections: shares.admin, ..Limits::default() };
        let book = config.tokens.as_deref().map(TokenBook::open).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the control plane's runtime could not be started")?;
        let told = std::mem::take(&mut heritage.memory.past);
        let store = past::store(&config, told, heritage.is_succession)?;
        let (mut controller, control, live) =
            Controller::stand_by(Arc::clone(&config), Arc::clone(&series), store)?;
        controller.recall(&heritage.memory.taken);
        controller.succeed_by(succession.clone());
        // A file that was applied later may be in force instead.
        let config = Arc::clone(&control.snapshot().config);
        warn_of_passing_key(&config);
        let certificates = certificates(&config, heritage.memory.ticket_secret.take())?;
        let own_tls = config.admin_tls.as_ref().map(own_tls).transpose()?;
        let own_key = heritage.memory.pin_key.take().map_or_else(PassingKey::random, Ok)?;
        let (key_files, followed) = mpsc::unbounded_channel();
        // Whoever follows it is there as long as the plane is.
        let _ = key_files.send(pin_keys::open(&config.pins, live.table().keys.clone(), &own_key)?);
        let (first, resolved) = std::sync::mpsc::sync_channel(1);
        let own: Vec<_> = own_admin(admin.as_ref()).into_iter().chain(probes).collect();
        let names = follow_names(control.clone(), (own, shares.questions), first);
        let lifecycle = Lifecycle::default();
        let health = Health::new(&targets(&live.table()), Instant::now());
        health.recall(&heritage.memory.health, Instant::now());
        let (stop, stopped) = watch::channel(false);
        let served = Arc::new(Admin {
            control: control.clone(),
            lifecycle: lifecycle.clone(),
            health: health.clone(),
            certificates: certificates.clone(),
            own_tls: own_tls.as_ref().map(|(_, front)| Arc::clone(front)),
            access: Access::by(book.clone(), config.admin_roles.clone()),
            file,
            tags: Tags::new(control.snapshot().is_durable()),
            streams: Streams::default(),
            started: Instant::now(),
            version: env!("CARGO_PKG_VERSION"),
            succession: succession.clone(),
        });
        let (open, opened) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                let own_tls = own_tls.map(|(book, _)| book);
                let files = Files { keys: followed, tokens: book, own_tls };
                let limits = (limits, probes::limits(shares.probes), shares.checks);
                runtime.block_on(run(controller, names, files, opened, (served, limits), stopped));
                // A file system that hangs must not hold up the end.
                runtime.shutdown_background();
            })
            .context("the control plane's thread could not be started")?;
        if resolved.recv_timeout(defaults::DNS_START_WAIT).is_err() {
            // Traffic for other pools must not wait for a name server that is away.
            tracing::warn!("not every name of an endpoint has been resolved yet; the start goes on");
        }
        health.follow(&targets(&live.table()), Instant::now());
        health.recall(&heritage.memory.health, Instant::now());
        Ok(Self {
            live,
            lifecycle,
            admin,
            probes,
            control,
            health,
            certificates,
            key_files,
            own_key,
            succession,
            open: Some((open, doors)),
            held,
            stop,
            thread: Some(thread),
        })
    }

    /// Prepares a control plane that inherits nothing, and serves its sockets.
    pub fn start(config: Arc<Config>, series: Arc<Registry>, file: Option<File>) -> anyhow::Result<Self> {
        let mut plane = Self::prepare(config, series, file, &mut Heritage::default(), Succession::default())?;
        plane.control.begin()?;
        plane.open();
        Ok(plane)
    }

    /// Serves the admin API, and probes and scrapers, from now on.
    pub fn open(&mut self) {
        if let Some((open, doors)) = self.open.take() {
            // The thread may have ended by a bug, which it says itself.
            let _ = open.send(doors);
        }
    }

    /// Waits until every endpoint that is probed has had its first result, or should have had it.
    pub fn await_health(&self) {
        self.health.await_first_results(|| targets(&self.live.table()), Instant::now());
        while !self.health.is_settled() && !self.health.is_overdue(Instant::now()) {
            std::thread::sleep(LOOK);
        }
    }

    /// The sockets of the control plane, for a successor to accept on, too.
    pub(super) fn offer(&self) -> std::io::Result<Vec<Door>> {
        self.held.offer()
    }

    /// A successor serves from now on; calls in flight end here.
    pub fn leave(&self) {
        self.lifecycle.advance(Phase::HandedOver);
        self.held.let_go();
    }

    /// The process that this one has replaced, if it has not ended.
    pub(super) fn predecessor(&self) -> Option<Predecessor> {
        self.succession.predecessor()
    }

    /// What is in flight at each endpoint.
    pub(super) fn left(&self) -> Standing {
        let snapshot = self.control.snapshot();
        let in_table =
            snapshot.table.pools.iter().flat_map(|pool| &pool.endpoints).map(|(endpoint, _)| endpoint);
        let gone = snapshot.draining.values().filter(|draining| draining.is_gone);
        let left: Vec<_> = in_table
            .chain(gone.map(|draining| &draining.endpoint))
            .map(|endpoint| Left {
                pool: endpoint.pool.clone(),
                address: endpoint.address,
                in_flight: endpoint.occupancy.in_flight(),
            })
            .filter(|left| left.in_flight > 0)
            .collect();
        Standing { left, ..Standing::default() }
    }

    /// The listeners are open: the process is ready, at once or when every endpoint that is probed has had its first
    /// result.
    pub fn listening(&self) {
        self.health.await_first_results(|| targets(&self.live.table()), Instant::now());
        let ready = self.health.is_settled();
        self.lifecycle.advance(if ready { Phase::Ready } else { Phase::Probing });
    }

    /// Ends the admin API, its calls in flight within a second, and the controller; answers when the thread has
    /// ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control plane ended by a bug");
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.end();
    }
}

/// The TLS of the listeners, whose tickets are sealed by a predecessor's secret, if there is one.
fn certificates(config: &Config, secret: Option<tls::Secret>) -> anyhow::Result<tls::Book> {
    let secret = secret.map_or_else(|| tls::Secret::random(SystemTime::now()), Ok);
    let book = tls::Book::new(secret.context("a key of session tickets")?);
    let ready = surroundings::certificates(&book, config)
        .map_err(|faults| unreadable(faults.iter().map(|fault| (&fault.message, &fault.help))))?;
    ready.put_in_force();
    Ok(book)
}

/// The TLS of the admin API. Who calls it makes few connections: its sessions need not outlive the process.
fn own_tls(settings: &Arc<config::TlsSettings>) -> anyhow::Result<(tls::Book, Arc<tls::Front>)> {
    let name = Name::new("admin").expect("it is made of letters");
    let secret = tls::Secret::random(SystemTime::now()).context("a key of session tickets")?;
    tls::Book::of_one(&name, settings, secret)
        .map_err(|faults| unreadable(faults.iter().map(|fault| (&fault.message, &fault.help))))
}

/// Files without which the process can't begin.
fn unreadable<'f>(faults: impl Iterator<Item = (&'f String, &'f String)>) -> anyhow::Error {
    let words: Vec<_> = faults.map(|(message, help)| format!("{message}: {help}")).collect();
    anyhow::anyhow!(words.join("\n"))
}

/// Says it where pins will not outlive the process.
fn warn_of_passing_key(config: &Config) {
    let signs = |split: &config::Split| split.sticky.as_ref().is_some_and(|sticky| sticky.signed);
    if config.pins.key_file.is_none() && config.splits.iter().any(|split| signs(split)) {
        tracing::warn!(
            "pins are signed by a key that lives as long as this process, so a restart ends all sessions, and no other \
             instance knows them: name a [pins] key_file"
        );
    }
}

/// The address of the admin API, if it has one on the network.
pub(super) fn own_admin(admin: Option<&Bound>) -> Option<SocketAddr> {
    admin.and_then(|bound| match bound {
        Bound::Tcp(address) => Some(*address),
        Bound::Unix(_) => None,
    })
}
