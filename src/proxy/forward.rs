//! A request's attempts: connect or reuse, exchange, and if it failed, say whether and where it goes again.

use std::{future::poll_fn, io, pin::pin, task::Poll, time::Instant};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::{
    answer::Answer,
    clock,
    downstream::{After, Downstream},
    exchange::{Exchange, Failed, Finished, LOOK},
    handler::Request,
    listener,
    outbox::Outbox,
    requests::KeptRequest,
    response_head::Afterwards,
    retry::{self, Failure, Verdict},
    tunnel,
};
use crate::{
    config::defaults::MAX_RETRY_ATTEMPTS,
    routing::select::{self, Selection},
    upstream::{connections::Connection, endpoint::EndpointId},
};

/// The most attempts of a request; bounds the list of endpoints that were tried.
const MOST_ATTEMPTS: usize = 1 + MAX_RETRY_ATTEMPTS as usize;

/// What the attempts so far have used up.
struct Tried {
    endpoints: [EndpointId; MOST_ATTEMPTS],
    count: usize,
    /// The next attempt must not reuse a connection.
    fresh: bool,
}

/// Forwards a request and brings its response back.
pub(super) async fn forward(downstream: &mut Downstream, mut request: KeptRequest) -> After {
    let mut up = Outbox::new(std::mem::take(&mut request.message));
    let timeout = request.routed.settings().timeout;
    let due = timeout.map(|timeout| request.account.started + timeout);
    let mut tried = Tried { endpoints: [request.lease.id; MOST_ATTEMPTS], count: 0, fresh: false };
    let result = loop {
        request.account.attempts += 1;
        let failed = match attempt(downstream, &mut request, &mut up, due, tried.fresh).await {
            Ok(ended) => break Ok(ended),
            Err(failed) => failed,
        };
        if !again(downstream, &mut request, &failed, &mut tried) {
            break Err(failed);
        }
        up.rewind();
    };
    up.give_back(&downstream.worker.buffers);
    let after = match result {
        Ok((finished, connection)) => end(downstream, &mut request, finished, connection).await,
        Err(failed) => fail(downstream, &mut request, failed).await,
    };
    downstream.worker.requests.end(request, &downstream.on_listener);
    after
}

/// Makes one attempt.
async fn attempt(
    downstream: &mut Downstream,
    request: &mut Request,
    up: &mut Outbox,
    due: Option<Instant>,
    fresh: bool,
) -> Result<(Finished, Connection), Failed> {
    let reused = if fresh { None } else { request.lease.idle.take(clock::now()) };
    let mut connection = match reused {
        Some(connection) => {
            request.lease.traffic.reuses.add(1);
            connection
        }
        None => connect(downstream, request, due).await.map_err(|failure| Failed {
            failure,
            replayable: true,
            answered: false,
        })?,
    };
    let Connection { stream, reused } = &mut connection;
    let mut exchange = Exchange::new(downstream, stream, *reused, request, up, due);
    let finished = poll_fn(|cx| exchange.poll(cx)).await;
    drop(exchange);
    match finished {
        Ok(finished) => Ok((finished, connection)),
        Err(failed) => {
            if failed.failure.is_upstream() {
                request.lease.traffic.attempt_failures.add(1);
            }
            Err(failed)
        }
    }
}

/// Opens a connection to the endpoint, within the pool's time for it.
async fn connect(
    downstream: &mut Downstream,
    request: &Request,
    due: Option<Instant>,
) -> Result<Connection, Failure> {
    downstream.worker.make_room();
    let pool = &request.routed.table.pools[request.pool].settings;
    let limit = clock::now() + pool.connect_timeout;
    let limit = due.map_or(limit, |due| due.min(limit));
    let mut look_at = clock::now() + LOOK;
    let mut connecting = pin!(TcpStream::connect(request.lease.address));
    let connected = poll_fn(|cx| {
        loop {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(connected.map_err(Failure::of_connecting));
            }
            if !downstream.deadline.poll_at(cx, limit.min(look_at)) {
                return Poll::Pending;
            }
            if limit <= clock::now() {
                let late = Failure::UpstreamUnreachable(io::ErrorKind::TimedOut.into());
                let is_over = due.is_some_and(|due| due <= clock::now());
                return Poll::Ready(Err(if is_over { Failure::TimedOut } else { late }));
            }
            if downstream.is_reset() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            look_at = clock::now() + LOOK;
        }
    })
    .await;
    let ready = connected.and_then(|stream| {
        prepare(&stream).map_err(Failure::UpstreamUnreachable)?;
        Ok(Connection { stream, reused: false })
    });
    let traffic = &request.lease.traffic;
    match &ready {
        Ok(_) => traffic.connects.add(1),
        Err(Failure::UpstreamUnreachable(error)) => {
            tracing::debug!(endpoint = %request.lease.address, %error, "an endpoint can't be connected to");
            traffic.connect_failures.add(1);
        }
        Err(_) => {}
    }
    ready
}

