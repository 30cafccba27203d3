//! Rate limits of routes.

use super::{
    request_key::{self, Written},
    value,
};
use crate::config::{
    defaults,
    pointer::Pointer,
    problems::Problems,
    raw,
    settings::{RateLimit, SplitKey},
    spanned::Spanned,
};

/// Reads a route's rate limit; `None` if it has a problem.
pub(super) fn rate_limit(
    raw: &Spanned<raw::RateLimit>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<RateLimit> {
    let most = 1..=defaults::MAX_RATE_LIMIT;
    let Some(requests) = &raw.requests else {
        let help = "requests = 100, per = \"1m\"".to_owned();
        problems.missing(&raw.span, at, "a rate limit has a number of requests", help);
        return None;
    };
    let requests = value::within(requests, most.clone(), &at.key("requests"), problems);
    let per = value::timeout(&raw.per, defaults::RATE_LIMIT_PER, &at.key("per"), problems);
    if let Some(text) = raw.per.as_ref().filter(|_| per > defaults::MAX_RATE_LIMIT_PER) {
        let help = "at most 24h".to_owned();
        problems.error(&text.span, &at.key("per"), "nobody remembers a key for so long", help);
    }
    let burst = match &raw.burst {
        Some(burst) => value::within(burst, most, &at.key("burst"), problems),
        None => requests,
    };
    let key = match &raw.key {
        Some(raw) => {
            let written = Written { cookie: &raw.cookie, header: &raw.header, client: &raw.client };
            request_key::key(written, &raw.span, &at.key("key"), problems)
        }
        None => Some(SplitKey::ClientIp),
    };
    let range = 1..=defaults::MAX_RATE_LIMIT_KEYS;
    let keys = value::count(&raw.keys, range, defaults::RATE_LIMIT_KEYS, &at.key("keys"), problems);
    Some(RateLimit { requests: requests?, per, burst: burst?, key: key?, keys })
}
