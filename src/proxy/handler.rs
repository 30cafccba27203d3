//! From a request's head to what is done about it: one synchronous act.
//!
//! Invariant: whatever is refused here has reached no upstream, and what is decided is decided by one whole
//! generation of the routing table.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::SystemTime,
};

use super::{
    account::Account,
    answer::Answer,
    client,
    connection::Downstream,
    request_head::Outgoing,
    request_id::RequestId,
    target::{self, Target},
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
    telemetry::access_log::Record,
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

/// A parsed HTTP/1.1 request, as the routing layer sees it.
struct View<'a> {
    buffer: &'a [u8],
    head: &'a RequestHead,
    target: &'a Target<'a>,
    client: IpAddr,
}

impl RequestView for View<'_> {
    fn method(&self) -> &[u8] {
        self.head.method.of(self.buffer)
    }

    fn scheme(&self) -> &str {
        "http"
    }

    fn host(&self) -> &str {
        &self.target.host
    }

    fn path(&self) -> &[u8] {
        &self.target.path
    }

    fn query(&self) -> Option<&[u8]> {
        self.target.query
    }

    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        self.head.fields.value(self.buffer, name, nth)
    }

    fn client(&self) -> IpAddr {
        self.client
    }
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
    let trusted = client::is_trusted(downstream.peer.ip(), &settings.trusted_proxies);
    let client = client::address(buffer, &head.fields, downstream.peer, &settings.trusted_proxies);
    decide(downstream, &View { buffer, head, target: &target, client }, trusted)
}

/// Selects, and does what the selection says.
fn decide(downstream: &Downstream, view: &View<'_>, trusted: bool) -> (Begin, usize) {
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
        return act(downstream, &View { target: &target, ..*view }, trusted, table, selection);
    }
    act(downstream, view, trusted, table, selection)
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
    trusted: bool,
    table: Rc<Generation>,
    selection: Selection,
) -> (Begin, usize) {
    let worker = &downstream.worker;
    let open = |route: Option<&Route>| {
        let mut account = Account::open(worker, route.map(|route| route.slot));
        if worker.is_logged() {
            account.record = Some(record(downstream, view, table.generation, route));
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
            answer(redirect(&route.settings, view.target), Some(route))
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
            forward(downstream, view, trusted, upgrade, Routed { table, route, arm, pool, lease, account })
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
    trusted: bool,
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
        settings.request_id.then(|| Box::new(request_id(view, trusted, &mut routing.rng)))
    };
    let mut message = worker.buffers.take();
    let outgoing = Outgoing {
        buffer,
        head,
        target: view.target,
        route: settings,
        peer: downstream.peer.ip(),
        peer_text: downstream.peer_text(),
        trusted,
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

/// Where a redirect leads: the request's own URL with the parts that the route replaces.
fn redirect(route: &config::Route, target: &Target<'_>) -> Answer {
    let config::Action::Redirect(redirect) = &route.action else {
        unreachable!("a table says that a route redirects only if its settings do")
    };
    let mut location = Vec::new();
    location.extend_from_slice(redirect.scheme.as_deref().unwrap_or("http").as_bytes());
    location.extend_from_slice(b"://");
    match (&redirect.host, &redirect.scheme) {
        (Some(host), _) => location.extend_from_slice(host.as_bytes()),
        // Another scheme has another default port: the one that the client used would be wrong.
        (None, Some(_)) => location.extend_from_slice(target.host.as_bytes()),
        (None, None) => location.extend_from_slice(target.authority),
    }
    match &redirect.path {
        Some(path) => location.extend_from_slice(path.as_bytes()),
        None => {
            location.extend_from_slice(if *target.path == *b"*" { b"/" } else { &target.path });
            if let Some(query) = target.query {
                location.push(b'?');
                location.extend_from_slice(query);
            }
        }
    }
    Answer { location: Some(location), ..Answer::problem(redirect.status, "") }
}

/// The access log's record of a request, as far as it is known before anything is done about it.
#[cold]
fn record(downstream: &Downstream, view: &View<'_>, generation: u64, route: Option<&Route>) -> Box<Record> {
    let user_agent = view.header("user-agent", 0).unwrap_or_default();
    let referer = view.header("referer", 0).unwrap_or_default();
    let target = view.target;
    let query = target.query.unwrap_or_default();
    let room = 128 + target.path.len() + query.len() + target.host.len() + user_agent.len() + referer.len();
    let mut record = Record::with_capacity(room);
    record.time = SystemTime::now();
    record.client = Some(SocketAddr::new(view.client, downstream.peer.port()));
    record.generation = generation;
    for (field, text) in [
        (LogField::Listener, downstream.listener.name.as_str().as_bytes()),
        (LogField::Method, view.method()),
        (LogField::Scheme, view.scheme().as_bytes()),
        (LogField::Host, target.host.as_bytes()),
        (LogField::Path, &target.path),
        (LogField::Query, query),
        (LogField::Version, if view.head.is_http11 { b"1.1" } else { b"1.0" }),
        (LogField::Route, route.map_or("", |route| route.settings.name.as_str()).as_bytes()),
        (LogField::UserAgent, user_agent),
        (LogField::Referer, referer),
    ] {
        record.set(field, text);
    }
    Box::new(record)
}
