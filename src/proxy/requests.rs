//! Where requests in flight are kept: in boxes that are used again and again.
//!
//! A request is some hundred bytes, and every task that may hold one would be larger by that, also while its connection
//! is idle. A box for each would be an allocation for each; these are allocated once for as many requests as are in
//! flight at the same time.

use std::{
    cell::{Cell, RefCell},
    ops::{Deref, DerefMut},
};

use super::handler::Request;

/// Boxes that are kept for later: as many as a busy worker has requests in flight.
const KEPT: usize = 1024;

/// Boxes that are not in use.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "it is the boxes that are kept")]
pub(super) struct Requests {
    boxes: RefCell<Vec<Box<Option<Request>>>>,
    in_flight: Cell<usize>,
}

/// A request in its box.
#[derive(Debug)]
pub(super) struct KeptRequest(Box<Option<Request>>);

impl Requests {
    /// How many requests of the worker are in flight, of whichever listener.
    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Puts a request into a box, and counts it on its listener, too.
    #[inline]
    pub(super) fn keep(&self, request: Request, on_listener: &Cell<usize>) -> KeptRequest {
        on_listener.set(on_listener.get() + 1);
        self.in_flight.set(self.in_flight.get() + 1);
        let mut kept = self.boxes.borrow_mut().pop().unwrap_or_default();
        *kept = Some(request);
        KeptRequest(kept)
    }

    /// Ends a request, and keeps its box for another.
    #[inline]
    pub(super) fn end(&self, request: KeptRequest, on_listener: &Cell<usize>) {
        let KeptRequest(mut kept) = request;
        // What it holds is given back before the boxes are borrowed, whatever that does.
        *kept = None;
        on_listener.set(on_listener.get() - 1);
        self.in_flight.set(self.in_flight.get() - 1);
        let mut boxes = self.boxes.borrow_mut();
        if boxes.len() < KEPT {
            boxes.push(kept);
        }
    }
}

impl Deref for KeptRequest {
    type Target = Request;

    #[inline]
    fn deref(&self) -> &Request {
        self.0.as_ref().as_ref().expect("a box holds its request until it is ended, which consumes this")
    }
}

impl DerefMut for KeptRequest {
    #[inline]
    fn deref_mut(&mut self) -> &mut Request {
        self.0.as_mut().as_mut().expect("a box holds its request until it is ended, which consumes this")
    }
}
