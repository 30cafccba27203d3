//! The threads of the data plane: their start, their phases and their end.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    budget::Reserve,
    clock,
    deadline::SWEEP,
    inherited::Inherited,
    listeners::{Listeners, Order, Prepared, Running},
    worker::{AccessLog, Phase, Worker},
};
use crate::{
    config::Config,
    routing::live::Live,
    telemetry::{access_log, registry::Registry},
    tls::Fronts,
    upstream::{local::Upstreams, pleas::Pleas},
};

/// Idle upstream connections are looked over this often, and whether an endpoint has begun to drain.
const UPSTREAM_SWEEP: Duration = Duration::from_millis(500);

/// The data plane.
#[derive(Debug)]
pub struct Proxy {
    /// Where connections are accepted.
    pub listeners: Listeners,
    phase: watch::Sender<Phase>,
    workers: Vec<thread::JoinHandle<()>>,
}

/// The descriptors that the data plane may have. Beside these, each client's connection may have one upstream
/// connection, for its request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Connections of clients, over all listeners and workers, whatever the listeners' own limits say.
    pub connections: usize,
    /// Idle upstream connections, over all workers, that are kept even with few clients.
    pub idle_upstream: usize,
}

/// Why the data plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A listener's address can't be had.
    #[error("listener {name}: can't listen on {address}: {error}")]
    Bind {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A thread or its runtime can't be had.
    #[error("a worker can't be started: {0}")]
    Worker(#[from] io::Error),
}

impl Proxy {
    /// Binds the listeners, but for those whose sockets are `inherited`, and starts the workers. Connections are accepted
    /// when what this answers is put in force.
    pub fn start(
        config: &Config,
        fronts: &Fronts,
        inherited: Vec<Inherited>,
        live: &Live,
        series: &Arc<Registry>,
        log: Option<&access_log::AccessLog>,
        allowance: Allowance,
    ) -> Result<(Self, Prepared), ProxyError> {
        let count = workers(config);
        let (phase, phases) = watch::channel(Phase::Serving);
        let (listeners, orders) = Listeners::new(count, allowance);
        let prepared = listeners.prepare_with(config, fronts, inherited)?;
        let reserve = Arc::new(Reserve::new(clock::now()));
        let pleas = Arc::new(Pleas::new(count));
        let idle_floor = allowance.idle_upstream / count;
        let mut threads = Vec::new();
        for (index, orders) in orders.into_iter().enumerate() {
            let (live, series, phases) = (live.clone(), Arc::clone(series), phases.clone());
            let reserve = Arc::clone(&reserve);
            let log = log.zip(config.access_log.as_ref());
            let log = log.map(|(log, settings)| AccessLog { sender: log.sender(), sample: settings.sample });
            let pleas = Arc::clone(&pleas);
            let thread = thread::Builder::new().name(format!("worker-{index}"));
            let own = (pleas, index);
            let log = (log, idle_floor);
            threads.push(thread.spawn(move || run(orders, &live, series, reserve, phases, own, log))?);
        }
        Ok((Self { listeners, phase, workers: threads }, prepared))
    }

    /// Moves on to a later phase.
    pub fn enter(&self, phase: Phase) {
        if phase >= Phase::HandedOver {
            // Before the workers close theirs, or the kernel would go on to take connections that nobody accepts.
            self.listeners.let_go();
        }
        self.phase.send_if_modified(|current| std::mem::replace(current, phase.max(*current)) < phase);
    }

    /// Waits until every worker has ended: in [`Phase::Draining`], when the last request has.
    pub fn join(self) {
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker thread ended by a panic");
            }
        }
    }

    /// Whether every worker has ended.
    pub fn is_finished(&self) -> bool {
        self.workers.iter().all(thread::JoinHandle::is_finished)
    }
}

/// How many workers a configuration asks for: by default one for each core.
pub fn workers(config: &Config) -> usize {
    config.workers.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// The body of a worker's thread.
fn run(
    orders: mpsc::UnboundedReceiver<Order>,
    live: &Live,
    series: Arc<Registry>,
    reserve: Arc<Reserve>,
    phases: watch::Receiver<Phase>,
    (pleas, index): (Arc<Pleas>, usize),
    (log, idle_floor): (Option<AccessLog>, usize),
) {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_unpark(clock::wake)
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a worker's runtime can't be had; the worker is not started");
            return;
        }
    };
    runtime.block_on(async move {
        let upstreams = Upstreams::new(Arc::clone(&pleas), index);
        let worker = Rc::new(Worker::new(live, series, upstreams, reserve, log, idle_floor));
        let running = Rc::new(Running::default());
        let obeying = {
            let (running, worker, phases) = (Rc::clone(&running), Rc::clone(&worker), phases.clone());
            tokio::task::spawn_local(async move { running.obey(&worker, orders, phases).await })
        };
        let sweeper = tokio::task::spawn_local(sweep(Rc::clone(&worker)));
        let pleading = tokio::task::spawn_local(answer_pleas(Rc::clone(&worker), pleas, index));
        let turning = {
            let worker = Rc::clone(&worker);
            tokio::task::spawn_local(async move { worker.handshakes.follow().await })
        };
        follow(&worker, phases, &running, obeying).await;
        sweeper.abort();
        turning.abort();
        pleading.abort();
    });
}

/// Follows the phases until the worker's end.
async fn follow(
    worker: &Worker,
    mut phases: watch::Receiver<Phase>,
    running: &Running,
    obeying: JoinHandle<()>,
) {
    loop {
        let phase = *phases.borrow_and_update();
        worker.phase.set(phase);
        worker.deadlines.wake_all();
        match phase {
            Phase::Stopped => return,
            Phase::HandedOver | Phase::Draining => break,
            Phase::Serving | Phase::Leaving => {}
        }
        if phases.changed().await.is_err() {
            return;
        }
    }
    // They accept what the kernel has queued, and only then is it known how many connections there are.
    obeying.abort();
    running.ended().await;
    // The sweep wakes idle connections, which close themselves; requests in flight have until the phase ends.
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while worker.counts.connections.value() > 0 {
        tokio::select! {
            _ = tick.tick() => {}
            changed = phases.changed() => {
                let phase = *phases.borrow_and_update();
                if changed.is_err() || phase == Phase::Stopped {
                    return;
                }
                worker.phase.set(phase);
                worker.deadlines.wake_all();
            }
        }
    }
}

/// Gives up idle upstream connections that other workers need, as long as the worker lives.
async fn answer_pleas(worker: Rc<Worker>, pleas: Arc<Pleas>, index: usize) {
    loop {
        pleas.heard(index).await;
        worker.routing.borrow().upstreams.answer_pleas();
    }
}

/// Meets deadlines and closes idle upstream connections that are too old, as long as the worker lives.
async fn sweep(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut upstreams_at = clock::now() + UPSTREAM_SWEEP;
    loop {
        ticks.tick().await;
        clock::wake();
        let now = clock::now();
        worker.deadlines.sweep(now);
        if now >= upstreams_at {
            upstreams_at = now + UPSTREAM_SWEEP;
            let mut routing = worker.routing.borrow_mut();
            let began = routing.upstreams.sweep(now);
            routing.budget.advance(now);
            let generation = routing.reader.current().generation;
            drop(routing);
            if began {
                // Tunnels are quiet, and are to look from now on.
                worker.deadlines.wake_all();
            }
            let known = worker.counts.generation.value();
            worker.counts.generation.add(generation.wrapping_sub(known));
        }
    }
}
