//! Deadlines of connections, checked in one sweep.
//!
//! Arming one is a store into an array. A worker's sweeper looks at the array ten times a second and wakes whoever is
//! due, so a deadline is met within a tenth of a second, and a request costs no timer.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use super::clock;

/// How often the sweeper looks.
pub(super) const SWEEP: Duration = Duration::from_millis(100);

/// All deadlines of a worker.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    slots: RefCell<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default, Clone)]
struct Slot {
    due: Option<Instant>,
    waker: Option<Waker>,
}

/// One task's deadline.
#[derive(Debug)]
pub(super) struct Deadline {
    all: Rc<Deadlines>,
    slot: u32,
}

impl Deadlines {
    /// A deadline for a task, not armed.
    pub(super) fn register(self: &Rc<Self>) -> Deadline {
        let mut inner = self.slots.borrow_mut();
        let slot = inner.free.pop().unwrap_or_else(|| {
            inner.slots.push(Slot::default());
            u32::try_from(inner.slots.len() - 1).expect("file descriptors are far fewer than 2^32")
        });
        Deadline { all: Rc::clone(self), slot }
    }

    /// Wakes every task whose deadline has passed.
    pub(super) fn sweep(&self, now: Instant) {
        let mut due = Vec::new();
        for slot in &mut self.slots.borrow_mut().slots {
            if slot.due.is_some_and(|deadline| deadline <= now) {
                due.extend(slot.waker.take());
            }
        }
        due.into_iter().for_each(Waker::wake);
    }

    /// Wakes every task, so that it looks at the worker's phase.
    pub(super) fn wake_all(&self) {
        let wakers: Vec<_> =
            self.slots.borrow_mut().slots.iter_mut().filter_map(|slot| slot.waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Deadline {
    /// Sets the time.
    #[inline]
    pub(super) fn arm(&self, due: Instant) {
        self.all.slots.borrow_mut().slots[self.slot as usize].due = Some(due);
    }

    /// Sets the time, and answers whether it has passed. If not, the task is woken when it has.
    #[inline]
    pub(super) fn poll_at(&self, cx: &Context<'_>, due: Instant) -> bool {
        self.arm(due);
        self.poll_due(cx)
    }

    /// Whether the time has passed. If not, the task is woken when it has.
    #[inline]
    pub(super) fn poll_due(&self, cx: &Context<'_>) -> bool {
        let mut inner = self.all.slots.borrow_mut();
        let slot = &mut inner.slots[self.slot as usize];
        if slot.due.is_some_and(|due| due <= clock::now()) {
            return true;
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut inner = self.all.slots.borrow_mut();
        inner.slots[self.slot as usize] = Slot::default();
        inner.free.push(self.slot);
    }
}
