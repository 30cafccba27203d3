//! What a request has from its route, whether it is forwarded or answered here.

use std::rc::Rc;

use super::request_id::RequestId;
use crate::{
    config,
    routing::{head_view::HeadView, live::Generation, rate_limit::Allowance},
};

/// A request's route and its id.
#[derive(Debug)]
pub(super) struct Routed {
    /// The generation that decided the request.
    pub(super) table: Rc<Generation>,
    /// The route, an index into the table.
    pub(super) route: usize,
    /// Its id, if the route asks for one.
    request_id: Option<Box<RequestId>>,
    /// What its rate limit has left to the client.
    pub(super) allowance: Option<Allowance>,
}

impl Routed {
    /// The route of a request. Its id is what a trusted peer calls it, or a new one.
    pub(super) fn new(
        table: Rc<Generation>,
        route: usize,
        view: &HeadView<'_>,
        is_trusted: bool,
        rng: &mut fastrand::Rng,
    ) -> Self {
        use crate::routing::request_view::RequestView;
        let request_id = table.routes[route].settings.request_id.then(|| {
            let sent = if is_trusted { view.header("x-request-id", 0) } else { None };
            Box::new(sent.and_then(RequestId::believed).unwrap_or_else(|| RequestId::new(rng)))
        });
        Self { table, route, request_id, allowance: None }
    }

    /// What the file says of the route.
    #[inline]
    pub(super) fn settings(&self) -> &config::Route {
        &self.table.routes[self.route].settings
    }

    /// The request's id.
    #[inline]
    pub(super) fn request_id(&self) -> Option<&[u8]> {
        self.request_id.as_deref().map(RequestId::text)
    }
}
