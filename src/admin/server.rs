//! Accepts the connections of the admin API and ends them.
//!
//! Invariant: no client can hold more than its connection, and that one only for a bounded time: heads, bodies and
//! unread answers have limits, and so has the number of connections, at which the one that has been silent longest
//! gives way ([`super::places`]).

use std::{
    future::{poll_fn, ready},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use super::{
    author::Peer,
    places::{Place, Places},
    router::{Admin, router},
    secure,
    socket::{Socket, SocketFile},
};
use crate::control::lifecycle::{Lifecycle, Phase};

/// What clients of the admin API may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; over it, the one that has been silent longest is closed for the next.
    pub connections: usize,
    /// From the beginning of a connection, or of the wait for its next request, to the end of a head.
    pub head_timeout: Duration,
    /// The longest time in which a client that is being answered takes no byte.
    pub write_timeout: Duration,
    /// How long requests in flight may take when the server stops.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // People, scripts, probes and a scraper or two: far fewer in practice, far more would be a loop.
            connections: 256,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(2),
        }
    }
}

/// The largest head; nothing that calls this API comes near.
const MAX_HEAD: usize = 64 * 1024;
/// How long accepting pauses after an error such as running out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A trouble that lasts is warned of this often.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// How long, and for how many bytes, a closed connection waits for the client to close it too.
const MAX_LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER_BYTES: usize = 16 << 20;

/// What a connection came in over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// An address of loopback, in the clear.
    Tcp,
    /// An address, over TLS.
    Tls,
    /// A unix socket.
    Unix,
}

/// Serves the admin API until `stop` is set or dropped, and then until what is in flight has ended or
/// `limits.stop_timeout` is over. Once the process is handed over no connection is accepted, and those that are there end
/// with their next answer.
pub async fn serve(
    socket: Socket,
    admin: Arc<Admin>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let lifecycle = admin.lifecycle.clone();
    let ending = Ending::new(stop.clone(), lifecycle.clone());
    // The file is removed when this ends, after the last connection has.
    let mut file = None;
    match socket {
        Socket::Tcp(listener) => {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let front = admin.own_tls.clone();
            let transport = if front.is_some() { Transport::Tls } else { Transport::Tcp };
            let router = router(admin, transport);
            let accept = async || {
                let (stream, address) = listener.accept().await?;
                Ok(secure::arrive(stream, address, front.clone()))
            };
            accept_until(&ending, accept, router, limits, &mut connections).await;
        }
        Socket::Unix(listener, of_it) => {
            file = Some(of_it);
            let listener = tokio::net::UnixListener::from_std(listener)?;
            let router = router(admin, Transport::Unix);
            let accept = async || {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::unix(stream.peer_cred());
                Ok(ready(Some((stream, peer))))
            };
            accept_until(&ending, accept, router, limits, &mut connections).await;
        }
    }
    if lifecycle.phase() == Phase::HandedOver {
        // The successor listens on it.
        file.take().into_iter().for_each(SocketFile::leave);
    }
    let is_in_order = lifecycle.phase() == Phase::Draining;
    let mut end_all = std::pin::pin!(async { while connections.join_next().await.is_some() {} });
    let cut = async {
        stopped(&mut stop).await;
        tokio::time::sleep(limits.stop_timeout).await;
    };
    tokio::select! {
        () = &mut end_all => {}
        () = cut => tracing::warn!("admin calls were cut because they outlasted the stop"),
    }
    // A process that ends otherwise has perhaps never served: then its predecessor goes on to.
    file.filter(|_| is_in_order).into_iter().for_each(SocketFile::remove);
    Ok(())
}

/// Tells when no more connections are taken, and when an answer that could go on for ever is to end.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    stop: watch::Receiver<bool>,
    lifecycle: Lifecycle,
}

impl Ending {
    pub(super) fn new(stop: watch::Receiver<bool>, lifecycle: Lifecycle) -> Self {
        Self { stop, lifecycle }
    }

    /// Ends when the server stops, or a successor serves.
    pub(super) async fn ended(&self) {
        let (mut stop, mut phases) = (self.stop.clone(), self.lifecycle.watch());
        tokio::select! {
            () = stopped(&mut stop) => {}
            Ok(_) = phases.wait_for(|phase| *phase == Phase::HandedOver) => {}
        }
    }
}

