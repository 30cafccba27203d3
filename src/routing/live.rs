//! The table in force.

use std::{ops::Deref, rc::Rc, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use super::table::Table;

/// The published table. One writer (the controller) stores; workers read through a [`Reader`] each.
/// Every clone is the same one.
#[derive(Debug, Clone)]
pub struct Live(Arc<ArcSwap<Table>>);

/// One worker's view of the published table.
///
/// It holds the table in an `Rc` of its own, so that a request keeps its generation without touching a count that
/// cores share.
#[derive(Debug)]
pub struct Reader {
    cache: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    current: Rc<Generation>,
}

/// A table as one worker holds it.
#[derive(Debug)]
pub struct Generation(Arc<Table>);

impl Live {
    /// Publishes the first table.
    pub fn new(table: Arc<Table>) -> Self {
        Self(Arc::new(ArcSwap::new(table)))
    }

    /// Puts a table in force. Every request that is selected after this returns is decided by it or a later one.
    pub fn publish(&self, table: Arc<Table>) {
        self.0.store(table);
    }

    /// The table in force. For the control plane; workers use [`Self::reader`].
    pub fn table(&self) -> Arc<Table> {
        self.0.load_full()
    }

    /// A view for one worker.
    pub fn reader(&self) -> Reader {
        Reader { cache: Cache::new(Arc::clone(&self.0)), current: Rc::new(Generation(self.table())) }
    }
}

impl Reader {
    /// The table in force: one atomic load, and nothing more unless it has changed.
    #[inline]
    pub fn current(&mut self) -> &Rc<Generation> {
        let in_force = self.cache.load();
        if !Arc::ptr_eq(in_force, &self.current.0) {
            self.current = Rc::new(Generation(Arc::clone(in_force)));
        }
        &self.current
    }
}

impl Deref for Generation {
    type Target = Table;

    #[inline]
    fn deref(&self) -> &Table {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::testing::{Bench, config};

    #[test]
    fn a_reader_sees_what_was_published_and_a_request_keeps_its_generation() {
        let mut bench = Bench::new(config(&[]));
        let live = Live::new(Arc::clone(&bench.table));
        let mut reader = live.reader();
        let held = Rc::clone(reader.current());
        assert!(Rc::ptr_eq(&held, reader.current()), "nothing is made anew while nothing changes");
        bench.publish();
        live.publish(Arc::clone(&bench.table));
        assert_eq!((reader.current().generation, held.generation, live.table().generation), (2, 1, 2));
    }
}
