//! Sessions that stay: which pin of a request counts, whether it is honoured, and when a new one is due.
//!
//! Invariant: a pin only ever chooses among what the table has. One that is forged, expired, released or of another
//! split is as good as none, and what it names gets nothing that it would not take: no drained endpoint, no pool that
//! is not the split's.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, Guard};

use super::{
    admission::Refused,
    request_view::RequestView,
    select::{Claims, Selection},
    table::{Arm, Split, Table},
};
use crate::{
    config::{PinTo, Sticky},
    model::{
        pin::{InvalidPin, Pin, PinBuffer, PinText},
        pin_keys::PinKeys,
    },
    telemetry::{
        pins::{Issued, NotHonoured},
        registry::LocalSeries,
    },
    upstream::{
        endpoint::{Endpoint, EndpointId},
        local::Lease,
    },
};

/// The field that may carry a pin, both ways.
pub const FIELD: &str = "x-switchback-pin";
/// How many cookies of the split's name are looked at: a page of a sibling domain can set more of them, in front.
const MOST_COOKIES: usize = 4;
/// How long after a change that releases pins some worker may still decide by the table before it. Pins that were
/// issued within this time by the table after it are dated behind it, so the two can always be told apart.
const RELEASE_MARGIN: Duration = Duration::from_secs(1);
/// How far ahead a pin may be dated, in milliseconds: clocks of instances that share the keys differ by less. Without a
/// bound, a pin that was once dated far ahead would never end, nor be released.
const MOST_AHEAD: u64 = 5 * 60 * 1000;

/// The keys that sign pins, shared by all tables and workers. There are none until the control plane has published
/// some.
#[derive(Debug, Clone, Default)]
pub struct SharedKeys(Arc<ArcSwap<PinKeys>>);

/// What a request of a sticky split carries from its selection to its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Which session it is; drawn at random when it began.
    id: u64,
    /// When the request was decided, in milliseconds since 1970.
    decided: u64,
    /// Whether the request has the field, and so the response does.
    pub has_field: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No pin was honoured: one is due wherever the request ends up.
    Open(Issued),
    /// A pin was honoured.
    Pinned(Kept),
}

/// An honoured pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    carrier: Carrier,
    arm: usize,
    /// The endpoint that the pin names, if the request went there.
    endpoint: Option<EndpointId>,
    /// The pin names an endpoint that could not take the request.
    strayed: bool,
    /// It is in the second half of its time.
    is_old: bool,
}

/// What brought a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    Field,
    Query,
    Cookie,
}

impl SharedKeys {
    /// The keys in use.
    pub fn load(&self) -> Guard<Arc<PinKeys>> {
        self.0.load()
    }

    /// Puts keys in use, on every worker's next request.
    pub fn publish(&self, keys: PinKeys) {
        self.0.store(Arc::new(keys));
    }
}

/// The moment up to which pins are released by a change, in milliseconds since 1970.
pub(super) fn released_until(at: SystemTime) -> u64 {
    milliseconds(at + RELEASE_MARGIN)
}

impl Claims<'_> {
    /// Selects by the request's pin. Without one that is honoured, answers the session that the request begins, or
    /// with which it moves.
    pub(super) fn pinned(
        &mut self,
        route: usize,
        split: usize,
        sticky: &Sticky,
        request: &impl RequestView,
    ) -> Result<Selection, Session> {
        let (table, now) = (self.table, milliseconds(SystemTime::now()));
        let compiled = &table.splits[split];
        let keys = sticky.signed.then(|| table.keys.load());
        let keys = keys.as_ref().map(|keys| &***keys);
        let has_field = request.header(FIELD, 0).is_some();
        let mut moving = None;
        let mut buffer = PinBuffer::default();
        let found = each_pin(sticky, request, |carrier, text| {
            let pin = match Pin::read(text, &compiled.settings.name, keys, &mut buffer) {
                Ok(pin) => pin,
                Err(_) if carrier == Carrier::Field && asks(text) => return None,
                Err(error) => return self.refuse(compiled, NotHonoured::from(error)),
            };
            match self.honour(compiled, sticky, &pin, now, carrier) {
                Ok((claimed, kept)) => Some((claimed, kept, pin.session)),
                Err(why) => {
                    if why != NotHonoured::Expired && moving.is_none() {
                        moving = Some(pin.session);
                    }
                    self.refuse(compiled, why)
                }
            }
        });
        let Some((claimed, kept, id)) = found else {
            let state = State::Open(if moving.is_some() { Issued::Moved } else { Issued::New });
            let id = moving.unwrap_or_else(|| self.chooser.rng().u64(..));
            return Err(Session { id, decided: now, has_field, state });
        };
        let arm = &compiled.arms[kept.arm];
        let counts = self.series.pins(arm.slot);
        counts.pinned.add(1);
        counts.sessions.note(id, now / 1000);
        let session = Session { id, decided: now, has_field, state: State::Pinned(kept) };
        Ok(Selection::of(route, Some((split, kept.arm)), arm.pool, claimed, Some(session)))
    }

    /// Claims what a pin names, or another endpoint of its pool. A pool that is at a limit sheds the request: its
    /// session stays.
    fn honour(
        &mut self,
        split: &Split,
        sticky: &Sticky,
        pin: &Pin<'_>,
        now: u64,
        carrier: Carrier,
    ) -> Result<(Result<Lease, Refused>, Kept), NotHonoured> {
        let (arm, is_old) = place(self.table, split, sticky, pin, now)?;
        let pool = split.arms[arm].pool;
        let named = pin.endpoint.filter(|_| sticky.to == PinTo::Endpoint);
        let at_name = named.map_or(Err(Refused::Unavailable), |address| self.claim_at(pool, address));
        let (claimed, strayed) = match at_name {
            Err(Refused::Unavailable) => (self.claim_in_session(pool, false), named.is_some()),
            claimed => (claimed, false),
        };
        let endpoint = match &claimed {
            Err(Refused::Unavailable) => return Err(NotHonoured::Unavailable),
            Ok(lease) if named.is_some() && !strayed => Some(lease.id),
            _ => None,
        };
        Ok((claimed, Kept { carrier, arm, endpoint, strayed, is_old }))
    }

    fn refuse<T>(&mut self, split: &Split, why: NotHonoured) -> Option<T> {
        self.series.pins(split.arms[0].slot).not_honoured[why as usize].add(1);
        None
    }
}

