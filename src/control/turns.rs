//! Work for callers of the admin API that is done one after the other.
//!
//! To check a file of a megabyte takes a good part of a second and forty times its size in memory: however many are sent at
//! once, the machine is there for requests.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::handle::ControlError;

/// Callers that may wait for their turn. Each holds a text of a megabyte at most.
const MAX_WAITING: usize = 8;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    turn: Semaphore,
    waiting: AtomicUsize,
}

impl Turns {
    pub(super) const fn new() -> Self {
        Self { turn: Semaphore::const_new(1), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a turn, which lasts until the answer is dropped. Where too many wait, this one is turned away.
    pub(super) async fn take(&'static self) -> Result<SemaphorePermit<'static>, ControlError> {
        if let Ok(turn) = self.turn.try_acquire() {
            return Ok(turn);
        }
        let before = self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= MAX_WAITING {
            return Err(ControlError::Busy);
        }
        Ok(self.turn.acquire().await.expect("it is never closed"))
    }
}

/// Counts off whoever waits no more, for whatever reason.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_has_its_turn_few_wait_and_who_goes_makes_room() {
        static TURNS: Turns = Turns::new();
        let first = TURNS.take().await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(TURNS.take())).collect();
        poll_fn(|cx| {
            assert!(waiting.iter_mut().all(|one| one.poll_unpin(cx).is_pending()));
            std::task::Poll::Ready(())
        })
        .await;
        assert_eq!(TURNS.take().await.err(), Some(ControlError::Busy));
        waiting.pop();
        let mut late = Box::pin(TURNS.take());
        assert!(late.as_mut().now_or_never().is_none(), "there is room to wait again");
        drop(first);
        assert!(waiting.remove(0).await.is_ok());
    }
}
