//! From a request's head to what is done about it: one synchronous act.
//!
//! Invariant: whatever is refused here has reached no upstream, and what is decided is decided by one whole
//! generation of the routing table.

use std::{borrow::Cow, rc::Rc};

use super::{
    account::Account,
    answer::Answer,
    client,
    downstream::Downstream,
    redirect,
    request_head::Outgoing,
    request_id::RequestId,
    target::{self, Target},
    view::{self, View},
    worker::Routing,
};
use crate::{
    config,
    model::{access_log::LogField, path},
    routing::{
        live::Generation,
        request_view::RequestView,
        select::{self, Selection},
        table::{Route, Table},
    },
    upstream::local::Lease,
    wire::{
        body::Body,
        fields::Known,
        request::{RequestBody, RequestHead},
    },
};

/// What is done about a request.
#[derive(Debug)]
pub(super) enum Begin {
    /// Switchback answers it itself.
    Answer(Answer, Option<Account>),
    /// It is forwarded.
    Forward(Request),
}

/// A request on its way to an upstream.
#[derive(Debug)]
pub(super) struct Request {
    /// The generation that decided it.
    pub(super) table: Rc<Generation>,
    /// The route, an index into the table.
    pub(super) route: usize,
    /// The split and the arm in it, unless the route names a pool.
    pub(super) arm: Option<(usize, usize)>,
    /// The pool, an index into the table.
    pub(super) pool: usize,
    /// The claim on the endpoint.
    pub(super) lease: Lease,
    /// What the upstream is to get: the head and as much of the body as came with it.
    pub(super) message: Vec<u8>,
    /// The request's body, as far as it was not in `message`.
    pub(super) body: Body,
    /// What of the head is needed later.
    pub(super) traits: Traits,
    /// The id that the response carries, too.
    pub(super) request_id: Option<Box<RequestId>>,
    /// What is counted.
    pub(super) account: Account,
}

/// What is needed of a request's head after it is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    /// It is a HEAD request.
    pub(super) is_head: bool,
    /// Sending it twice is as good as once (RFC 9110 9.2.2).
    pub(super) is_idempotent: bool,
    /// The client speaks HTTP/1.1.
    pub(super) is_http11: bool,
    /// The client allows another request on its connection.
    pub(super) keeps_alive: bool,
    /// The client waits for a 100 before it sends its body.
    pub(super) expects_continue: bool,
    /// The protocol that the client asked for and may upgrade to: an index into the route's `upgrades`.
    pub(super) upgrade: Option<usize>,
}

/// Decides a request whose whole head stands at the start of `buffer`. Answers what is done about it and how many
/// bytes of `buffer` belong to it.
pub(super) fn begin(downstream: &Downstream, buffer: &[u8], head: &RequestHead) -> (Begin, usize) {
    let settings = &*downstream.listener;
    let refuse = |answer: Answer| {
        downstream.worker.counts.refused.add(1);
        (Begin::Answer(answer, None), buffer.len())
    };
    if head.fields.underscore && !settings.allow_underscores {
        return refuse(Answer::closing(400, "a field name holds an underscore"));
    }
    let target = match target::read(buffer, head, settings.default_host.as_deref()) {
        Ok(target) => target,
        Err(error) => return refuse(Answer::closing(error.status(), error)),
    };
    let peer = &downstream.peer;
    let client = if peer.is_trusted {
        client::behind(peer.ip, buffer, &head.fields, &settings.trusted_proxies)
    } else {
        peer.ip
    };
    decide(downstream, &View { buffer, head, target: &target, client })
}

/// Selects, and does what the selection says.
fn decide(downstream: &Downstream, view: &View<'_>) -> (Begin, usize) {
    let (table, selection) = {
        let mut routing = downstream.worker.routing.borrow_mut();
        let Routing { reader, chooser, upstreams, series, .. } = &mut *routing;
        let table = Rc::clone(reader.current());
        let selection = select::select(&table, chooser, upstreams, series, view);
        (table, selection)
    };
    // A route that merges slashes was matched by the merged path; what is routed is what is forwarded.
    let mut merged = Vec::new();
    if merges_slashes(&table, &selection) && path::merge_slashes(&view.target.path, &mut merged) {
        let target = Target {
            host: Cow::Borrowed(&*view.target.host),
            authority: view.target.authority,
            path: Cow::Owned(merged),
            query: view.target.query,
        };
        return act(downstream, &View { target: &target, ..*view }, table, selection);
    }
    act(downstream, view, table, selection)
}

fn merges_slashes(table: &Table, selection: &Selection) -> bool {
    match selection {
        Selection::NoRoute => false,
        Selection::Redirect { route }
        | Selection::Forward { route, .. }
        | Selection::Unavailable { route, .. } => table.routes[*route].settings.merge_slashes,
    }
}

/// Does what a selection says.
fn act(
    downstream: &Downstream,
    view: &View<'_>,
    table: Rc<Generation>,
    selection: Selection,
) -> (Begin, usize) {
    let worker = &downstream.worker;
    let open = |route: Option<&Route>| {
        let mut account = Account::open(worker, route.map(|route| route.slot));
        if worker.is_logged() {
            account.record = Some(view::record(downstream, view, table.generation, route));
        }
        account
    };
    let answer = |answer: Answer, route: Option<&Route>| {
        let (answer, read) = unread(answer, view.buffer, view.head);
        (Begin::Answer(answer, Some(open(route))), read)
    };
    match selection {
        Selection::NoRoute => {
            worker.counts.unrouted.add(1);
            answer(Answer::problem(404, "no route takes this request"), None)
        }
        Selection::Redirect { route } => {
            let route = &table.routes[route];
            let config::Action::Redirect(settings) = &route.settings.action else {
                unreachable!("a table says that a route redirects only if its settings do")
            };
            answer(redirect::answer(settings, view.target), Some(route))
        }
        Selection::Unavailable { route, .. } => {
            answer(Answer::problem(503, "no endpoint is available"), Some(&table.routes[route]))
        }
        Selection::Forward { route, arm, pool, lease } => {
            let upgrade = match check(&table.routes[route].settings, view) {
                Ok(upgrade) => upgrade,
                Err(refusal) => return answer(refusal, Some(&table.routes[route])),
            };
            let account = open(Some(&table.routes[route]));
            forward(downstream, view, upgrade, Routed { table, route, arm, pool, lease, account })
        }
    }
}