/// Accepts until the end. What `accept` answers becomes a connection, or none, while others are accepted.
pub(super) async fn accept_until<S, A>(
    ending: &Ending,
    accept: impl AsyncFn() -> io::Result<A>,
    router: Router,
    limits: Limits,
    connections: &mut JoinSet<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Future<Output = Option<(S, Peer)>> + Send + 'static,
{
    let places = Places::new(limits.connections);
    let mut warned = None;
    loop {
        let accepted = tokio::select! {
            // Who is told that a successor serves is not answered here any more.
            biased;
            () = ending.ended() => return,
            accepted = accept() => accepted,
            // Collects what has ended, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(arrival) => {
                let place = tokio::select! {
                    // What was accepted is answered, though a successor has begun to serve at this moment.
                    biased;
                    place = places.take() => place,
                    () = ending.ended() => return,
                };
                let (router, of_it, ending) = (router.clone(), Arc::clone(&place), ending.clone());
                let serving = async move {
                    let Some((stream, peer)) = arrival.await else { return };
                    connection(stream, router, limits, Known { peer, place: of_it, ending }).await;
                };
                connections.spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = place.lost() => {
                            tracing::debug!("an admin connection was closed for a newer one");
                        }
                    }
                });
            }
            Err(error) => {
                if warned.is_none_or(|at: Instant| at.elapsed() >= BETWEEN_WARNINGS) {
                    warned = Some(Instant::now());
                    tracing::warn!(%error, "the admin API could not accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a connection's calls may know of it.
struct Known {
    peer: Peer,
    place: Arc<Place>,
    ending: Ending,
}

/// Serves one connection until it ends, or, once the server stops, until its request in flight has.
async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    limits: Limits,
    Known { peer, place, mut ending }: Known,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let until = ending.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        place.renew();
        let extensions = request.extensions_mut();
        // A call that changes something keeps its connection's place, and is written down as its peer's.
        extensions.insert(Arc::clone(&place));
        extensions.insert(peer.clone());
        extensions.insert(until.clone());
        Box::pin(router.clone().oneshot(request))
    });
    let mut serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let result = tokio::select! {
        result = poll_fn(|context| serving.poll_without_shutdown(context)) => result,
        () = stopped(&mut ending.stop) => {
            std::pin::Pin::new(&mut serving).graceful_shutdown();
            poll_fn(|context| serving.poll_without_shutdown(context)).await
        }
    };
    if let Err(error) = result {
        // A client's doing (it went away, or was too slow): of interest only to who looks for it.
        tracing::debug!(%error, "an admin connection ended");
    }
    linger(serving.into_parts().io.into_inner()).await;
}

/// Closes a connection such that the client can read its answer: closing one on which bytes lie unread, such as the
/// rest of a body that was too large, resets it and takes the answer with it (RFC 9112, 9.6).
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut unread = [0; 16 * 1024];
    let end = async {
        stream.shutdown().await?;
        let mut left = MAX_LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut unread).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        io::Result::Ok(())
    };
    // Whether the client closed, went away or went on: the connection is over.
    let _ = tokio::time::timeout(MAX_LINGER, end).await;
}

/// Ends when the server is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that nobody is left who could set it, which means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::duplex;

    use super::*;

    /// The process is handed over by another thread, at any time.
    #[tokio::test]
    async fn what_was_accepted_while_the_process_was_handed_over_is_answered() {
        // Which of two branches that are ready goes first could be left to chance: often enough, it is seen.
        for _ in 0..32 {
            let (_keep, stop) = watch::channel(false);
            let lifecycle = Lifecycle::default();
            let ending = Ending::new(stop, lifecycle.clone());
            let (mut client, ours) = duplex(4096);
            let ours = std::sync::Mutex::new(Some(ours));
            let accept = async || {
                lifecycle.advance(Phase::HandedOver);
                let ours = ours.lock().unwrap().take().expect("nothing more is accepted");
                Ok(ready(Some((ours, Peer::tcp(([127, 0, 0, 1], 1).into())))))
            };
            let mut connections = JoinSet::new();
            let router = Router::new().route("/livez", get(async || "ok"));
            accept_until(&ending, accept, router, Limits::default(), &mut connections).await;
            let request = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            client.write_all(request).await.expect("it is still there");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }
}
