//! Places for connections against those who wait for them, in the orders that the memory model permits: every one, or
//! those with three preemptions at most.

use std::task::{Context, Poll, Waker};

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};
use switchback_models::places::{Grant, Places, Ticket};

/// Two workers that take, use and give up places, one of them by waiting: the cap holds at every moment, and who waits
/// gets the place.
fn places_are_never_lost(leaves_early: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let places = Arc::new(Places::default());
        places.cap(Some(1));
        let users = Arc::new(AtomicUsize::new(0));
        let told = |ticket: &Ticket| match ticket.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(grant) => Some(grant),
            Poll::Pending => None,
        };
        let holder = {
            let (places, users) = (Arc::clone(&places), Arc::clone(&users));
            thread::spawn(move || {
                if places.take() {
                    assert_eq!(users.fetch_add(1, SeqCst), 0, "two have the only place");
                    users.fetch_sub(1, SeqCst);
                    places.give_up();
                }
            })
        };
        let mut ticket = None;
        if places.take() {
            assert_eq!(users.fetch_add(1, SeqCst), 0, "two have the only place");
            users.fetch_sub(1, SeqCst);
            places.give_up();
        } else {
            let joined = places.join();
            if leaves_early {
                places.leave(&joined);
            } else {
                ticket = Some(joined);
            }
        }
        holder.join().unwrap();
        if let Some(ticket) = ticket {
            assert_eq!(told(&ticket), Some(Grant::Place), "the place was given up, and nobody got it");
            places.give_up();
        }
        assert_eq!((places.taken(), places.waiting()), (0, 0));
    });
}

/// Somebody joins the queue while the cap is raised: one of the two sees the other.
#[test]
fn who_waits_when_a_cap_is_raised_gets_a_place() {
    loom::model(|| {
        let places = Arc::new(Places::default());
        places.cap(Some(1));
        assert!(places.take());
        let waiter = {
            let places = Arc::clone(&places);
            thread::spawn(move || places.join())
        };
        places.cap(Some(2));
        let ticket = waiter.join().unwrap();
        assert_eq!(ticket.poll(&Context::from_waker(Waker::noop())), Poll::Ready(Grant::Place));
        assert_eq!((places.taken(), places.waiting()), (2, 0));
    });
}

#[test]
fn who_waits_for_a_place_gets_it_in_every_order() {
    places_are_never_lost(false);
}

#[test]
fn who_leaves_the_queue_takes_no_place_along_in_any_order() {
    places_are_never_lost(true);
}
