//! Listening sockets, one for each worker, and the loop that accepts on one.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};

use super::{
    connection,
    plane::ProxyError,
    worker::{Phase, Worker},
};
use crate::{config::Listener, tls::Front};

/// Connections that the kernel holds for a worker that has not accepted them yet.
const BACKLOG: i32 = 4096;
/// How long accepting pauses when descriptors are used up or the cap on connections is reached.
const PAUSE: Duration = Duration::from_millis(20);
/// A trouble that lasts is warned of this often.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// The sockets of one listener.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Each worker's share.
    pub(super) sockets: Vec<Vec<Socket>>,
}

/// What one worker knows of a listener.
#[derive(Debug)]
pub(super) struct Standing {
    /// The settings of connections to come.
    pub(super) settings: RefCell<Rc<Listener>>,
    /// What has them speak TLS.
    pub(super) front: RefCell<Option<Arc<Front>>>,
    /// Requests in flight.
    pub(super) in_flight: Cell<usize>,
    /// Whether it takes no more connections, and asks those that it has to go.
    pub(super) is_closed: Cell<bool>,
    /// Whether the connections that it still has are closed, with what is in flight on them.
    pub(super) is_cut: Cell<bool>,
    /// Wakes whoever accepts.
    pub(super) closed: Notify,
}

impl Standing {
    pub(super) fn new(settings: Listener, front: Option<Arc<Front>>) -> Self {
        Self {
            settings: RefCell::new(Rc::new(settings)),
            front: RefCell::new(front),
            in_flight: Cell::default(),
            is_closed: Cell::default(),
            is_cut: Cell::default(),
            closed: Notify::new(),
        }
    }

    fn max_connections(&self) -> usize {
        self.settings.borrow().max_connections
    }
}

/// One worker's socket of a listener.
#[derive(Debug)]
pub(super) struct Bound {
    /// The socket, listening.
    pub(super) socket: Socket,
    /// How many connections are open.
    pub(super) open: Open,
}

/// How many clients' connections are open, over all workers.
#[derive(Debug, Clone)]
pub(super) struct Open {
    /// Those of one listener.
    pub(super) on_listener: Arc<AtomicUsize>,
    /// Those of all.
    pub(super) on_all: Arc<AtomicUsize>,
    /// The most of all that the process has descriptors for.
    pub(super) most: Arc<AtomicUsize>,
}

impl Open {
    /// Whether there is no descriptor for another.
    pub(super) fn is_full(&self) -> bool {
        self.on_all.load(Ordering::Relaxed) >= self.most.load(Ordering::Relaxed)
    }
}

/// Binds a listener's address once for each worker (SO_REUSEPORT), so that the kernel shares connections out. Nothing is
/// accepted, nor queued, before [`listen`]. `is_ours` says that this process has the port already, and will give it up.
pub(super) fn bind(settings: &Listener, workers: usize, is_ours: bool) -> Result<Vec<Socket>, ProxyError> {
    let failed =
        |error| ProxyError::Bind { name: settings.name.to_string(), address: settings.address, error };
    if settings.address.port() != 0 && !is_ours {
        // With SO_REUSEPORT, a second instance would silently take a share of the first one's connections.
        Socket::new(Domain::for_address(settings.address), Type::STREAM, Some(Protocol::TCP))
            .and_then(|probe| {
                probe.set_reuse_address(true)?;
                probe.bind(&settings.address.into())
            })
            .map_err(failed)?;
    }
    let mut address = settings.address;
    let mut sockets = Vec::new();
    for _ in 0..workers {
        let socket = open(address).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        address = bound.as_socket().expect("an IP socket has an IP address");
        sockets.push(socket);
    }
    Ok(sockets)
}

/// How peers that have vanished without a word are found out: after a minute of silence, three probes ten seconds
/// apart. Only so does a tunnel whose peer lost its power come to its end.
pub(super) fn keep_alive() -> TcpKeepalive {
    let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(10));
    TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(3)
}

/// Has the kernel queue connections.
pub(super) fn listen(socket: &Socket) -> io::Result<()> {
    socket.listen(BACKLOG)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it, which saves a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keep_alive())?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Accepts until the worker drains or the listener is closed. Then what the kernel has queued is still accepted, and the
/// socket is closed.
pub(super) async fn accept(
    worker: Rc<Worker>,
    bound: Bound,
    standing: Rc<Standing>,
    mut phases: watch::Receiver<Phase>,
) {
    let listener = match TcpListener::from_std(bound.socket.into()) {
        Ok(listener) => listener,
        Err(error) => {
            let name = &standing.settings.borrow().name;
            tracing::error!(listener = %name, %error, "a socket can't be watched; it is closed");
            return;
        }
    };
    let mut warned = None;
    loop {
        if standing.is_closed.get() {
            break;
        }
        let on_listener = bound.open.on_listener.load(Ordering::Relaxed);
        if bound.open.is_full() || on_listener >= standing.max_connections() {
            tokio::time::sleep(PAUSE).await;
            if *phases.borrow() >= Phase::HandedOver || standing.is_closed.get() {
                break;
            }
            continue;
        }
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = standing.closed.notified() => break,
            _ = phases.wait_for(|phase| *phase >= Phase::HandedOver) => break,
        };
        match accepted {
            Ok((stream, peer)) => begin(&worker, &standing, &bound.open, stream, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if warned.is_none_or(|at: Instant| at.elapsed() >= BETWEEN_WARNINGS) {
                    warned = Some(Instant::now());
                    tracing::warn!(listener = %standing.settings.borrow().name, %error, "accepting pauses");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // The kernel has completed these handshakes already: dropping the socket now would reset them. The runtime may not
    // have heard of the last ones yet, so it is the socket that is asked; not for longer than it can have held them, as
    // a successor may be taking them, too.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        if bound.open.is_full() {
            return;
        }
        let Ok((stream, peer)) = listener.accept() else { return };
        let registered = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = registered {
            begin(&worker, &standing, &bound.open, stream, peer);
        }
    }
}

fn begin(worker: &Rc<Worker>, standing: &Rc<Standing>, open: &Open, stream: TcpStream, peer: SocketAddr) {
    let counted = Counted::new(worker, open);
    let (worker, standing) = (Rc::clone(worker), Rc::clone(standing));
    tokio::task::spawn_local(async move {
        connection::serve(worker, standing, stream, peer, &counted.open).await;
        drop(counted);
    });
}

/// An error that concerns the connection that was to be accepted, not the socket (see accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Counts a connection as long as it lives.
#[derive(Debug)]
struct Counted {
    worker: Rc<Worker>,
    open: Open,
}

impl Counted {
    fn new(worker: &Rc<Worker>, open: &Open) -> Self {
        worker.counts.accepted.add(1);
        worker.counts.connections.add(1);
        open.on_listener.fetch_add(1, Ordering::Relaxed);
        open.on_all.fetch_add(1, Ordering::Relaxed);
        Self { worker: Rc::clone(worker), open: open.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.worker.counts.connections.subtract(1);
        // Before its place is given on: what the upstream side had for it goes with it.
        self.worker.make_room();
        self.open.on_listener.fetch_sub(1, Ordering::Relaxed);
        self.open.on_all.fetch_sub(1, Ordering::Relaxed);
    }
}
