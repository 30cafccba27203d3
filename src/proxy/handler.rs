//! From a request's head to what is done about it: one synchronous act.
//!
//! Invariant: whatever is refused here has reached no upstream, and what is decided is decided by one whole
//! generation of the routing table.

mod message;

use std::{borrow::Cow, rc::Rc};

use super::{
    account::Account,
    admission,
    answer::Answer,
    attempt::{self, Attempts},
    awaiting::{self, Waiting},
    client,
    downstream::Downstream,
    pin::InSession,
    rate, record, redirect,
    replay::Replay,
    requests::KeptRequest,
    routed::Routed,
    worker::Routing,
};
use crate::{
    config,
    model::{access_log::LogField, path},
    routing::{
        head_view::HeadView,
        live::Generation,
        rate_limit::{Allowance, Limited},
        select::{self, Selection},
        table::{Route, Table},
        terms,
    },
    tls::Certificates,
    upstream::{gate::Limit, local::Lease},
    wire::{
        body::Body,
        request::{RequestBody, RequestHead},
        target::{self, Target},
    },
};

/// What is done about a request.
#[derive(Debug)]
pub(super) enum Begin {
    /// Switchback answers it itself. In a box, since that is rarer, and much larger than what is moved otherwise.
    Answer(Box<OwnAnswer>),
    /// It is forwarded.
    Forward(KeptRequest),
    /// It waits, unread, for an endpoint, and is then decided anew.
    Await(Box<Waiting>),
}

/// An answer of Switchback's own, and what is known of its request.
#[derive(Debug)]
pub(super) struct OwnAnswer {
    pub(super) answer: Answer,
    /// None before a table is asked.
    pub(super) account: Option<Account>,
    /// None if no route takes it.
    pub(super) routed: Option<Routed>,
}

/// A request on its way to an upstream.
#[derive(Debug)]
pub(super) struct Request {
    /// Its route.
    pub(super) routed: Routed,
    /// The split and the arm in it, unless the route names a pool.
    pub(super) arm: Option<(usize, usize)>,
    /// The pool, an index into the table.
    pub(super) pool: usize,
    /// The session that it belongs to, if its split is sticky.
    pub(super) session: Option<InSession>,
    /// The claim on the endpoint.
    pub(super) lease: Lease,
    /// On its way up: at first the head and as much of the body as came with it.
    pub(super) up: Replay,
    /// The rest of the request's body.
    pub(super) body: Body,
    /// What its attempts have used up.
    pub(super) attempts: Attempts,
    /// What the split buckets it by, if it does, in a buffer of the worker's.
    pub(super) key: Vec<u8>,
    /// What of the head is needed later.
    pub(super) traits: Traits,
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
    /// How many attempts a Switchback in front has made before this one, if it says so. Whoever says so has fewer
    /// attempts made here, so it is believed of anyone.
    pub(super) earlier_attempts: u32,
    /// How many of those are told to the upstream: what a client says that is not trusted is not quoted.
    pub(super) told_attempts: u32,
}

impl Begin {
    /// An answer of Switchback's own.
    pub(super) fn answer(answer: Answer, account: Option<Account>, routed: Option<Routed>) -> Self {
        Self::Answer(Box::new(OwnAnswer { answer, account, routed }))
    }
}

impl Request {
    /// Says how much of the body that is still to come is kept for another attempt: none where there will be none, or
    /// where the body is known to be too long. And says in the head what a layer in front has done.
    fn prepare(&mut self) {
        let retries = &self.routed.settings().retries;
        let is_short = self.body.announced_bytes() <= retries.max_body as u64;
        if retries.attempts > 0 && is_short && self.is_repeatable() {
            self.up.keep(retries.max_body.saturating_sub(self.body.data_bytes() as usize));
        }
        if self.traits.told_attempts > 0 {
            self.up.rewind(self.traits.told_attempts + 1);
        }
    }

    /// How many attempts were made of it, here and in front, if it is more than one: then nobody in front is to make
    /// more for the failure that came of it.
    pub(super) fn attempt_mark(&self) -> Option<u32> {
        Some(self.traits.earlier_attempts + self.account.attempts).filter(|attempts| *attempts > 1)
    }
}

impl Traits {
    fn of(head: &RequestHead, buffer: &[u8], upgrade: Option<usize>, is_trusted: bool) -> Self {
        let earlier_attempts = head.attempt.map_or(0, |value| attempt::number(value.of(buffer)) - 1);
        let method = head.method.of(buffer);
        Self {
            is_head: method == b"HEAD",
            is_idempotent: matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE"),
            is_http11: head.is_http11,
            keeps_alive: head.keeps_alive(),
            expects_continue: head.expects_continue,
            upgrade,
            earlier_attempts,
            told_attempts: if is_trusted { earlier_attempts } else { 0 },
        }
    }
}

