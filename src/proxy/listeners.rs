//! Which listeners there are, and how others come and go while requests are served.
//!
//! Invariant: sockets are bound, and listen, before anything moves, so that a change of listeners can't fail half-way. Only
//! what would take connections from a listener that is in force listens when that has been told to close: a change that is
//! given up was seen by nobody whom this process had served. A worker is told by its own channel; nothing is shared with its
//! requests.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    inherited::{self, Hold, Inherited, Offer, share_out},
    listener::{self, Bound, Open, Sockets, Standing},
    plane::{Allowance, ProxyError},
    worker::{AccessLog, Phase, Worker},
};
use crate::{
    config::{Config, Listener},
    telemetry::access_log,
    tls::{Front, Fronts},
};

/// How long a worker may take to follow. Its loop turns a thousand times in that time.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// The listeners of the data plane, as others change them. Every clone is the same one.
#[derive(Debug, Clone)]
pub struct Listeners(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    /// Those in force, in the order of the configuration.
    listeners: Vec<Entry>,
    next_id: u64,
    on_all: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    /// How each worker is told.
    workers: Vec<mpsc::UnboundedSender<Order>>,
}

#[derive(Debug, Clone)]
struct Entry {
    id: u64,
    settings: Arc<Listener>,
    /// What has its clients speak TLS.
    front: Option<Arc<Front>>,
    address: SocketAddr,
    /// For a successor; `None` when no more connections are taken.
    hold: Option<Arc<Hold>>,
}

/// What a worker is told. It comes seldom, from the control plane alone, and is taken within a turn of the worker's loop.
#[derive(Debug)]
pub(super) enum Order {
    /// Accept on these sockets of a listener.
    Open { id: u64, settings: Arc<Listener>, front: Option<Arc<Front>>, bound: Vec<Bound> },
    /// Connections to come have other settings.
    Change { id: u64, settings: Arc<Listener>, front: Option<Arc<Front>> },
    /// Accept no more; what is left on its connections at the deadline is cut.
    Close { id: u64, deadline: Duration },
    /// Log elsewhere, or not at all.
    Log(Option<AccessLog>),
    /// Say that all that was told before is done.
    Answer(oneshot::Sender<()>),
}

/// A change of listeners that is ready. Dropped, it is given up.
#[derive(Debug)]
pub struct Prepared {
    of: Listeners,
    /// What is to be, in the order of the configuration.
    next: Vec<(Entry, Option<Sockets>)>,
    next_id: u64,
}

impl Listeners {
    /// None yet, for this many workers, and how each of those is told.
    pub(super) fn new(workers: usize, allowance: Allowance) -> (Self, Vec<mpsc::UnboundedReceiver<Order>>) {
        let (workers, orders) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        let most = Arc::new(AtomicUsize::new(allowance.connections));
        let known = Known { listeners: Vec::new(), next_id: 0, on_all: Arc::default(), most, workers };
        (Self(Arc::new(Mutex::new(known))), orders)
    }

