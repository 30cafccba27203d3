//! Match, draw, balance and claim: one synchronous act with no await in it.

use super::{request_view::RequestView, table::Table};
use crate::{
    telemetry::registry::LocalSeries,
    upstream::{
        endpoint::EndpointId,
        local::{Lease, Upstreams},
    },
};

/// What one worker remembers between selections: its random generator and where it stands in each split and pool.
#[derive(Debug)]
pub struct Chooser {
    _rng: fastrand::Rng,
}

/// What a request got. Indices are into the table that it was selected from.
#[derive(Debug)]
pub enum Selection {
    /// No route takes it.
    NoRoute,
    /// The route answers it by itself: see the route's settings.
    Redirect {
        /// The route.
        route: usize,
    },
    /// It goes to an endpoint.
    Forward {
        /// The route.
        route: usize,
        /// The split and the arm in it, unless the route names a pool.
        arm: Option<(usize, usize)>,
        /// The pool.
        pool: usize,
        /// The claim on the endpoint.
        lease: Lease,
    },
    /// There is nobody to answer it.
    Unavailable {
        /// The route.
        route: usize,
        /// The split and the arm that was drawn, unless the route names a pool.
        arm: Option<(usize, usize)>,
    },
}

impl Chooser {
    /// A worker's chooser; the same seed makes the same choices.
    pub fn new(seed: u64) -> Self {
        Self { _rng: fastrand::Rng::with_seed(seed) }
    }
}

/// Decides a request.
pub fn select(
    table: &Table,
    chooser: &mut Chooser,
    upstreams: &mut Upstreams,
    series: &mut LocalSeries,
    request: &impl RequestView,
) -> Selection {
    let _ = (table, chooser, upstreams, series, request);
    todo!()
}

/// Decides where the next attempt of a request goes whose earlier ones failed: the same pool if it has another
/// available endpoint than those `tried`, else the other pools of the split by their weights, unless the split says
/// that its share is not passed on.
pub fn select_again(
    table: &Table,
    chooser: &mut Chooser,
    upstreams: &mut Upstreams,
    series: &mut LocalSeries,
    earlier: (usize, Option<(usize, usize)>, usize),
    tried: &[EndpointId],
) -> Selection {
    let _ = (table, chooser, upstreams, series, earlier, tried);
    todo!()
}
