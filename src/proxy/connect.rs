//! How an attempt comes by its connection: one that is idle, a stream on one that carries many, or a new one.
//!
//! Invariant: whatever comes to nothing here has sent nothing of its request, so another attempt may always be made.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Instant,
};

use super::{
    admission, attempt::Next, clock, downstream::Downstream, exchange::LOOK, handler::Request, retry::Failure,
};
use crate::{
    telemetry::causes::TimeoutKind,
    upstream::{
        connections::{Connection, Place},
        http2::{Carrier, Terms},
        stream::UpstreamStream,
        waiting::{Granted, Wants},
        way::{Made, NoConnection},
    },
};

/// Why there is no connection, and where the next attempt goes if that was decided already.
pub(super) type Unconnected = (Failure, Option<Box<Next>>);

/// A connection of HTTP/1.1 that this attempt has for itself. `per_try` is set to the end of the attempt's own time.
#[inline]
pub(super) async fn own(
    downstream: &mut Downstream,
    request: &Request,
    per_try: &mut Option<Instant>,
) -> Result<Connection, Unconnected> {
    let way = request.way().number();
    let reused =
        if request.attempts.needs_fresh { None } else { request.lease.idle().take(clock::now(), way) };
    let granted = match reused {
        Some(connection) => Ok(Granted::Connection(connection)),
        None => admission::admit(downstream, request).await,
    };
    // What an attempt waits for a connection that it may have is not the upstream's time.
    *per_try = request.per_try_due(clock::now());
    match granted {
        Ok(Granted::Connection(connection)) => {
            request.lease.traffic.reuses.add(1);
            Ok(connection)
        }
        Ok(Granted::Place(place)) => open(downstream, request, per_try, place).await,
        Err(failure) => Err((failure, None)),
    }
}

/// A connection in a pool whose endpoints speak HTTP/2, or may: a stream on one that others use, too, where they do.
pub(super) async fn shared(
    downstream: &mut Downstream,
    request: &Request,
    per_try: &mut Option<Instant>,
) -> Result<Connection, Unconnected> {
    let (lease, way) = (&request.lease, request.way());
    // The attempts of others that it waits for are of its own time for a connection.
    let mut began = clock::now();
    *per_try = request.per_try_due(began);
    loop {
        let (now, number) = (clock::now(), way.number());
        if let Some(stream) = lease.carriers().open(now, number, lease.drain.epoch()) {
            lease.traffic.reuses.add(1);
            return Ok(Connection::of_stream(stream));
        }
        // One of HTTP/1.1 may be left of an upgrade, and is no use to others where HTTP/2 is spoken.
        if !request.attempts.needs_fresh
            && request.wants() == Wants::Either
            && let Some(connection) = lease.idle().take(now, number)
        {
            lease.traffic.reuses.add(1);
            return Ok(connection);
        }
        // Where the endpoint has chosen HTTP/1.1, nobody gains by waiting for somebody else's connection.
        let dialing = if lease.prefers_http1() { None } else { lease.carriers().dial() };
        if dialing.is_none() && !lease.prefers_http1() {
            let before = lease.carriers().dialed();
            let dialed = poll_fn(|cx| lease.carriers().poll_dialed(cx, before).map(Ok));
            within(downstream, request, per_try, began, pin!(dialed)).await?;
            continue;
        }
        let place = Place::take(lease.shared());
        let granted = match place {
            Some(place) => Granted::Place(place),
            None => {
                // It may be long until there is one: others need not wait for this.
                drop(dialing);
                let granted = admission::admit(downstream, request).await;
                let granted = granted.map_err(|failure| (failure, None))?;
                began = clock::now();
                *per_try = request.per_try_due(began);
                match granted {
                    Granted::Connection(connection) => {
                        lease.traffic.reuses.add(1);
                        return Ok(connection);
                    }
                    Granted::Place(place) => {
                        return open_shared(downstream, request, per_try, began, place).await;
                    }
                }
            }
        };
        let Granted::Place(place) = granted else { continue };
        let opened = open_shared(downstream, request, per_try, began, place).await;
        drop(dialing);
        return opened;
    }
}

