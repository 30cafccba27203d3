//! The message that the upstream gets of a request that was decided.
//!
//! Invariant: it begins with a head of our own writing, and holds nothing of a body but what has passed its framing.

use super::{Begin, Request, Traits};
use crate::{
    proxy::{
        account::Account,
        answer::Answer,
        attempt::Attempts,
        buffers::Buffers,
        downstream::Downstream,
        grpc,
        pin::InSession,
        replay::Replay,
        request_head::{Outgoing, trailers_to_drop},
        routed::Routed,
    },
    routing::{head_view::HeadView, pins::Session, select, table::Table, terms::Unfit},
    upstream::local::Lease,
    wire::body::Body,
};

/// Writes the message that the upstream gets, as far as the request has come.
pub(super) fn forward(
    downstream: &Downstream,
    view: &HeadView<'_>,
    upgrade: Option<usize>,
    (arm, pool, lease, session): (Option<(usize, usize)>, usize, Lease, Option<Session>),
    (routed, mut account): (Routed, Account),
) -> (Begin, usize) {
    let (worker, head, buffer) = (&downstream.worker, view.head, view.buffer);
    let settings = routed.settings();
    account.assign(&routed.table, arm, pool);
    worker.routing.borrow_mut().budget.earn(settings.retries.budget);
    let mut message = worker.buffers.take();
    let outgoing = Outgoing {
        buffer,
        head,
        target: view.target,
        route: settings,
        peer: &downstream.peer,
        upgrade: upgrade.map(|index| settings.upgrades[index].as_bytes()),
        request_id: routed.request_id(),
        scheme: downstream.stream.scheme(),
        is_http2: downstream.stream.is_http2(),
        in_session: session.is_some(),
    };
    outgoing.write(&mut message);
    let head_end = message.len() - b"\r\n".len();
    let mut body = Body::of_request(head.body);
    body.drop_trailers(trailers_to_drop(&settings.request_headers, &head.fields, buffer));
    let rest = &buffer[head.length..];
    let passed = match pass_first(&mut body, rest, &mut message, settings.max_body, &worker.buffers) {
        Ok(passed) => passed,
        Err(refusal) => {
            worker.buffers.give(message);
            return (Begin::answer(refusal, Some(account), Some(routed)), buffer.len());
        }
    };
    let traits = Traits::of(view, upgrade, downstream);
    let session = session.map(|session| InSession::new(session, view, downstream.peer.is_trusted));
    let key = copied_key(downstream, view, &routed.table, arm);
    let time = if traits.is_call { grpc::time(view, settings.timeout) } else { settings.timeout };
    let attempts = Attempts::new(lease.id, time.map(|time| account.started + time));
    let up = Replay::new(message, head_end);
    let request = Request { routed, arm, pool, session, lease, up, body, attempts, key, traits, account };
    // It is moved into its box before anything is asked of it, and so but once.
    let mut request = worker.requests.keep(request, &downstream.standing.in_flight);
    if !request.body.is_done() || traits.told_attempts > 0 {
        request.prepare();
    }
    (Begin::Forward(request), head.length + passed)
}

/// What a split with a key buckets a request by, for its further attempts: its head will be gone by then.
#[inline]
fn copied_key(
    downstream: &Downstream,
    view: &HeadView<'_>,
    table: &Table,
    arm: Option<(usize, usize)>,
) -> Vec<u8> {
    let split = arm.map(|(split, _)| &table.splits[split]).filter(|split| split.settings.key.is_some());
    let Some(split) = split else { return Vec::new() };
    let mut key = downstream.worker.buffers.take();
    select::copy_key(split, view, &mut key);
    key
}

/// Adds what has come of the body to the message; answers how many bytes that was.
fn pass_first(
    body: &mut Body,
    bytes: &[u8],
    message: &mut Vec<u8>,
    most: Option<u64>,
    buffers: &Buffers,
) -> Result<usize, Answer> {
    if bytes.is_empty() || body.is_done() {
        return Ok(0);
    }
    let mut aside = if body.is_plain() { Vec::new() } else { buffers.take() };
    let passed = body.pass(bytes, &mut aside);
    if let Ok(passed) = &passed {
        message.extend_from_slice(&bytes[..passed.direct]);
        message.extend_from_slice(&aside);
    }
    buffers.give(aside);
    match passed {
        Err(error) => Err(Answer::closing(400, error)),
        Ok(_) if most.is_some_and(|most| body.announced_bytes() > most) => {
            Err(Answer::closing(Unfit::BodyTooLarge.status(), Unfit::BodyTooLarge))
        }
        Ok(passed) => Ok(passed.read),
    }
}
