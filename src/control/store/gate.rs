//! Who may look into a database beside the thread that writes it: whoever reads the history, and whoever makes the copy.
//!
//! Invariant: nobody looks while the writer erases what a failed commit has left, nor once the database was given up. The
//! writer waits for no copy: it stops the one that is being made.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rusqlite::{Connection, InterruptHandle};

/// How soon the writer looks again whether those who look are gone.
const LOOK: Duration = Duration::from_millis(1);

/// The way into a database. Every clone is the same one.
#[derive(Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: RwLock<State>,
    is_copying: AtomicBool,
    /// What stops the copy that is being made.
    copying: Mutex<Option<InterruptHandle>>,
}

#[derive(Debug, Default)]
struct State {
    is_shut: bool,
    /// How often it was shut: what was read before is not of the same database for sure.
    times: u64,
}

/// The leave to look. The database stays as it is until this is dropped.
#[derive(Debug)]
pub struct Leave<'a>(RwLockReadGuard<'a, State>);

/// The right to make the copy, which one thread has at a time.
#[derive(Debug)]
pub struct Copying(Gate);

impl Gate {
    /// Asks to look; `None` while it is shut.
    pub fn enter(&self) -> Option<Leave<'_>> {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        (!state.is_shut).then_some(Leave(state))
    }

    /// Lets nobody in from now on, and returns when nobody is left.
    pub fn shut(&self) {
        loop {
            let state = match self.0.state.try_write() {
                Ok(state) => Some(state),
                Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(mut state) = state {
                state.times += u64::from(!state.is_shut);
                state.is_shut = true;
                return;
            }
            // Not once alone: what has not begun is not stopped.
            if let Some(copying) = &*self.copying() {
                copying.interrupt();
            }
            thread::sleep(LOOK);
        }
    }

    /// Lets everybody in again.
    pub fn open(&self) {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner).is_shut = false;
    }

    /// Asks to make the copy; `None` while somebody does.
    pub fn copy(&self) -> Option<Copying> {
        (!self.0.is_copying.swap(true, Ordering::AcqRel)).then(|| Copying(self.clone()))
    }

    fn copying(&self) -> MutexGuard<'_, Option<InterruptHandle>> {
        self.0.copying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Gate").field("state", &self.0.state).finish_non_exhaustive()
    }
}

impl Leave<'_> {
    /// How often the gate was shut before: two leaves with one number see a database that only went on meanwhile.
    pub fn times(&self) -> u64 {
        self.0.times
    }
}

impl Copying {
    /// The way in.
    pub fn gate(&self) -> &Gate {
        &self.0
    }

    /// Works with a connection that the writer stops when it must go on alone.
    pub fn with<T>(&self, connection: &Connection, work: impl FnOnce(&Connection) -> T) -> T {
        *self.0.copying() = Some(connection.get_interrupt_handle());
        let done = work(connection);
        *self.0.copying() = None;
        done
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.0.is_copying.store(false, Ordering::Release);
    }
}
