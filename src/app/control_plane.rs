//! Starts and stops the control plane: the controller and the admin API, on one thread of their own.
//!
//! Invariant: nothing of it runs on a worker of the data plane, so a slow admin call can't delay a request.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::sync::watch;

use crate::{
    admin::{
        router::Admin,
        server::{Limits, serve},
        socket::{Bound, Socket},
    },
    config::{self, AdminAddress, Config, defaults},
    control::{
        controller::{Control, Controller},
        lifecycle::Lifecycle,
        names,
        pin_keys::{self, KeyFile},
    },
    discovery::dns::Dns,
    routing::live::Live,
    telemetry::registry::Registry,
};

/// The running control plane. It ends when it is stopped or dropped.
#[derive(Debug)]
pub struct ControlPlane {
    /// The published table, for the workers to read.
    pub live: Live,
    /// Where the process stands; the composition advances it.
    pub lifecycle: Lifecycle,
    /// Where the admin API is reached, with the port that was taken; `None` if the file turns it off.
    pub admin: Option<Bound>,
    /// Makes and reads changes from inside the process.
    pub control: Control,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Compiles and publishes the first table, opens the admin API and starts the thread that serves both.
    ///
    /// When this returns, the admin API is reachable, and the names of endpoints have been resolved as far as that takes
    /// no longer than [`defaults::DNS_START_WAIT`]. The lifecycle is still at `Starting`.
    pub fn start(config: Arc<Config>, series: Arc<Registry>) -> anyhow::Result<Self> {
        let socket = match &config.admin {
            None => None,
            Some(AdminAddress::Loopback(address)) => Some(Socket::tcp(*address)?),
            Some(AdminAddress::Unix(path)) => Some(Socket::unix(path)?),
        };
        let admin = socket.as_ref().map(Socket::bound).transpose().context("the admin API's address")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the control plane's runtime could not be started")?;
        let (controller, control, live) = Controller::new(Arc::clone(&config), series);
        warn_of_passing_key(&config);
        let key_file = pin_keys::open(&config.pins, live.table().keys.clone())?;
        let (first, resolved) = mpsc::sync_channel(1);
        let dns = Dns::new(config.dns.clone());
        let own = own_addresses(&config, admin.as_ref());
        let names = names::follow(control.clone(), dns, config.dns.clone(), own, first);
        let lifecycle = Lifecycle::default();
        let (stop, stopped) = watch::channel(false);
        let served = Arc::new(Admin {
            control: control.clone(),
            lifecycle: lifecycle.clone(),
            started: Instant::now(),
            version: env!("CARGO_PKG_VERSION"),
        });
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || runtime.block_on(run(controller, names, key_file, socket, served, stopped)))
            .context("the control plane's thread could not be started")?;
        if resolved.recv_timeout(defaults::DNS_START_WAIT).is_err() {
            // Traffic for other pools must not wait for a name server that is away.
            tracing::warn!("not every name of an endpoint has been resolved yet; the start goes on");
        }
        Ok(Self { live, lifecycle, admin, control, stop, thread: Some(thread) })
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

/// Where this process listens; a listener's port that is yet to be taken is not among them.
fn own_addresses(config: &Config, admin: Option<&Bound>) -> Vec<SocketAddr> {
    let admin = admin.and_then(|bound| match bound {
        Bound::Tcp(address) => Some(*address),
        Bound::Unix(_) => None,
    });
    config
        .listeners
        .iter()
        .map(|listener| listener.address)
        .chain(admin)
        .filter(|own| own.port() != 0)
        .collect()
}

async fn run(
    controller: Controller,
    names: impl Future<Output = ()> + Send + 'static,
    key_file: Option<KeyFile>,
    socket: Option<Socket>,
    admin: Arc<Admin>,
    mut stop: watch::Receiver<bool>,
) {
    let controller = tokio::spawn(controller.run());
    let names = tokio::spawn(names);
    let keys = key_file.map(|file| tokio::spawn(file.follow()));
    if let Some(socket) = socket
        && let Err(error) = serve(socket, admin, Limits::default(), stop.clone()).await
    {
        // The proxy goes on: traffic matters more than the means to change it.
        tracing::error!(%error, "the admin API could not be served");
    }
    // Without an admin API, or after it has failed, changes can still come from inside the process.
    let _ = stop.wait_for(|stop| *stop).await;
    names.abort();
    controller.abort();
    keys.inspect(tokio::task::JoinHandle::abort);
    // A change is one synchronous step, so what was begun has been answered.
    let _ = tokio::time::timeout(Duration::from_secs(1), controller).await;
}
