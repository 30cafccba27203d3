//! An answer that goes on and on, such as events: it ends when the token that it was given to counts no more.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::Response,
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Interval, MissedTickBehavior};

use crate::{control::tokens::TokenBook, model::tokens::Token};

/// How often the token of a silent stream is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether an answer goes on and on.
pub(super) fn is_one(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// Ends an answer with its token.
pub(super) fn bound(response: Response, book: Arc<TokenBook>, token: Token) -> Response {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    response.map(|body| Body::new(Bound { body, book, token, looks }))
}

struct Bound {
    body: Body,
    book: Arc<TokenBook>,
    token: Token,
    looks: Interval,
}

impl HttpBody for Bound {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Polled until it waits, so that the task is woken for the next look.
        while self.looks.poll_tick(context).is_ready() {}
        if !self.book.tokens().still_has(&self.token, SystemTime::now()) {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
