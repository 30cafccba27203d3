//! Listening sockets, one for each worker, and the loop that accepts on one.

use std::{
    cell::Cell,
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
    sync::watch,
};

use super::{
    connection,
    plane::ProxyError,
    worker::{Phase, Worker},
};
use crate::config::Listener;

/// Connections that the kernel holds for a worker that has not accepted them yet.
const BACKLOG: i32 = 4096;
/// How long accepting pauses when descriptors are used up or the cap on connections is reached.
const PAUSE: Duration = Duration::from_millis(20);
/// A trouble that lasts is warned of this often.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// The sockets of one listener.
#[derive(Debug)]
pub(super) struct Sockets {
    /// The address that they are bound to.
    pub(super) address: SocketAddr,
    /// Each worker's share.
    pub(super) sockets: Vec<Vec<std::net::TcpListener>>,
}

/// One worker's socket of a listener.
#[derive(Debug)]
pub(super) struct Bound {
    /// The listener's settings.
    pub(super) settings: Arc<Listener>,
    /// The socket.
    pub(super) socket: std::net::TcpListener,
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
    pub(super) most: usize,
}

impl Open {
    /// Whether there is no descriptor for another.
    fn is_full(&self) -> bool {
        self.on_all.load(Ordering::Relaxed) >= self.most
    }
}

/// Binds a listener's address once for each worker (SO_REUSEPORT), so that the kernel shares connections out.
pub(super) fn bind(settings: &Listener, workers: usize) -> Result<Vec<std::net::TcpListener>, ProxyError> {
    let failed =
        |error| ProxyError::Bind { name: settings.name.to_string(), address: settings.address, error };
    if settings.address.port() != 0 {
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
        address = socket.local_addr().map_err(failed)?;
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

fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it, which saves a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keep_alive())?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the worker drains. Then what the kernel has queued is still accepted, and the socket is closed.
pub(super) async fn accept(worker: Rc<Worker>, bound: Bound, mut phases: watch::Receiver<Phase>) {
    let listener = match TcpListener::from_std(bound.socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listener = %bound.settings.name, %error, "a socket can't be watched; it is closed");
            return;
        }
    };
    let settings = Rc::new(Listener::clone(&bound.settings));
    let in_flight = Rc::default();
    let mut warned = None;
    loop {
        if bound.open.is_full() || bound.open.on_listener.load(Ordering::Relaxed) >= settings.max_connections
        {
            tokio::time::sleep(PAUSE).await;
            if *phases.borrow() >= Phase::HandedOver {
                break;
            }
            continue;
        }
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = phases.wait_for(|phase| *phase >= Phase::HandedOver) => break,
        };
        match accepted {
            Ok((stream, peer)) => begin(&worker, (&settings, &in_flight), &bound.open, stream, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if warned.is_none_or(|at: Instant| at.elapsed() >= BETWEEN_WARNINGS) {
                    warned = Some(Instant::now());
                    tracing::warn!(listener = %settings.name, %error, "accepting pauses");
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
            begin(&worker, (&settings, &in_flight), &bound.open, stream, peer);
        }
    }
}

fn begin(
    worker: &Rc<Worker>,
    (settings, in_flight): (&Rc<Listener>, &Rc<Cell<usize>>),
    open: &Open,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let counted = Counted::new(worker, open);
    let (worker, listener) = (Rc::clone(worker), (Rc::clone(settings), Rc::clone(in_flight)));
    tokio::task::spawn_local(async move {
        connection::serve(worker, listener, stream, peer).await;
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