    /// Where each listener is bound, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.known().listeners.iter().map(|entry| entry.address).collect()
    }

    /// The listening sockets, for a successor to accept on, too.
    pub fn offer(&self) -> io::Result<Vec<Offer>> {
        let known = self.known();
        known.listeners.iter().filter_map(|entry| Some(entry.hold.as_ref()?.offer())).collect()
    }

    /// Holds the sockets no more, but for the workers.
    pub(super) fn let_go(&self) {
        self.known().listeners.iter_mut().for_each(|entry| entry.hold = None);
    }

    /// Binds what a configuration has and this has not. `fronts` has the TLS of its listeners.
    pub fn prepare(&self, config: &Config, fronts: &Fronts) -> Result<Prepared, ProxyError> {
        self.prepare_with(config, fronts, Vec::new())
    }

    /// The same, but takes the sockets of listeners that were opened by another process.
    pub(super) fn prepare_with(
        &self,
        config: &Config,
        fronts: &Fronts,
        mut inherited: Vec<Inherited>,
    ) -> Result<Prepared, ProxyError> {
        let known = self.known();
        let workers = known.workers.len();
        let mut next_id = known.next_id;
        let mut next = Vec::new();
        let mut left: Vec<&Entry> = known.listeners.iter().collect();
        for settings in &config.listeners {
            let front = fronts.of(&settings.name).cloned();
            let same =
                left.iter().position(|entry| entry.is_at(settings)).map(|place| left.swap_remove(place));
            if let Some(entry) = same {
                next.push((Entry { settings: Arc::clone(settings), front, ..entry.clone() }, None));
                continue;
            }
            let port = settings.address.port();
            let is_ours = port != 0 && known.listeners.iter().any(|entry| entry.address.port() == port);
            let failed = |error| ProxyError::Bind {
                name: settings.name.to_string(),
                address: settings.address,
                error,
            };
            let sockets = match Inherited::take(&mut inherited, settings).map_err(failed)? {
                Some(sockets) => sockets,
                None => listener::bind(settings, workers, is_ours)?,
            };
            let address = inherited::address(&sockets).map_err(failed)?;
            let hold = Some(Arc::new(Hold::on(settings, &sockets).map_err(failed)?));
            let sockets = Sockets { sockets: share_out(sockets, workers).map_err(failed)? };
            let settings = Arc::clone(settings);
            next.push((Entry { id: next_id, settings, front, address, hold }, Some(sockets)));
            next_id += 1;
        }
        drop(known);
        Ok(Prepared { of: self.clone(), next, next_id })
    }

    /// Has every worker log elsewhere, or not at all.
    pub fn log_to(&self, log: Option<(&access_log::AccessLog, f64)>) {
        for worker in &self.known().workers {
            let log = log.map(|(log, sample)| AccessLog { sender: log.sender(), sample });
            // A worker that has gone logs nothing.
            let _ = worker.send(Order::Log(log));
        }
    }

    /// Ends when every worker has done what it was told so far; a worker that takes too long is not waited for.
    pub fn told(&self) -> impl Future<Output = ()> + Send + use<> {
        let workers = self.known().workers.clone();
        let asked = workers.iter().map(|worker| {
            let (answer, answered) = oneshot::channel();
            // That of a worker that has gone is dropped, which is an answer, too.
            let _ = worker.send(Order::Answer(answer));
            answered
        });
        let asked: Vec<_> = asked.collect();
        async move {
            let all = async {
                for answered in asked {
                    let _ = answered.await;
                }
            };
            if tokio::time::timeout(TOLD_WITHIN, all).await.is_err() {
                tracing::warn!("a worker is slow to follow a change of listeners or of the access log");
            }
        }
    }

    /// From now on the process has descriptors for this many connections.
    pub fn allow(&self, allowance: Allowance) {
        self.known().most.store(allowance.connections, Ordering::Relaxed);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What was in force when a thread panicked is.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Whether it is where a listener is to be. Port 0 is whichever port the name has got.
    fn is_at(&self, settings: &Listener) -> bool {
        self.settings.address == settings.address
            && (settings.address.port() != 0 || self.settings.name == settings.name)
    }

    /// Whether a connection could be for either of them.
    fn overlaps(&self, other: &Self) -> bool {
        let (one, two) = (self.address, other.address);
        one.port() == two.port()
            && (one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified())
    }
}

fn listen((entry, sockets): &(Entry, Option<Sockets>)) -> Result<(), ProxyError> {
    let Entry { settings, address, .. } = entry;
    let failed = |error| ProxyError::Bind { name: settings.name.to_string(), address: *address, error };
    let mut sockets = sockets.iter().flat_map(|sockets| sockets.sockets.iter().flatten());
    sockets.try_for_each(|socket| listener::listen(socket).map_err(failed))
}

impl Prepared {
    /// Has the kernel queue connections at the new addresses. Two that bind an address find out only here who has it, if both
    /// allow its reuse. Connections that come before the change is given up are reset; nobody had served that address before.
    pub fn listen(&self) -> Result<(), ProxyError> {
        let known = self.of.known();
        let is_free = |entry: &Entry| !known.listeners.iter().any(|other| other.overlaps(entry));
        self.next.iter().filter(|(entry, _)| is_free(entry)).try_for_each(listen)
    }

