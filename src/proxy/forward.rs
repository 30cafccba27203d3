//! A request's attempts: connect or reuse, exchange, and if it failed, go where the next attempt goes.

use std::future::poll_fn;

use super::{
    answer::Answer,
    awaiting, clock, connect,
    downstream::{After, Downstream},
    exchange::{Begun, Exchange, Failed, Finished},
    handler::Request,
    requests::KeptRequest,
    response_head::Afterwards,
    retry::Failure,
    tunnel,
};
use crate::{
    model::grpc::GrpcStatus,
    upstream::{
        connections::Connection,
        drain::{Kind, Stream},
        waiting::Wants,
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
        } else if let Failure::UpstreamGrpc(status) = failed.failure {
            request.lease.outcomes.answered(status.to_http());
        } else if failed.failure.counts_against_endpoint() && !request.is_upgrade_of_another_protocol() {
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
    let mut per_try = None;
    let result = match request.wants() {
        Wants::Http1 => connect::own(downstream, request, &mut per_try).await,
        // In a box, as every connection's task would be larger by it otherwise.
        Wants::Streams | Wants::Either => Box::pin(connect::shared(downstream, request, &mut per_try)).await,
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
            if request.traits.is_call {
                note_call(request, &connection);
            } else if let Some(status) = request.account.status() {
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

/// Notes how a call of gRPC has ended.
#[cold]
fn note_call(request: &mut Request, connection: &Connection) {
    let http = request.account.status().unwrap_or_default();
    let said = connection.stream.grpc_status();
    // An endpoint that says no status of gRPC may speak none, whatever its client takes it for: what it says is HTTP's.
    request.lease.outcomes.answered(said.map_or(http, |status| http.max(status.to_http())));
    request.account.grpc = Some(said.unwrap_or(match http {
        200 => GrpcStatus::UNKNOWN,
        http => GrpcStatus::of_failure(http),
    }));
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
    let answer = if request.traits.is_call { answer.into_call() } else { answer };
    let Request { account, lease, traits, routed, .. } = request;
    let after = downstream
        .send_answer(&answer, Some(account), Some(routed), Some(lease), traits.is_head, afterwards)
        .await;
    if failed.failure.is_client() && after != After::Close {
        lease.traffic.client_faults.add(1);
    }
    after
}