/// Sets the options of an upstream's socket.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&listener::keep_alive())
}

/// Decides whether the request goes again, and moves it to where it goes.
#[cold]
fn again(downstream: &Downstream, request: &mut Request, failed: &Failed, tried: &mut Tried) -> bool {
    let settings = request.routed.settings();
    let verdict = retry::judge(&failed.failure, failed.replayable, request.traits.is_idempotent);
    if verdict == Verdict::Stands
        || tried.count >= MOST_ATTEMPTS
        || request.account.attempts > settings.retries.attempts
        || !downstream.worker.routing.borrow_mut().budget.has_one(clock::now())
    {
        return false;
    }
    tried.fresh = verdict == Verdict::SameEndpoint;
    if verdict == Verdict::OtherEndpoint && !move_on(downstream, request, tried) {
        return false;
    }
    downstream.worker.routing.borrow_mut().budget.spend();
    request.account.retried();
    request.lease.traffic.retries.add(1);
    true
}

/// Moves a request to an endpoint that was not tried; answers whether there is one.
fn move_on(downstream: &Downstream, request: &mut Request, tried: &mut Tried) -> bool {
    tried.endpoints[tried.count] = request.lease.id;
    tried.count += 1;
    let selection = {
        let mut routing = downstream.worker.routing.borrow_mut();
        let routing = &mut *routing;
        select::select_again(
            &request.routed.table,
            &mut routing.chooser,
            &mut routing.upstreams,
            &mut routing.series,
            (request.routed.route, request.arm, request.pool),
            &tried.endpoints[..tried.count],
        )
    };
    let Selection::Forward { arm, pool, lease, .. } = selection else { return false };
    (request.arm, request.pool, request.lease) = (arm, pool, lease);
    request.account.assign(&request.routed.table, arm, pool);
    true
}

/// The response has been sent to its end.
async fn end(
    downstream: &mut Downstream,
    request: &mut Request,
    finished: Finished,
    mut connection: Connection,
) -> After {
    request.account.received = request.body.data_bytes();
    if finished.tunnel {
        let carried = tunnel::run(downstream, &mut connection.stream).await;
        request.account.received += carried.up;
        request.account.sent += carried.down;
        request.account.close(Some(&request.lease), true);
        return After::Close;
    }
    let Request { lease, account, routed, pool, .. } = request;
    if finished.upstream_reusable && !lease.occupancy.is_draining() {
        let pool = &routed.table.pools[*pool].settings;
        lease.idle.give(connection.stream, clock::now(), pool.idle_timeout, pool.max_idle);
    }
    account.close(Some(lease), true);
    match finished.afterwards {
        Afterwards::Stays | Afterwards::StaysAndSaysSo => After::Next,
        // A client that asked for the close, and whose request was read whole, sends nothing more.
        Afterwards::Closes if finished.request_read && !request.traits.keeps_alive => After::Close,
        Afterwards::Closes => After::Linger,
    }
}

/// No attempt has succeeded.
async fn fail(downstream: &mut Downstream, request: &mut Request, failed: Failed) -> After {
    request.account.received = request.body.data_bytes();
    tracing::debug!(
        error = %failed.failure,
        endpoint = %request.lease.address,
        attempts = request.account.attempts,
        "a request failed"
    );
    let status = failed.failure.status();
    let (Some(status), false) = (status, failed.answered) else {
        // A response that was begun can only be broken off, so that the client sees that it is not whole.
        request.account.close(Some(&request.lease), false);
        return After::Close;
    };
    let keeps_alive = request.traits.keeps_alive
        && request.body.is_done()
        && !failed.failure.is_client()
        && !downstream.worker.is_leaving();
    let afterwards = Afterwards::of(keeps_alive, request.traits.is_http11);
    let answer = Answer::problem(status, &failed.failure);
    let Request { account, lease, traits, routed, .. } = request;
    downstream
        .send_answer(&answer, Some(account), Some(routed), Some(lease), traits.is_head, afterwards)
        .await
}
