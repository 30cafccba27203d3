//! The claim against the drain bit, in the orders that the memory model permits: every one, or, where a test names a
//! bound, those with so many preemptions at most.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};
use switchback_models::occupancy::{Claim, Occupancy};

/// Once somebody has seen "drained", no claim succeeds, and none that succeeded is still held.
fn drained_is_final(workers: usize, preemptions: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        let occupancy = Arc::new(Occupancy::default());
        // Said with a stronger order than the code under test uses, and looked at on both sides of the claim.
        let drained = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                let (occupancy, drained) = (Arc::clone(&occupancy), Arc::clone(&drained));
                thread::spawn(move || {
                    let drained_before = drained.load(SeqCst);
                    if occupancy.claim(u64::MAX) == Claim::Granted {
                        assert!(
                            !drained_before,
                            "a claim succeeded after the endpoint had been seen drained"
                        );
                        assert!(
                            !drained.load(SeqCst),
                            "the endpoint was seen drained while a claim was held"
                        );
                        occupancy.release();
                    }
                })
            })
            .collect();
        occupancy.drain();
        if occupancy.is_drained() {
            drained.store(true, SeqCst);
        }
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(occupancy.in_flight(), 0);
        assert!(occupancy.is_drained());
    });
}

#[test]
fn drained_is_final_in_every_order_of_one_worker() {
    drained_is_final(1, None);
}

/// Every order of two workers takes minutes; all with up to three preemptions take seconds.
#[test]
fn drained_is_final_for_two_workers() {
    drained_is_final(2, Some(3));
}

/// The count that a drainer is answered covers every claim that succeeds: nobody is cut who was not seen.
#[test]
fn every_claim_is_seen_by_the_drainer_or_refused() {
    loom::model(|| {
        let occupancy = Arc::new(Occupancy::default());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let occupancy = Arc::clone(&occupancy);
                thread::spawn(move || occupancy.claim(u64::MAX))
            })
            .collect();
        let seen = occupancy.drain();
        let granted = |claim| u64::from(claim == Claim::Granted);
        let claimed = workers.into_iter().map(|worker| granted(worker.join().unwrap())).sum::<u64>();
        assert!(seen >= claimed, "{claimed} claims, {seen} seen");
        assert_eq!(occupancy.in_flight(), claimed);
        assert_eq!(occupancy.is_drained(), claimed == 0);
    });
}

/// Undraining lets claims through again; whatever the order, the count ends at 0 and the bits as they were set last.
#[test]
fn an_undrained_endpoint_takes_requests_again() {
    loom::model(|| {
        let occupancy = Arc::new(Occupancy::default());
        occupancy.drain();
        let worker = {
            let occupancy = Arc::clone(&occupancy);
            thread::spawn(move || {
                if occupancy.claim(u64::MAX) == Claim::Granted {
                    occupancy.release();
                }
            })
        };
        let prober = {
            let occupancy = Arc::clone(&occupancy);
            thread::spawn(move || occupancy.set_healthy(false))
        };
        occupancy.undrain();
        worker.join().unwrap();
        prober.join().unwrap();
        assert_eq!((occupancy.in_flight(), occupancy.is_draining()), (0, false));
        assert!(!occupancy.is_available(), "the health bit was not lost");
        assert_eq!(occupancy.claim(u64::MAX), Claim::Granted);
        occupancy.release();
        occupancy.set_healthy(true);
        assert!(occupancy.is_available());
    });
}