/// Whether the value of the field asks for the session's pin instead of carrying one: `?`, or nothing.
pub(super) fn asks(text: &[u8]) -> bool {
    matches!(text, b"" | b"?")
}

/// The arm that a pin names, and whether the pin is in the second half of its time; or why it counts no more.
pub(super) fn place(
    table: &Table,
    split: &Split,
    sticky: &Sticky,
    pin: &Pin<'_>,
    now: u64,
) -> Result<(usize, bool), NotHonoured> {
    let names = |arm: &Arm| table.pools[arm.pool].settings.name.as_str() == pin.pool;
    let arm = split.arms.iter().position(names).ok_or(NotHonoured::Unknown)?;
    if pin.issued > now.max(split.arms[arm].released).saturating_add(MOST_AHEAD) {
        return Err(NotHonoured::Ahead);
    }
    // An instance whose clock is a little ahead may have issued it: it is as good as new.
    let age = u128::from(now.saturating_sub(pin.issued));
    let ttl = sticky.ttl.map(|ttl| ttl.as_millis());
    if ttl.is_some_and(|ttl| age > ttl) {
        return Err(NotHonoured::Expired);
    }
    if pin.issued <= split.arms[arm].released {
        return Err(NotHonoured::Released);
    }
    Ok((arm, ttl.is_some_and(|ttl| age > ttl / 2)))
}

/// Looks at what may carry a pin: the field, then the query parameter, then the cookies of the split's name.
pub(super) fn each_pin<T>(
    sticky: &Sticky,
    request: &impl RequestView,
    mut look: impl FnMut(Carrier, &[u8]) -> Option<T>,
) -> Option<T> {
    if let Some(text) = request.header(FIELD, 0)
        && let Some(found) = look(Carrier::Field, text)
    {
        return Some(found);
    }
    if let Some((name, query)) = sticky.query.as_ref().zip(request.query()) {
        // A pin's text holds nothing that is written in another way in a query.
        let mut pairs = query.split(|byte| *byte == b'&');
        let text = pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        if let Some(found) = text.and_then(|text| look(Carrier::Query, text)) {
            return Some(found);
        }
    }
    request.cookies(&sticky.cookie).take(MOST_COOKIES).find_map(|text| look(Carrier::Cookie, text))
}

impl Session {
    /// Whether a pin to this arm of its split was honoured.
    pub fn is_pinned_to(&self, arm: usize) -> bool {
        matches!(self.state, State::Pinned(kept) if kept.arm == arm)
    }

    /// Why the response brings the client a cookie, if it does. `arm` and `endpoint` are where the request went in
    /// the end.
    pub fn due(&self, to: PinTo, arm: usize, endpoint: EndpointId) -> Option<Issued> {
        let kept = match self.state {
            State::Open(why) => return Some(why),
            State::Pinned(kept) => kept,
        };
        // A page's pin brings its parts from where the page came from, and leaves the session's own as it is.
        if kept.carrier != Carrier::Cookie {
            return None;
        }
        let is_elsewhere =
            to == PinTo::Endpoint && (kept.strayed || kept.endpoint.is_some_and(|kept| kept != endpoint));
        if kept.arm != arm || is_elsewhere {
            return Some(Issued::Moved);
        }
        let lacks_endpoint = to == PinTo::Endpoint && kept.endpoint.is_none();
        (kept.is_old || lacks_endpoint).then_some(Issued::Renewed)
    }

    /// The pin of this session where it is now; `None` if there is no key to sign it with.
    pub fn pin(&self, table: &Table, (split, arm): (usize, usize), endpoint: &Endpoint) -> Option<PinText> {
        let compiled = &table.splits[split];
        let sticky = compiled.settings.sticky.as_ref()?;
        let arm = &compiled.arms[arm];
        let pin = Pin {
            session: self.id,
            issued: self.decided.max(if arm.released == 0 { 0 } else { arm.released + 1 }),
            endpoint: (sticky.to == PinTo::Endpoint).then_some(endpoint.address),
            split: compiled.settings.name.as_str(),
            pool: table.pools[arm.pool].settings.name.as_str(),
        };
        pin.write(sticky.signed.then(|| table.keys.load()).as_ref().map(|keys| &***keys))
    }

    /// Counts a pin that was issued.
    pub fn count(&self, series: &mut LocalSeries, arm: &Arm, why: Issued) {
        let counts = series.pins(arm.slot);
        counts.issued[why as usize].add(1);
        counts.sessions.note(self.id, self.decided / 1000);
    }
}

impl From<InvalidPin> for NotHonoured {
    fn from(error: InvalidPin) -> Self {
        match error {
            InvalidPin::Malformed | InvalidPin::Tampered => Self::Tampered,
            InvalidPin::Foreign => Self::Foreign,
        }
    }
}

/// Milliseconds since 1970. Pins outlive the process and pass between instances, so theirs is the wall clock.
pub(super) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
