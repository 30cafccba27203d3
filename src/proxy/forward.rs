//! A request's attempts: connect or reuse, exchange, and if it failed, go where the next attempt goes.

use std::{future::poll_fn, io, pin::pin, task::Poll, time::Instant};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::{
    admission,
    answer::Answer,
    attempt::Next,
    awaiting, clock,
    downstream::{After, Downstream},
    exchange::{Begun, Exchange, Failed, Finished, LOOK},
    handler::Request,
    listener,
    requests::KeptRequest,
    response_head::Afterwards,
    retry::Failure,
    tunnel,
};
use crate::{
    telemetry::causes::TimeoutKind,
    upstream::{
        connections::{Connection, Place},
        drain::{Kind, Stream},
        waiting::Granted,
    },
};

/// Forwards a request and brings its response back.
pub(super) async fn forward(downstream: &mut Downstream, mut request: KeptRequest) -> After {
    let result = loop {
        request.account.attempts += 1;
        let mut failed = match attempt(downstream, &mut request).await {
            Ok(ended) => break Ok(ended),
            Err(failed) => failed,
        };
        if let Failure::UpstreamStatus(status) = failed.failure {
            request.lease.outcomes.answered(status);
        } else if failed.failure.counts_against_endpoint() {
            request.lease.outcomes.failed();
        }
        let next = match failed.next.take() {
            Some(next) => next,
            None => match Box::pin(awaiting::again(downstream, &mut request, &failed.failure)).await {
                Some(Ok(next)) => next,
                Some(Err(failure)) => break Err(Failed { failure, ..failed }),
                None => break Err(failed),
            },
        };
        if let Some(pause) = request.go_on(downstream, &failed.failure, *next) {
            // Boxed, as every connection's task would be larger by it otherwise.
            Box::pin(tokio::time::sleep(pause)).await;
        }
    };
    let worker = &downstream.worker;
    request.up.give_back(&worker.buffers, &worker.kept_bytes);
    worker.buffers.give(std::mem::take(&mut request.key));
    let after = match result {
        Ok((finished, connection)) => end(downstream, &mut request, finished, connection).await,
        Err(failed) => fail(downstream, &mut request, failed).await,
    };
    downstream.worker.requests.end(request, &downstream.standing.in_flight);
    after
}

/// Makes one attempt.
async fn attempt(
    downstream: &mut Downstream,
    request: &mut Request,
) -> Result<(Finished, Connection), Failed> {
    let now = clock::now();
    let reused = if request.attempts.needs_fresh { None } else { request.lease.idle().take(now) };
    let granted = match reused {
        Some(connection) => Ok(Granted::Connection(connection)),
        None => admission::admit(downstream, request).await,
    };
    // What an attempt waits for a connection that it may have is not the upstream's time.
    let mut per_try = request.per_try_due(clock::now());
    let result = match granted {
        Ok(Granted::Connection(connection)) => {
            request.lease.traffic.reuses.add(1);
            Ok(connection)
        }
        Ok(Granted::Place(place)) => connect(downstream, request, &mut per_try, place).await,
        Err(failure) => Err((failure, None)),
    };
    let mut connection = match result {
        Ok(connection) => connection,
        Err((failure, decided)) => {
            let next = decided.or_else(|| request.next(downstream, &failure, true));
            return Err(noted(request, Failed { failure, next, begun: Begun::Nothing }));
        }
    };
    let Connection { stream, reused, .. } = &mut connection;
    let mut exchange = Exchange::new(downstream, stream, *reused, request, per_try);
    let finished = poll_fn(|cx| exchange.poll(cx)).await;
    drop(exchange);
    match finished {
        Ok(finished) => {
            // Only now: an answer that was cut short was no good one.
            if let Some(status) = request.account.status() {
                request.lease.outcomes.answered(status);
            }
            Ok((finished, connection))
        }
        Err(failed) => {
            if failed.failure.is_upstream() {
                request.lease.traffic.attempt_failures.add(1);
            }
            Err(noted(request, failed))
        }
    }
}

/// Counts a time that ran out, if it was one.
#[cold]
fn noted(request: &mut Request, failed: Failed) -> Failed {
    if let Some(kind) = failed.failure.timeout() {
        let Request { account, lease, .. } = request;
        account.timed_out(kind, lease, failed.next.is_none());
    }
    failed
}