/// Decides a request whose whole head stands at the start of `buffer`. Answers what is done about it and how many
/// bytes of `buffer` belong to it.
pub(super) fn begin(downstream: &Downstream, buffer: &[u8], head: &RequestHead) -> (Begin, usize) {
    let settings = &*downstream.listener;
    let refuse = |answer: Answer| {
        record::count_refused(downstream, answer.status);
        (Begin::answer(answer, None, None), buffer.len())
    };
    if !settings.allow_underscores
        && let Err(error) = head.refuse_underscores()
    {
        return refuse(Answer::closing(error.status(), error));
    }
    let target = match target::read(buffer, head, settings.default_host.as_deref()) {
        Ok(target) => target,
        Err(error) => return refuse(Answer::closing(error.status(), error)),
    };
    if let Some((name, certificates)) = downstream.stream.asked()
        && *name != *target.host
        && is_misdirected(name, certificates, &target.host)
    {
        let message = "this host has another certificate than the one that this connection was made with";
        return refuse(Answer::closing(421, message));
    }
    let peer = &downstream.peer;
    let own = downstream.stream.scheme();
    let (client, scheme) = if peer.is_trusted {
        let client = client::behind(peer.ip, buffer, &head.fields, &settings.trusted_proxies);
        (client, client::scheme(buffer, &head.fields, own))
    } else {
        (peer.ip, own)
    };
    let view = HeadView { buffer, head, target: &target, client, scheme };
    if downstream.standing.in_flight.get() >= settings.max_requests {
        record::count_refused(downstream, 503);
        let (answer, read) = unread(Answer::problem(503, "too many requests are in flight"), &view);
        return (Begin::answer(answer, None, None), read);
    }
    match settings.redirect_to_https {
        Some(port) if scheme == "http" => to_https(downstream, &view, port),
        _ => decide(downstream, &view),
    }
}

/// Sends a client to HTTPS, whatever it asked for.
#[cold]
fn to_https(downstream: &Downstream, view: &HeadView<'_>, port: u16) -> (Begin, usize) {
    let table = Rc::clone(downstream.worker.routing.borrow_mut().reader.current());
    let account = open(downstream, view, &table, None);
    let (answer, read) = unread(redirect::to_https(view.target, port), view);
    (Begin::answer(answer, Some(account), None), read)
}

/// Whether a client would have been shown another certificate had it asked for this host (RFC 9110 15.5.20).
#[cold]
fn is_misdirected(name: &str, certificates: &Certificates, host: &str) -> bool {
    certificates.is_of_others(host, &name.to_ascii_lowercase())
}

/// Selects, and does what the selection says.
fn decide(downstream: &Downstream, view: &HeadView<'_>) -> (Begin, usize) {
    let table = Rc::clone(downstream.worker.routing.borrow_mut().reader.current());
    let (mut selection, mut allowance) = (Selection::NoRoute, None);
    if let Some(route) = table.find(view) {
        match rate::take(downstream, &table.routes[route], view) {
            Ok(left) => allowance = left,
            Err(limited) => return refuse_limited(downstream, view, (table, route), limited),
        }
        let Routing { chooser, upstreams, series, .. } = &mut *downstream.worker.routing.borrow_mut();
        selection = select::select_on(&table, route, chooser, upstreams, series, view);
    }
    // A route that merges slashes was matched by the merged path; what is routed is what is forwarded.
    let mut merged = Vec::new();
    if merges_slashes(&table, &selection) && path::merge_slashes(&view.target.path, &mut merged) {
        let target = Target {
            host: Cow::Borrowed(&*view.target.host),
            authority: view.target.authority,
            path: Cow::Owned(merged),
            query: view.target.query,
        };
        return act(downstream, &HeadView { target: &target, ..*view }, table, selection, allowance);
    }
    act(downstream, view, table, selection, allowance)
}

fn merges_slashes(table: &Table, selection: &Selection) -> bool {
    match selection {
        Selection::NoRoute => false,
        Selection::Redirect { route }
        | Selection::Forward { route, .. }
        | Selection::Unavailable { route, .. }
        | Selection::Shed { route, .. } => table.routes[*route].settings.merge_slashes,
    }
}