    /// Puts it in force: new sockets accept, those that are left out accept no more. What is in flight on these has until
    /// `deadline`. After [`Self::listen`] it does not fail: what is left to listen has an address that nobody else can have,
    /// as a listener of this process is on it.
    pub fn put_in_force(self, deadline: Duration) -> Result<(), ProxyError> {
        let Self { of, next, next_id } = self;
        next.iter().try_for_each(listen)?;
        let mut known = of.known();
        let stays = |entry: &Entry| next.iter().any(|(other, _)| other.id == entry.id);
        let (before, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut known.listeners).into_iter().partition(stays);
        for Entry { id, hold, .. } in gone {
            // Before the workers close theirs, or the kernel would go on to take connections that nobody accepts.
            drop(hold);
            known.tell_all(|| Order::Close { id, deadline });
        }
        for (entry, sockets) in next {
            match sockets {
                Some(sockets) => known.open(&entry, sockets),
                None if before.iter().any(|old| Arc::ptr_eq(&old.settings, &entry.settings)) => {}
                None => {
                    let settings = known.of_one_worker(&entry.settings);
                    known.tell_all(|| Order::Change {
                        id: entry.id,
                        settings: Arc::clone(&settings),
                        front: entry.front.clone(),
                    });
                }
            }
            known.listeners.push(entry);
        }
        known.next_id = next_id;
        Ok(())
    }
}

impl Known {
    fn tell_all(&self, order: impl Fn() -> Order) {
        for worker in &self.workers {
            // A worker that has gone has no listeners.
            let _ = worker.send(order());
        }
    }

    fn open(&self, entry: &Entry, sockets: Sockets) {
        let settings = self.of_one_worker(&entry.settings);
        let on_listener = Arc::new(AtomicUsize::new(0));
        for (worker, share) in self.workers.iter().zip(sockets.sockets) {
            let open = Open {
                on_listener: Arc::clone(&on_listener),
                on_all: Arc::clone(&self.on_all),
                most: Arc::clone(&self.most),
            };
            let bound = share.into_iter().map(|socket| Bound { socket, open: open.clone() }).collect();
            let (settings, front) = (Arc::clone(&settings), entry.front.clone());
            let _ = worker.send(Order::Open { id: entry.id, settings, front, bound });
        }
    }

    /// The settings with each worker's share of the requests.
    fn of_one_worker(&self, settings: &Listener) -> Arc<Listener> {
        let max_requests = settings.max_requests.div_ceil(self.workers.len());
        Arc::new(Listener { max_requests, ..settings.clone() })
    }
}

/// One worker's listeners.
#[derive(Debug, Default)]
pub(super) struct Running(RefCell<Vec<Accepting>>);

/// A listener by its number, what is known of it, and the tasks that accept.
type Accepting = (u64, Rc<Standing>, Vec<JoinHandle<()>>);

impl Running {
    /// Does as it is told, as long as somebody may tell.
    pub(super) async fn obey(
        &self,
        worker: &Rc<Worker>,
        mut orders: mpsc::UnboundedReceiver<Order>,
        phases: watch::Receiver<Phase>,
    ) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Open { id, settings, front, bound } => {
                    let standing = Rc::new(Standing::new(Listener::clone(&settings), front));
                    let accept = |bound| {
                        listener::accept(Rc::clone(worker), bound, Rc::clone(&standing), phases.clone())
                    };
                    let tasks = bound.into_iter().map(|bound| tokio::task::spawn_local(accept(bound)));
                    let tasks = tasks.collect();
                    self.0.borrow_mut().push((id, standing, tasks));
                }
                Order::Change { id, settings, front } => {
                    let running = self.0.borrow();
                    if let Some((_, standing, _)) = running.iter().find(|(known, ..)| *known == id) {
                        standing.settings.replace(Rc::new(Listener::clone(&settings)));
                        standing.front.replace(front);
                    }
                }
                Order::Close { id, deadline } => self.close(worker, id, deadline),
                Order::Log(log) => worker.log_to(log),
                Order::Answer(answer) => drop(answer.send(())),
            }
        }
    }

    fn close(&self, worker: &Rc<Worker>, id: u64, deadline: Duration) {
        let mut running = self.0.borrow_mut();
        let Some(place) = running.iter().position(|(known, ..)| *known == id) else { return };
        let (_, standing, _) = running.swap_remove(place);
        standing.is_closed.set(true);
        standing.closed.notify_waiters();
        let worker = Rc::clone(worker);
        // A connection of HTTP/2 can be told at once, without losing what its client is sending.
        worker.deadlines.wake_all();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(deadline).await;
            standing.is_cut.set(true);
            worker.deadlines.wake_all();
        });
    }

    /// Waits until nothing is accepted any more, which the phase brings about.
    pub(super) async fn ended(&self) {
        loop {
            let Some((.., tasks)) = self.0.borrow_mut().pop() else { return };
            for task in tasks {
                // A task that panicked accepts nothing either.
                let _ = task.await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
