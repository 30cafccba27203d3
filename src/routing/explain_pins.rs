//! What a request's pins have to do with where it goes, in words.

use std::time::{Duration, SystemTime};

use super::{
    explain::{Candidate, Explanation, Outcome, candidates},
    pins::{self, Carrier},
    request_view::RequestView,
    select::takes,
    table::{Pool, Split, Table},
};
use crate::{
    config::{PinTo, Sticky},
    model::pin::{Pin, PinBuffer},
    telemetry::pins::NotHonoured,
    upstream::endpoint::Endpoint,
};

impl Explanation {
    /// Tells of the pins that a request of a sticky split carries. Answers whether one of them decides; if so, the story
    /// is told to its end.
    pub(super) fn tell_pins(&mut self, table: &Table, split: &Split, request: &impl RequestView) -> bool {
        let Some(sticky) = &split.settings.sticky else { return false };
        let keys = sticky.signed.then(|| table.keys.load());
        let keys = keys.as_ref().map(|keys| &***keys);
        let now = pins::milliseconds(SystemTime::now());
        let (mut buffer, mut none) = (PinBuffer::default(), true);
        let decided = pins::each_pin(sticky, request, |carrier, text| {
            if carrier == Carrier::Field && pins::asks(text) {
                return None;
            }
            none = false;
            let carrier = describe(carrier, sticky);
            let pin = match Pin::read(text, &split.settings.name, keys, &mut buffer) {
                Ok(pin) => pin,
                Err(error) => {
                    self.say(format!("the pin in {carrier} is as if absent: {error}"));
                    return None;
                }
            };
            self.say(format!(
                "{carrier} holds a good pin to pool {}, issued {}",
                pin.pool,
                moment(pin.issued)
            ));
            match self.follow(table, split, sticky, &pin, now, request) {
                Ok(()) => Some(()),
                Err(why) => {
                    self.say(format!("the pin is not honoured: {}", reason(why)));
                    None
                }
            }
        });
        if decided.is_none() {
            let why = if none { "the request has no pin" } else { "none of its pins is honoured" };
            self.say(format!("{why}: it goes as if it had none, and its response brings a new one"));
        }
        decided.is_some()
    }

    /// Tells where a pin leads, if it is honoured.
    fn follow(
        &mut self,
        table: &Table,
        split: &Split,
        sticky: &Sticky,
        pin: &Pin<'_>,
        now: u64,
        request: &impl RequestView,
    ) -> Result<(), NotHonoured> {
        let (arm, is_old) = pins::place(table, split, sticky, pin, now)?;
        let pool = &table.pools[split.arms[arm].pool];
        let endpoints = pinned_candidates(pool);
        if !endpoints.iter().any(|endpoint| endpoint.available) {
            return Err(NotHonoured::Unavailable);
        }
        let name = &pool.settings.name;
        let asked = pin.endpoint.filter(|_| sticky.to == PinTo::Endpoint);
        let named = asked.filter(|asked| {
            endpoints.iter().any(|endpoint| endpoint.available && endpoint.address == *asked)
        });
        match (named, asked) {
            (Some(named), _) => {
                self.say(format!("the pin is honoured: the session stays with endpoint {named}"));
            }
            (None, Some(asked)) => self.say(format!(
                "endpoint {asked} does not take it: another one of pool {name} does, and the session moves there"
            )),
            (None, None) => self.say(format!("the pin is honoured: the session stays with pool {name}")),
        }
        if is_old {
            self.say("the pin is in the second half of its time: in a cookie, it is renewed".to_owned());
        }
        self.endpoints = endpoints;
        self.outcome = Outcome::Forward;
        self.pool = Some(name.clone());
        // Those that take new sessions come first.
        let (pinned, panics) = (!pool.is_available(), pool.ignores_ejections());
        let may = |endpoint: &Endpoint| match named {
            Some(named) => endpoint.address == named,
            None => takes(endpoint, pinned, panics),
        };
        if let Some(limit) = pool.full(may) {
            self.tell_full(pool, limit);
            self.say("a session is not moved because its place is busy".to_owned());
            return Ok(());
        }
        let mut usable = pool.endpoints.iter().filter(|(endpoint, weight)| *weight > 0 && may(endpoint));
        match (usable.next(), usable.next()) {
            (Some((only, _)), None) => self.endpoint = Some(only.address),
            _ => self.tell_owner(pool, request, may),
        }
        Ok(())
    }
}

/// A pool's endpoints as a session that is pinned there finds them.
fn pinned_candidates(pool: &Pool) -> Vec<Candidate> {
    let stand = candidates(pool).zip(&pool.endpoints);
    stand
        .map(|(candidate, (endpoint, weight))| Candidate {
            available: *weight > 0 && takes(endpoint, true, pool.ignores_ejections()),
            ..candidate
        })
        .collect()
}

fn describe(carrier: Carrier, sticky: &Sticky) -> String {
    match carrier {
        Carrier::Field => "the field X-Switchback-Pin".to_owned(),
        Carrier::Query => format!("the query parameter {}", sticky.query.as_deref().unwrap_or_default()),
        Carrier::Cookie => format!("the cookie {}", sticky.cookie),
    }
}

fn reason(why: NotHonoured) -> &'static str {
    match why {
        NotHonoured::Tampered => "no key in use has signed it",
        NotHonoured::Foreign => "it belongs to another split",
        NotHonoured::Expired => "its time is over",
        NotHonoured::Unknown => "its pool is none of the split's",
        NotHonoured::Released => "it was released by a change of the weights",
        NotHonoured::Ahead => "it is dated further ahead than clocks may differ",
        NotHonoured::Unavailable => "its pool has no endpoint that takes it",
    }
}

/// A moment of a pin, which has milliseconds and may be forged where pins are not signed.
fn moment(issued: u64) -> String {
    // The greatest moment that the format can write is far beyond any that a clock has issued.
    let greatest = Duration::from_secs(253_402_300_799);
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(issued).min(greatest);
    humantime::format_rfc3339_millis(at).to_string()
}
