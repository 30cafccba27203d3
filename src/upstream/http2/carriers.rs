//! A worker's connections of HTTP/2 to one endpoint: which of them takes a request, and who opens another.
//!
//! Invariant: one request at a time opens a connection, and those that come meanwhile wait for it, so that a crowd that comes
//! at once is carried by few.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::{carrier::Carrier, stream::Stream};

/// A worker's connections to one endpoint.
#[derive(Debug, Default)]
pub struct Carriers {
    list: RefCell<Vec<Rc<Carrier>>>,
    dial: Rc<Dial>,
}

/// Whether a connection is being opened, and who waits for it.
#[derive(Debug, Default)]
struct Dial {
    is_on: Cell<bool>,
    /// How many have come to an end.
    over: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

/// The right to open a connection. Dropped, whoever waits for it looks again.
#[derive(Debug)]
pub struct Dialing(Rc<Dial>);

impl Carriers {
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// A stream on the connection that has the fewest, if one has room.
    pub fn open(&self, now: Instant, way: u64, epoch: u32) -> Option<Stream> {
        self.forget(|carrier| !carrier.is_good(now, way, epoch));
        let list = self.list.borrow();
        let least =
            list.iter().filter(|carrier| carrier.has_room()).min_by_key(|carrier| carrier.streams())?;
        least.open()
    }

    /// Takes a connection in that has just been opened; answers the first stream on it. One that takes none is of no use.
    pub fn add(&self, carrier: Rc<Carrier>) -> Option<Stream> {
        let stream = if carrier.has_room() { carrier.open() } else { None };
        match stream {
            Some(_) => self.list.borrow_mut().push(carrier),
            None => carrier.leave(),
        }
        stream
    }

    /// The right to open a connection, unless somebody has it.
    pub fn dial(&self) -> Option<Dialing> {
        (!self.dial.is_on.replace(true)).then(|| Dialing(Rc::clone(&self.dial)))
    }

    /// What to give to [`Self::poll_dialed`]: how many attempts to open a connection have ended.
    pub fn dialed(&self) -> u64 {
        self.dial.over.get()
    }

    /// Waits until another attempt to open a connection has ended.
    pub fn poll_dialed(&self, cx: &Context<'_>, before: u64) -> Poll<()> {
        if self.dial.over.get() != before {
            return Poll::Ready(());
        }
        let mut waiting = self.dial.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Has those end that are too old, idle for too long, or not of this epoch; with `all`, every one.
    pub fn sweep(&self, now: Instant, epoch: u32, all: bool) {
        let is_old = |carrier: &Carrier| carrier.terms.good_until.is_some_and(|until| until <= now);
        self.forget(|carrier| {
            all || carrier.terms.epoch != epoch
                || is_old(carrier)
                || carrier.is_idle(now)
                || carrier.is_leaving()
        });
    }

    /// Has one end, for others who need its place: one without streams, or else the one with the fewest. Answers whether
    /// there was one.
    pub fn give_way(&self) -> bool {
        let mut list = self.list.borrow_mut();
        let least = list.iter().enumerate().min_by_key(|(_, carrier)| carrier.streams()).map(|(at, _)| at);
        least.map(|at| list.swap_remove(at).leave()).is_some()
    }

    fn forget(&self, is_to_go: impl Fn(&Carrier) -> bool) {
        self.list.borrow_mut().retain(|carrier| {
            let goes = is_to_go(carrier) || carrier.is_leaving();
            if goes {
                carrier.leave();
            }
            !goes
        });
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.is_on.set(false);
        self.0.over.set(self.0.over.get() + 1);
        for waker in self.0.waiting.take() {
            waker.wake();
        }
    }
}
