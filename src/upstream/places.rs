//! The connections that an endpoint may have: who holds a place, and who waits for one.
//!
//! Invariants: there are never more places taken than the cap, over all workers; a place that is given up while
//! somebody waits comes to whoever has waited longest, and is never lost, also when that one goes away in the very
//! moment. Model-checked in `tests/loom.rs`. An endpoint without a cap pays an addition for each connection, and
//! nothing for a request but the look whether somebody waits.

use std::{
    collections::VecDeque,
    fmt,
    task::{Context, Poll, Waker},
};

#[cfg(switchback_loom)]
use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{
        AtomicU32,
        Ordering::{AcqRel, Relaxed, SeqCst},
        fence,
    },
};
#[cfg(not(switchback_loom))]
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{
        AtomicU32,
        Ordering::{AcqRel, Relaxed, SeqCst},
        fence,
    },
};

/// The places for connections to one endpoint.
pub struct Places {
    taken: AtomicU32,
    most: AtomicU32,
    /// The length of the queue. Whoever gives a place up looks at it after it has, and whoever joins the queue looks
    /// for a place after that: with a fence between the two acts of each, one of them sees the other.
    waiting: AtomicU32,
    /// In the order in which they came, over all workers. The lock is taken only by those who find no place, and by
    /// those who give one up while somebody waits.
    queue: Mutex<VecDeque<Arc<Ticket>>>,
}

/// One waiting request's place in the queue.
pub struct Ticket(Mutex<Stage>);

#[derive(Debug)]
enum Stage {
    Waiting(Option<Waker>),
    Granted(Grant),
    /// It has been told, or has gone.
    Over,
}

/// What came to a waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A place: it may open a connection, and must give the place up.
    Place,
    /// A connection of its own worker, which was put aside for it.
    Connection,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            taken: AtomicU32::new(0),
            most: AtomicU32::new(u32::MAX),
            waiting: AtomicU32::new(0),
            queue: Mutex::new(VecDeque::new()),
        }
    }
}

impl Places {
    /// Says how many there may be from now on; `None` is any number. Who waits gets what there is more of. Places over a
    /// lower cap stay taken until they are given up.
    pub fn cap(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(u32::MAX), Relaxed);
        // Whoever joins the queue looks at the cap after that, as with a place that is given up.
        fence(SeqCst);
        if self.waiting() > 0 {
            self.serve();
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    /// How many requests wait.
    #[inline]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Takes a place if there is one and nobody has waited for it longer. One that was taken is paired with one
    /// [`Self::give_up`].
    pub fn take(&self) -> bool {
        self.waiting() == 0 && self.try_take()
    }

    /// Joins the queue. The ticket is paired with one [`Self::leave`].
    pub fn join(&self) -> Arc<Ticket> {
        let ticket = Arc::new(Ticket(Mutex::new(Stage::Waiting(None))));
        {
            let mut queue = locked(&self.queue);
            queue.push_back(Arc::clone(&ticket));
            self.note(&queue);
        }
        // A place may have been given up after it was looked for, and before anybody was seen to wait.
        fence(SeqCst);
        self.serve();
        ticket
    }

    /// Gives a waiting request a connection of its own worker. Answers whether it still waits.
    pub fn hand_over(&self, ticket: &Arc<Ticket>) -> bool {
        let handed = ticket.grant(Grant::Connection);
        self.forget(ticket);
        handed
    }

    /// Leaves the queue, and gives up what came too late to be told.
    pub fn leave(&self, ticket: &Arc<Ticket>) {
        let stage = std::mem::replace(&mut *locked(&ticket.0), Stage::Over);
        self.forget(ticket);
        if matches!(stage, Stage::Granted(Grant::Place)) {
            self.give_up();
        }
    }

    /// Gives up a place: to who has waited longest, if anybody waits.
    pub fn give_up(&self) {
        self.taken.fetch_sub(1, AcqRel);
        fence(SeqCst);
        if self.waiting() > 0 {
            self.serve();
        }
    }

    fn try_take(&self) -> bool {
        let most = self.most.load(Relaxed);
        self.taken.fetch_update(AcqRel, Relaxed, |taken| (taken < most).then(|| taken + 1)).is_ok()
    }

    /// Gives what places there are to those who wait, in their order.
    fn serve(&self) {
        let mut queue = locked(&self.queue);
        while !queue.is_empty() && self.try_take() {
            let ticket = queue.pop_front().expect("it is not empty");
            self.note(&queue);
            if !ticket.grant(Grant::Place) {
                self.taken.fetch_sub(1, AcqRel);
            }
        }
    }

    fn forget(&self, ticket: &Arc<Ticket>) {
        let mut queue = locked(&self.queue);
        if let Some(place) = queue.iter().position(|known| Arc::ptr_eq(known, ticket)) {
            queue.remove(place);
            self.note(&queue);
        }
    }

    fn note(&self, queue: &VecDeque<Arc<Ticket>>) {
        self.waiting.store(u32::try_from(queue.len()).unwrap_or(u32::MAX), Relaxed);
    }
}

impl Ticket {
    /// Waits for what comes. It is told once.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Grant> {
        let mut stage = locked(&self.0);
        match &mut *stage {
            Stage::Granted(grant) => {
                let grant = *grant;
                *stage = Stage::Over;
                Poll::Ready(grant)
            }
            Stage::Waiting(waker) => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Stage::Over => Poll::Pending,
        }
    }

