//! What the streams of a connection share.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::Waker,
};

use h2::Reason;

use super::response::Response;
use crate::{
    config::Listener,
    proxy::{
        downstream::Downstream,
        listener::{Open, Standing},
        peer::Peer,
        worker::Worker,
    },
    tls::Certificates,
    wire::response::ResponseHead,
};

/// A client that speaks HTTP/2, as its streams see it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) standing: Rc<Standing>,
    pub(super) listener: Rc<Listener>,
    pub(super) peer: Peer,
    /// The scheme by which it came here.
    pub(super) scheme: &'static str,
    /// The name that it asked for in its handshake, and the certificates of which it was shown one.
    pub(super) asked: Option<(Box<str>, Arc<Certificates>)>,
    /// The response head that is being read. Borrowed for a synchronous act only, never over a wait.
    pub(super) head: RefCell<ResponseHead>,
    /// Responses that are to be broken off, once what was written of them has gone out.
    broken: RefCell<Vec<Response>>,
    /// Responses that were sent to their end, and that the meter does not know yet.
    pub(super) answered: Cell<u32>,
    open: Open,
    streams: Cell<usize>,
    driver: RefCell<Option<Waker>>,
}

/// A stream's place among all that is open.
#[derive(Debug)]
pub(super) struct Place(Rc<Client>);

impl Client {
    pub(super) fn new(downstream: &Downstream, open: Open) -> Self {
        let stream = &downstream.stream;
        Self {
            worker: Rc::clone(&downstream.worker),
            standing: Rc::clone(&downstream.standing),
            listener: Rc::clone(&downstream.listener),
            peer: downstream.peer.clone(),
            scheme: stream.scheme(),
            asked: stream.asked().map(|(name, certificates)| (name.into(), Arc::clone(certificates))),
            head: RefCell::default(),
            broken: RefCell::default(),
            answered: Cell::default(),
            open,
            streams: Cell::default(),
            driver: RefCell::default(),
        }
    }

    /// How many streams are being served.
    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Who is woken when the last stream has ended.
    pub(super) fn note_driver(&self, waker: &Waker) {
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *driver = Some(waker.clone());
        }
    }

    /// Has a response broken off, behind what was written of it.
    pub(super) fn break_off(&self, response: Response) {
        self.broken.borrow_mut().push(response);
        self.wake_driver();
    }

    /// Breaks off what is to be; answers whether anything was.
    pub(super) fn break_off_now(&self) -> bool {
        let broken = self.broken.take();
        let is_any = !broken.is_empty();
        broken.into_iter().for_each(|response| response.reset(Reason::INTERNAL_ERROR));
        is_any
    }

    fn wake_driver(&self) {
        if let Some(driver) = self.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    /// A place for another stream, if there is one: it may need an upstream connection of its own, so for the descriptors of
    /// the process it is as good as a client's connection.
    pub(super) fn place(self: &Rc<Self>) -> Option<Place> {
        if self.open.is_full() {
            return None;
        }
        self.open.on_all.fetch_add(1, Ordering::Relaxed);
        self.streams.set(self.streams.get() + 1);
        self.worker.counts.http2_streams.add(1);
        self.worker.counts.http2_streams_open.add(1);
        Some(Place(Rc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Client { worker, streams, open, .. } = &*self.0;
        worker.counts.http2_streams_open.subtract(1);
        open.on_all.fetch_sub(1, Ordering::Relaxed);
        streams.set(streams.get() - 1);
        if streams.get() == 0 {
            self.0.wake_driver();
        }
    }
}