/// An answer to a request whose body nobody will read: the connection can go on only if all of it is here.
fn unread(mut answer: Answer, buffer: &[u8], head: &RequestHead) -> (Answer, usize) {
    let body = match head.body {
        RequestBody::None => Some(0),
        RequestBody::Length(length) => usize::try_from(length).ok(),
        RequestBody::Chunked => None,
    };
    let end = body.and_then(|body| head.length.checked_add(body)).filter(|end| *end <= buffer.len());
    answer.close |= end.is_none();
    (answer, end.unwrap_or(buffer.len()))
}

/// Checks what only the route can say: the body's length, and whether the client may upgrade, and to what.
fn check(route: &config::Route, view: &View<'_>) -> Result<Option<usize>, Answer> {
    let head = view.head;
    if let (RequestBody::Length(length), Some(most)) = (head.body, route.max_body)
        && length > most
    {
        return Err(Answer::problem(413, "the request body is larger than this route allows"));
    }
    if !head.fields.connection.upgrade || !head.is_http11 {
        return Ok(None);
    }
    let lines = head.fields.lines.iter().filter(|field| field.known == Known::Upgrade);
    let mut protocols = lines.flat_map(|field| field.value.of(view.buffer).split(|byte| *byte == b','));
    let allowed = |protocol: &[u8]| {
        route
            .upgrades
            .iter()
            .position(|allowed| protocol.trim_ascii().eq_ignore_ascii_case(allowed.as_bytes()))
    };
    let upgrade = protocols.find_map(allowed);
    if upgrade.is_some() && !matches!(head.body, RequestBody::None | RequestBody::Length(0)) {
        return Err(Answer::closing(400, "a request to upgrade has no body"));
    }
    Ok(upgrade)
}

/// What a selection and the opening of an account gave.
struct Routed {
    table: Rc<Generation>,
    route: usize,
    arm: Option<(usize, usize)>,
    pool: usize,
    lease: Lease,
    account: Account,
}

/// Writes the message that the upstream gets.
fn forward(
    downstream: &Downstream,
    view: &View<'_>,
    upgrade: Option<usize>,
    routed: Routed,
) -> (Begin, usize) {
    let (worker, head, buffer) = (&downstream.worker, view.head, view.buffer);
    let Routed { table, route, arm, pool, lease, mut account } = routed;
    let settings = &table.routes[route].settings;
    account.assign(&table, arm, pool);
    let request_id = {
        let mut routing = worker.routing.borrow_mut();
        routing.budget.earn(settings.retries.budget);
        settings.request_id.then(|| Box::new(request_id(view, downstream.peer.is_trusted, &mut routing.rng)))
    };
    let mut message = worker.buffers.take();
    let outgoing = Outgoing {
        buffer,
        head,
        target: view.target,
        route: settings,
        peer: &downstream.peer,
        upgrade: upgrade.map(|index| settings.upgrades[index].as_bytes()),
        request_id: request_id.as_deref().map(RequestId::text),
    };
    outgoing.write(&mut message);
    let mut body = Body::of_request(head.body);
    let rest = &buffer[head.length..];
    let mut aside = worker.buffers.take();
    let passed = body.pass(rest, &mut aside);
    let refusal = match passed {
        Err(error) => Some(Answer::closing(400, error)),
        Ok(_) if settings.max_body.is_some_and(|most| body.announced_bytes() > most) => {
            Some(Answer::closing(413, "the request body is larger than this route allows"))
        }
        Ok(passed) => {
            message.extend_from_slice(&rest[..passed.direct]);
            message.extend_from_slice(&aside);
            None
        }
    };
    worker.buffers.give(aside);
    if let Some(refusal) = refusal {
        worker.buffers.give(message);
        return (Begin::Answer(refusal, Some(account)), buffer.len());
    }
    if let (Some(record), Some(id)) = (&mut account.record, &request_id) {
        record.set(LogField::RequestId, id.text());
    }
    let method = head.method.of(buffer);
    let traits = Traits {
        is_head: method == b"HEAD",
        is_idempotent: matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE"),
        is_http11: head.is_http11,
        keeps_alive: head.keeps_alive(),
        expects_continue: head.expects_continue,
        upgrade,
    };
    let read = head.length + passed.map_or(0, |passed| passed.read);
    (
        Begin::Forward(Request {
            table,
            route,
            arm,
            pool,
            lease,
            message,
            body,
            traits,
            request_id,
            account,
        }),
        read,
    )
}

/// The id of a request: what a trusted peer calls it, or a new one.
fn request_id(view: &View<'_>, trusted: bool, rng: &mut fastrand::Rng) -> RequestId {
    let sent = if trusted { view.header("x-request-id", 0) } else { None };
    sent.and_then(RequestId::believed).unwrap_or_else(|| RequestId::new(rng))
}