    fn grant(&self, grant: Grant) -> bool {
        let waker = {
            let mut stage = locked(&self.0);
            let Stage::Waiting(waker) = &mut *stage else { return false };
            let waker = waker.take();
            *stage = Stage::Granted(grant);
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Places({} taken, {} waiting)", self.taken(), self.waiting.load(Relaxed))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ticket")
    }
}

/// No panic can leave what it guards half changed: each change is one insertion, removal or store.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(all(test, not(switchback_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(ticket: &Ticket) -> Option<Grant> {
        match ticket.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(grant) => Some(grant),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_place_that_is_given_up_comes_to_who_has_waited_longest() {
        let places = Places::default();
        places.cap(Some(2));
        assert!(places.take() && places.take() && !places.take());
        let tickets: Vec<_> = (0..3).map(|_| places.join()).collect();
        assert_eq!(tickets.iter().map(|ticket| told(ticket)).collect::<Vec<_>>(), [None; 3]);
        places.give_up();
        assert!(!places.take(), "nobody overtakes those who wait");
        assert_eq!((told(&tickets[0]), told(&tickets[1])), (Some(Grant::Place), None));
        // The second goes before anything comes; the third gets what would have been its.
        places.leave(&tickets[1]);
        places.give_up();
        assert_eq!((told(&tickets[2]), places.taken(), places.waiting()), (Some(Grant::Place), 2, 0));
    }

    /// What somebody does at an endpoint with places.
    #[derive(Debug, Clone)]
    enum Act {
        Take,
        GiveUp,
        Join,
        /// One of those who wait leaves.
        Leave(prop::sample::Index),
        /// One of those who wait is handed a connection of its worker.
        HandOver(prop::sample::Index),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            Just(Act::Take),
            Just(Act::GiveUp),
            Just(Act::Join),
            any::<prop::sample::Index>().prop_map(Act::Leave),
            any::<prop::sample::Index>().prop_map(Act::HandOver),
        ]
    }

    proptest! {
        /// Against a model of a count and a queue: nobody overtakes, no place is lost, none is given twice, and nobody
        /// waits while there is one.
        #[test]
        fn places_are_as_a_count_and_a_queue(most in 1_u32..5, acts in prop::collection::vec(act(), 0..100)) {
            let places = Places::default();
            places.cap(Some(most));
            let (mut taken, mut queue) = (0, VecDeque::new());
            for act in acts {
                match act {
                    Act::Take => {
                        let may = queue.is_empty() && taken < most;
                        prop_assert_eq!(places.take(), may);
                        taken += u32::from(may);
                    }
                    Act::GiveUp if taken > 0 => {
                        places.give_up();
                        taken -= 1;
                    }
                    Act::GiveUp => {}
                    Act::Join => queue.push_back(places.join()),
                    Act::Leave(index) if !queue.is_empty() => {
                        let ticket = queue.remove(index.index(queue.len())).unwrap();
                        places.leave(&ticket);
                        prop_assert_eq!(told(&ticket), None);
                    }
                    Act::HandOver(index) if !queue.is_empty() => {
                        let ticket = queue.remove(index.index(queue.len())).unwrap();
                        prop_assert!(places.hand_over(&ticket));
                        prop_assert_eq!(told(&ticket), Some(Grant::Connection));
                    }
                    Act::Leave(_) | Act::HandOver(_) => {}
                }
                while taken < most && let Some(first) = queue.pop_front() {
                    prop_assert_eq!(told(&first), Some(Grant::Place));
                    taken += 1;
                }
                prop_assert!(queue.iter().all(|ticket| told(ticket).is_none()));
                prop_assert_eq!((places.taken(), places.waiting() as usize), (taken, queue.len()));
            }
        }
    }

    #[test]
    fn who_leaves_before_it_was_told_gives_its_place_up() {
        let places = Places::default();
        places.cap(Some(1));
        assert!(places.take());
        let (first, second) = (places.join(), places.join());
        places.give_up();
        places.leave(&first);
        assert_eq!(told(&second), Some(Grant::Place));
        places.give_up();
        assert_eq!((places.taken(), places.waiting()), (0, 0));
    }

    #[test]
    fn a_connection_is_handed_over_once_and_only_to_who_waits() {
        let places = Places::default();
        places.cap(Some(1));
        assert!(places.take());
        let (first, second) = (places.join(), places.join());
        assert!(places.hand_over(&first));
        assert!(!places.hand_over(&first));
        assert_eq!((told(&first), told(&second), places.waiting()), (Some(Grant::Connection), None, 1));
        places.leave(&second);
        assert!(!places.hand_over(&second));
    }

    #[test]
    fn a_cap_that_rises_lets_the_next_in() {
        let places = Places::default();
        places.cap(Some(1));
        assert!(places.take());
        let tickets: Vec<_> = (0..3).map(|_| places.join()).collect();
        places.cap(Some(2));
        assert_eq!(
            tickets.iter().map(|ticket| told(ticket)).collect::<Vec<_>>(),
            [Some(Grant::Place), None, None]
        );
        places.cap(None);
        assert_eq!([told(&tickets[1]), told(&tickets[2])], [Some(Grant::Place); 2]);
        assert_eq!((places.taken(), places.waiting()), (4, 0));
    }

    #[test]
    fn a_cap_that_falls_takes_no_place_away_and_gives_none_before_enough_are_given_up() {
        let places = Places::default();
        assert!((0..3).all(|_| places.take()));
        places.cap(Some(1));
        let ticket = places.join();
        places.give_up();
        places.give_up();
        assert_eq!((told(&ticket), places.taken()), (None, 1));
        places.give_up();
        assert_eq!((told(&ticket), places.taken()), (Some(Grant::Place), 1));
    }
}