/// Opens a connection to the endpoint, within the pool's time for it. The attempt's own time ends it for another
/// attempt alone; if none is made, the attempt has no time of its own any more.
async fn connect(
    downstream: &mut Downstream,
    request: &Request,
    per_try: &mut Option<Instant>,
    place: Place,
) -> Result<Connection, (Failure, Option<Box<Next>>)> {
    downstream.worker.make_room();
    let pool = &request.routed.table.pools[request.pool].settings;
    let (due, began) = (request.attempts.due, clock::now());
    let limit = began + pool.connect_timeout;
    let mut look_at = began + LOOK;
    let epoch = request.lease.drain.epoch();
    let mut connecting = pin!(TcpStream::connect(request.lease.address));
    let connected = poll_fn(|cx| {
        loop {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(connected.map_err(|error| (Failure::of_connecting(error), None)));
            }
            let next = [due, *per_try].into_iter().flatten().fold(limit.min(look_at), Instant::min);
            if !downstream.deadline.poll_at(cx, next) {
                return Poll::Pending;
            }
            let now = clock::now();
            let is_past = |time: Option<Instant>| time.is_some_and(|time| time <= now);
            let failure = if is_past(due) {
                Some(Failure::of_time(TimeoutKind::Request, request.is_used_up_since(began)))
            } else if limit <= now {
                Some(Failure::TimedOut(TimeoutKind::Connect))
            } else if downstream.is_reset() {
                Some(Failure::ClientGone)
            } else {
                admission::in_time(request).err()
            };
            if let Some(failure) = failure {
                return Poll::Ready(Err((failure, None)));
            }
            if is_past(*per_try) {
                *per_try = None;
                let failure = Failure::TimedOut(TimeoutKind::PerTry);
                if let Some(next) = request.next(downstream, &failure, true) {
                    return Poll::Ready(Err((failure, Some(next))));
                }
            }
            look_at = now + LOOK;
        }
    })
    .await;
    let ready = connected.and_then(|stream| {
        admission::in_time(request).map_err(|failure| (failure, None))?;
        prepare(&stream).map_err(|error| (Failure::UpstreamUnreachable(error), None))?;
        let good_until = admission::good_until(downstream, request);
        Ok(Connection { stream, reused: false, good_until, epoch, place })
    });
    count_connect(request, ready.as_ref().err().map(|(failure, _)| failure));
    ready
}

/// Counts a connection that was opened, or that could not be.
fn count_connect(request: &Request, failure: Option<&Failure>) {
    let traffic = &request.lease.traffic;
    match failure {
        None => traffic.connects.add(1),
        Some(
            failure @ (Failure::UpstreamUnreachable(_)
            | Failure::TimedOut(TimeoutKind::Connect | TimeoutKind::PerTry)),
        ) => {
            tracing::debug!(endpoint = %request.lease.address, ?failure, "an endpoint can't be connected to");
            traffic.connect_failures.add(1);
        }
        Some(_) => {}
    }
}

/// Sets the options of an upstream's socket.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&listener::keep_alive())
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
        let stream = Stream::open(&request.lease, Kind::Tunnel, &mut downstream.worker.marks.borrow_mut());
        let carried = tunnel::run(downstream, &mut connection.stream, &stream).await;
        request.account.received += carried.up;
        request.account.sent += carried.down;
        request.account.close(Some(&request.lease), true);
        if carried.was_closed {
            downstream.worker.count_cut(&request.lease, Kind::Tunnel);
            return After::Linger;
        }
        return After::Close;
    }
    let Request { lease, account, routed, pool, .. } = request;
    if finished.upstream_reusable && !lease.occupancy.is_draining() {
        let pool = &routed.table.pools[*pool].settings;
        lease.give(connection, clock::now(), pool.idle_timeout, pool.max_idle);
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
    if let Failure::Drained { kind, .. } = failed.failure {
        downstream.worker.count_cut(&request.lease, kind);
    }
    let status = failed.failure.status();
    let (Some(status), Begun::Nothing) = (status, failed.begun) else {
        // A response that was begun can only be broken off, so that the client sees that it is not whole.
        if failed.begun == Begun::UntilClose {
            downstream.stream.reset_at_close();
        }
        request.account.close(Some(&request.lease), false);
        return After::BreakOff;
    };
    let keeps_alive = request.traits.keeps_alive
        && request.body.is_done()
        && !failed.failure.is_client()
        && !downstream.is_leaving();
    let afterwards = Afterwards::of(keeps_alive, request.traits.is_http11);
    let attempt = request.attempt_mark();
    let answer = Answer { attempt, ..Answer::problem(status, &failed.failure) };
    let Request { account, lease, traits, routed, .. } = request;
    let after = downstream
        .send_answer(&answer, Some(account), Some(routed), Some(lease), traits.is_head, afterwards)
        .await;
    if failed.failure.is_client() && after != After::Close {
        lease.traffic.client_faults.add(1);
    }
    after
}
