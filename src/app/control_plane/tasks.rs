//! What runs on the control plane's thread.
//!
//! Invariant: each task ends with the thread, and none of them changes anything but by the controller.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{
    admin::{
        probes,
        router::Admin,
        server::{Limits, serve},
    },
    app::doors::Doors,
    config::Config,
    control::{
        controller::Controller,
        events,
        file::File,
        handle::Control,
        lifecycle::{Lifecycle, Phase},
        names,
        pin_keys::KeyFile,
        reload,
        tokens::TokenBook,
    },
    discovery::dns::Dns,
    health::{
        board::{Health, PoolTarget},
        supervisor::{self, Targets},
    },
    routing::table::{Pool, Table},
    tls,
};

/// Files that are followed.
pub(super) struct Files {
    pub(super) keys: mpsc::UnboundedReceiver<Option<KeyFile>>,
    pub(super) tokens: Option<Arc<TokenBook>>,
    pub(super) own_tls: Option<tls::Book>,
}

/// Runs the controller, what follows files, names and health, and, as soon as there are doors, the admin API, until it
/// is to stop.
pub(super) async fn run(
    controller: Controller,
    names: impl Future<Output = ()> + Send + 'static,
    files: Files,
    doors: oneshot::Receiver<Doors>,
    (admin, (limits, probe_limits, checks)): (Arc<Admin>, (Limits, Limits, supervisor::Allowance)),
    mut stop: watch::Receiver<bool>,
) {
    let store = admin.control.store().clone();
    let controller = tokio::spawn(controller.run());
    let mut watching = JoinSet::new();
    watching.spawn(watch_health(admin.control.clone(), admin.health.clone(), checks));
    watching.spawn(events::watch(admin.control.clone()));
    watching.spawn(become_ready(admin.lifecycle.clone(), admin.health.clone()));
    let names = tokio::spawn(names);
    watching.spawn(follow_keys(files.keys));
    watching.spawn(admin.certificates.clone().follow());
    watching.spawn(follow_backs(admin.control.clone()));
    if let Some(file) = &admin.file {
        watching.spawn(follow_file(file.clone(), admin.control.clone(), admin.lifecycle.clone()));
    }
    if let Some(book) = files.own_tls {
        watching.spawn(book.follow());
    }
    if let Some(book) = files.tokens {
        watching.spawn(book.follow());
    }
    let doors = tokio::select! {
        doors = doors => doors.ok(),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let (socket, probed) = doors.map_or((None, None), |doors| (doors.admin, doors.probes));
    let probes = async {
        if let Some(listener) = probed
            && let Err(error) = probes::serve(listener, Arc::clone(&admin), probe_limits, stop.clone()).await
        {
            tracing::error!(%error, "the address of [health] could not be served");
        }
    };
    let calls = async {
        if let Some(socket) = socket
            && let Err(error) = serve(socket, Arc::clone(&admin), limits, stop.clone()).await
        {
            // The proxy goes on: traffic matters more than the means to change it.
            tracing::error!(%error, "the admin API could not be served");
        }
    };
    tokio::join!(calls, probes);
    // Without an admin API, or after it has failed, changes can still come from inside the process.
    let _ = stop.wait_for(|stop| *stop).await;
    names.abort();
    controller.abort();
    // A change that is being made durable is, whether or not anybody is told: the store is closed after it.
    let _ = tokio::time::timeout(Duration::from_secs(1), controller).await;
    if let Err(error) = store.close().await {
        tracing::error!(%error, "the state's database could not be closed as it should be");
    }
}

/// Resolves names, anew whenever the file says how in another way.
pub(super) async fn follow_names(
    control: Control,
    (others, questions): (Vec<SocketAddr>, usize),
    first: SyncSender<()>,
) {
    let mut changes = control.changes();
    let of = |config: &Config| (config.dns.clone(), own_addresses(config, &others));
    let mut first = Some(first);
    loop {
        let (dns, own) = of(&changes.borrow_and_update().config);
        // Nobody waits for the first answers of a later round.
        let first = first.take().unwrap_or_else(|| std::sync::mpsc::sync_channel(1).0);
        let ask = Dns::new(dns.clone(), questions);
        let follow = names::follow(control.clone(), ask, dns.clone(), own.clone(), first);
        tokio::select! {
            () = follow => return,
            changed = changes.wait_for(|next| of(&next.config) != (dns.clone(), own.clone())) => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Where this process listens; a listener's port that is yet to be taken is not among them.
fn own_addresses(config: &Config, others: &[SocketAddr]) -> Vec<SocketAddr> {
    let listeners = config.listeners.iter().map(|listener| listener.address);
    listeners.chain(others.iter().copied()).filter(|own| own.port() != 0).collect()
}

/// Follows the file of keys that was named last.
async fn follow_keys(mut files: mpsc::UnboundedReceiver<Option<KeyFile>>) {
    let mut followed: Option<KeyFile> = None;
    loop {
        let follow = async {
            match followed.take() {
                Some(file) => file.follow().await,
                None => std::future::pending().await,
            }
        };
        followed = tokio::select! {
            () = follow => return,
            next = files.recv() => match next {
                Some(next) => next,
                None => return,
            },
        };
    }
}

/// Follows the configuration file from the moment on at which it can be put in force.
async fn follow_file(file: File, control: Control, lifecycle: Lifecycle) {
    let is_listening = lifecycle.watch().wait_for(|phase| *phase >= Phase::Probing).await.is_ok();
    if is_listening {
        reload::follow(file, control).await;
    }
}

/// Has the endpoints of whichever table is in force watched.
async fn watch_health(control: Control, health: Health, checks: supervisor::Allowance) {
    let mut changes = control.changes();
    let mut table = Arc::clone(&changes.borrow_and_update().table);
    let (followed, following) = watch::channel(Targets::from(targets(&table)));
    let supervisor = supervisor::run(health.clone(), following, control.alarm(), checks, fastrand::u64(..));
    let follow = async {
        while changes.changed().await.is_ok() {
            let next = Arc::clone(&changes.borrow_and_update().table);
            // A change of weights leaves all pools as they were.
            let alike = table.pools.len() == next.pools.len()
                && table.pools.iter().zip(&next.pools).all(|(before, now)| Arc::ptr_eq(before, now));
            if !alike {
                followed.send_replace(targets(&next).into());
            }
            // A drain may have taken the last endpoint that was not ejected.
            health.judge(Instant::now());
            table = next;
        }
    };
    tokio::join!(supervisor, follow);
}

/// Advances from [`Phase::Probing`] to [`Phase::Ready`] when the first results are there, or should be.
async fn become_ready(lifecycle: Lifecycle, health: Health) {
    let mut phases = lifecycle.watch();
    let probing = phases.wait_for(|phase| *phase >= Phase::Probing).await.is_ok();
    if probing {
        health.settled().await;
        lifecycle.advance(Phase::Ready);
    }
}

/// Follows the files of TLS with endpoints, of whichever table is in force.
async fn follow_backs(control: Control) {
    let in_force = || {
        let table = Arc::clone(&control.snapshot().table);
        table.pools.iter().filter_map(|pool| pool.way.tls.clone()).collect()
    };
    tls::follow_backs(in_force).await;
}

/// The pools of a table, as the health layer knows them.
pub(super) fn targets(table: &Table) -> Vec<PoolTarget> {
    let target = |pool: &Arc<Pool>| PoolTarget {
        settings: Arc::clone(&pool.settings),
        state: Arc::clone(&pool.state),
        way: pool.way.clone(),
        endpoints: pool.endpoints.clone(),
    };
    table.pools.iter().map(target).collect()
}
