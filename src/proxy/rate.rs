//! What a route's rate limit does to a request, and what the client is told of it (draft-ietf-httpapi-ratelimit-headers-09).

use super::{clock, downstream::Downstream, request_head::is_dropped, routed::Routed};
use crate::{
    routing::{
        head_view::HeadView,
        rate_limit::{Allowance, Limited},
        table::Route,
    },
    wire::emit,
};

/// Takes a request, if its route is limited. One that has waited for an endpoint was taken when it came.
#[inline]
pub(super) fn take(
    downstream: &Downstream,
    route: &Route,
    view: &HeadView<'_>,
) -> Result<Option<Allowance>, Limited> {
    match &route.rate_limit {
        Some(limit) if downstream.waited.is_none() => {
            let taken = limit.take(view, clock::now());
            if let Ok(None) = taken {
                downstream.worker.counts.rate_limit_uncounted.add(1);
            }
            taken
        }
        _ => Ok(None),
    }
}

/// Writes the policy of a request's route, and what of it is left to the client.
pub(super) fn write_fields(out: &mut Vec<u8>, routed: &Routed) {
    let route = &routed.table.routes[routed.route];
    if let Some(limit) = &route.rate_limit {
        write(out, route, limit.settings(), routed.allowance);
    }
}

#[cold]
fn write(
    out: &mut Vec<u8>,
    route: &Route,
    settings: &crate::config::RateLimit,
    allowance: Option<Allowance>,
) {
    let mut line = |field: &[u8], parameters: &[(&[u8], u64)]| {
        if is_dropped(&route.settings.response_headers, field) {
            return;
        }
        out.extend_from_slice(field);
        out.extend_from_slice(b": \"");
        out.extend_from_slice(route.settings.name.as_str().as_bytes());
        out.push(b'"');
        for (name, number) in parameters {
            out.extend_from_slice(name);
            emit::decimal(out, *number);
        }
        out.extend_from_slice(b"\r\n");
    };
    // As many requests as the bucket holds, in the time in which it fills.
    line(b"RateLimit-Policy", &[(b";q=", settings.burst), (b";w=", settings.window())]);
    if let Some(Allowance { remaining, reset }) = allowance {
        line(b"RateLimit", &[(b";r=", remaining), (b";t=", reset)]);
    }
}