/// Does what a selection says.
fn act(
    downstream: &Downstream,
    view: &HeadView<'_>,
    table: Rc<Generation>,
    selection: Selection,
    allowance: Option<Allowance>,
) -> (Begin, usize) {
    let worker = &downstream.worker;
    let (route, destination) = match selection {
        Selection::NoRoute => {
            worker.counts.unrouted.add(1);
            let account = open(downstream, view, &table, None);
            let (answer, read) = unread(Answer::problem(404, "no route takes this request"), view);
            return (Begin::answer(answer, Some(account), None), read);
        }
        Selection::Redirect { route } => (route, Err(None)),
        Selection::Unavailable { route, arm } => match awaiting::begin(downstream, &table, (route, arm)) {
            Some(Ok(waiting)) => return (Begin::Await(Box::new(waiting)), 0),
            Some(Err((pool, limit))) => return shed(downstream, view, table, (route, arm, pool), limit),
            None => (route, Err(Some("no endpoint is available"))),
        },
        Selection::Shed { route, arm, pool, limit } => {
            return shed(downstream, view, table, (route, arm, pool), limit);
        }
        Selection::Forward { route, arm, pool, lease, session } => (route, Ok((arm, pool, lease, session))),
    };
    let mut account = open(downstream, view, &table, Some(&table.routes[route]));
    let mut routed = {
        let rng = &mut worker.routing.borrow_mut().rng;
        Routed::new(table, route, view, downstream.peer.is_trusted, rng)
    };
    routed.allowance = allowance;
    if let (Some(record), Some(id)) = (&mut account.record, routed.request_id()) {
        record.set(LogField::RequestId, id);
    }
    let answer = match (destination, &routed.settings().action) {
        (Ok(selected), _) => match terms::check(routed.settings(), view) {
            Ok(upgrade) => return message::forward(downstream, view, upgrade, selected, (routed, account)),
            Err(unfit) => Answer::closing(unfit.status(), unfit),
        },
        (Err(_), config::Action::Redirect(settings)) => redirect::answer(settings, view.target, view.scheme),
        (Err(why), _) => Answer::problem(503, why.unwrap_or_default()),
    };
    let (answer, read) = unread(answer, view);
    (Begin::answer(answer, Some(account), Some(routed)), read)
}

/// Turns a request away whose pool is at a limit: it counts as one of the pool's.
#[cold]
fn shed(
    downstream: &Downstream,
    view: &HeadView<'_>,
    table: Rc<Generation>,
    (route, arm, pool): (usize, Option<(usize, usize)>, usize),
    limit: Limit,
) -> (Begin, usize) {
    let mut account = open(downstream, view, &table, Some(&table.routes[route]));
    account.assign(&table, arm, pool);
    let (answer, read) = unread(admission::shed(&table, pool, limit), view);
    let rng = &mut downstream.worker.routing.borrow_mut().rng;
    let routed = Routed::new(table, route, view, downstream.peer.is_trusted, rng);
    (Begin::answer(answer, Some(account), Some(routed)), read)
}

/// Turns a request away that comes too early.
#[cold]
fn refuse_limited(
    downstream: &Downstream,
    view: &HeadView<'_>,
    (table, route): (Rc<Generation>, usize),
    limited: Limited,
) -> (Begin, usize) {
    let account = open(downstream, view, &table, Some(&table.routes[route]));
    account.rate_limited();
    let (answer, read) = unread(Answer::later(limited, limited.wait), view);
    let rng = &mut downstream.worker.routing.borrow_mut().rng;
    let routed = Routed::new(table, route, view, downstream.peer.is_trusted, rng);
    (Begin::answer(answer, Some(account), Some(routed)), read)
}

/// Opens the account of a request.
fn open(downstream: &Downstream, view: &HeadView<'_>, table: &Table, route: Option<&Route>) -> Account {
    let mut account = Account::open(&downstream.worker, route.map(|route| route.slot));
    if let Some(waited) = downstream.waited {
        account.started = waited.since;
    }
    if downstream.worker.is_logged() {
        account.record = Some(record::record(downstream, view, table.generation, route));
    }
    account
}

/// An answer to a request whose body nobody will read: the connection can go on only if all of it is here.
fn unread(mut answer: Answer, view: &HeadView<'_>) -> (Answer, usize) {
    let (buffer, head) = (view.buffer, view.head);
    let body = match head.body {
        RequestBody::None => Some(0),
        RequestBody::Length(length) => usize::try_from(length).ok(),
        RequestBody::Chunked => None,
    };
    let end = body.and_then(|body| head.length.checked_add(body)).filter(|end| *end <= buffer.len());
    answer.close |= end.is_none();
    (answer, end.unwrap_or(buffer.len()))
}