/// Opens a connection of HTTP/1.1, within the pool's time for it.
async fn open(
    downstream: &mut Downstream,
    request: &Request,
    per_try: &mut Option<Instant>,
    place: Place,
) -> Result<Connection, Unconnected> {
    downstream.worker.make_room();
    let epoch = request.lease.drain.epoch();
    let made = pin!(request.way().connect(request.lease.address, true));
    let made = within(downstream, request, per_try, clock::now(), made).await;
    let made =
        made.and_then(|made| Ok((made, admission::in_time(request).map_err(|failure| (failure, None))?)));
    count(request, made.as_ref().err().map(|(failure, _)| failure));
    let (made, ()) = made?;
    let good_until = admission::good_until(downstream, request);
    let Made { socket, way, .. } = made;
    let stream = UpstreamStream::Own(socket);
    Ok(Connection { stream, reused: false, good_until, epoch, way, place: Some(place) })
}

/// Opens a connection to an endpoint that speaks HTTP/2, or may; answers the first stream on it if it does.
async fn open_shared(
    downstream: &mut Downstream,
    request: &Request,
    per_try: &mut Option<Instant>,
    began: Instant,
    place: Place,
) -> Result<Connection, Unconnected> {
    downstream.worker.make_room();
    let lease = &request.lease;
    let (epoch, now) = (lease.drain.epoch(), clock::now());
    let good_until = admission::good_until(downstream, request);
    let idle_timeout = request.routed.table.pools[request.pool].settings.idle_timeout;
    let opened = within(
        downstream,
        request,
        per_try,
        began,
        pin!(async {
            let made = request.way().connect(lease.address, false).await?;
            lease.prefer_http1(!made.is_http2);
            if !made.is_http2 {
                let Made { socket, way, .. } = made;
                let stream = UpstreamStream::Own(socket);
                return Ok(Err(Connection {
                    stream,
                    reused: false,
                    good_until,
                    epoch,
                    way,
                    place: Some(place),
                }));
            }
            let is_secured = request.way().tls.is_some();
            let terms = Terms { way: made.way, epoch, good_until, idle_timeout, is_secured };
            Carrier::begin(made.socket, terms, place, lease.count(), now).await.map(Ok)
        }),
    )
    .await;
    let opened = opened.and_then(|opened| match (admission::in_time(request), opened) {
        (Ok(()), opened) => Ok(opened),
        (Err(failure), opened) => {
            // Nobody would know of it.
            opened.iter().for_each(|carrier| carrier.leave());
            Err((failure, None))
        }
    });
    count(request, opened.as_ref().err().map(|(failure, _)| failure));
    match opened? {
        Err(connection) => Ok(connection),
        Ok(carrier) => {
            let stream = lease.carriers().add(carrier);
            lease.offer();
            // It has sent a GOAWAY behind its settings, or allows no streams.
            let none = || (Failure::UpstreamRefused { is_gone: true }, None);
            stream.map(Connection::of_stream).ok_or_else(none)
        }
    }
}

/// Waits for a connection within the pool's time for it, which `began` then. The attempt's own time ends it for another attempt alone; if
/// none is made, the attempt has no time of its own any more.
async fn within<T>(
    downstream: &mut Downstream,
    request: &Request,
    per_try: &mut Option<Instant>,
    began: Instant,
    mut connecting: Pin<&mut impl Future<Output = Result<T, NoConnection>>>,
) -> Result<T, Unconnected> {
    let pool = &request.routed.table.pools[request.pool].settings;
    let due = request.attempts.due;
    let limit = began + pool.connect_timeout;
    let mut look_at = clock::now() + LOOK;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(connected.map_err(|error| (Failure::of_connection(error), None)));
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
    .await
}

/// Counts a connection that was opened, or that could not be.
fn count(request: &Request, failure: Option<&Failure>) {
    let traffic = &request.lease.traffic;
    match failure {
        None => traffic.connects.add(1),
        Some(
            failure @ (Failure::UpstreamUnreachable(_)
            | Failure::UpstreamNotHttp2
            | Failure::TimedOut(TimeoutKind::Connect | TimeoutKind::PerTry)),
        ) => {
            tracing::debug!(endpoint = %request.lease.address, ?failure, "an endpoint can't be connected to");
            traffic.connect_failures.add(1);
        }
        Some(Failure::UpstreamUnfit(unfit)) => {
            traffic.connect_failures.add(1);
            traffic.tls_failures.add(1);
            if request.lease.is_to_tell(clock::now()) {
                let (endpoint, pool) = (request.lease.address, &request.lease.pool);
                tracing::warn!(%endpoint, %pool, "no TLS with an endpoint: {unfit}");
            }
        }
        Some(_) => {}
    }
}
