//! What is counted of the pins of a pool in a split, and how many sessions there are.
//!
//! Invariant: one thread writes (the worker that owns it), any thread may read. A reader may meet a part of the window
//! while it is being emptied; then it counts a little less, once.

use std::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::counter::Counter;
use crate::model::hyperloglog::{REGISTERS, Sketch, place};

/// Parts of the window of sessions: the newest is being filled, the others are whole.
const PARTS: usize = 3;
/// How long a part is filled, in seconds.
const PART: u64 = 600;
/// Sessions are counted that had a request within this time, in seconds, or within less than a part more.
pub const WINDOW: u64 = (PARTS as u64 - 1) * PART;

/// Why a pin was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    /// A session began.
    New = 0,
    /// A session's pin could not be honoured, or its request was retried elsewhere: it has moved.
    Moved = 1,
    /// The pin was in the second half of its time.
    Renewed = 2,
}

/// Why a pin that a request carried was not honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHonoured {
    /// It is no pin of any key in use.
    Tampered = 0,
    /// It is a good pin of another split.
    Foreign = 1,
    /// Its time is over.
    Expired = 2,
    /// Its pool is none of the split's any more.
    Unknown = 3,
    /// It was released.
    Released = 4,
    /// Its pool has nobody who takes it.
    Unavailable = 5,
    /// It is dated further ahead than clocks may differ.
    Ahead = 6,
}

/// The names of [`Issued`], as metrics and status write them.
pub const ISSUED: [&str; 3] = ["new", "moved", "renewed"];
/// The names of [`NotHonoured`], as metrics and status write them.
pub const NOT_HONOURED: [&str; 7] =
    ["tampered", "foreign", "expired", "unknown", "released", "unavailable", "ahead"];

/// One worker's counts of the pins of a pool in a split.
#[derive(Debug, Default)]
pub struct PinCounts {
    /// Requests whose pin was honoured.
    pub pinned: Counter,
    /// Pins issued, by [`Issued`].
    pub issued: [Counter; ISSUED.len()],
    /// Pins that were not honoured, by [`NotHonoured`]. Of a whole split: counted at its first pool.
    pub not_honoured: [Counter; NOT_HONOURED.len()],
    /// The sessions of the last while.
    pub sessions: Sessions,
}

/// Sketches of the sessions of the last while.
#[derive(Debug)]
pub struct Sessions([Part; PARTS]);

#[derive(Debug)]
struct Part {
    /// Which part of time it holds, counted from 1970; 0 while it is being emptied.
    epoch: AtomicU64,
    registers: Box<[AtomicU8]>,
}

/// The counts at one moment, of all workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of PinCounts")]
pub struct PinTotals {
    pub pinned: u64,
    pub issued: [u64; ISSUED.len()],
    pub not_honoured: [u64; NOT_HONOURED.len()],
    /// An estimate.
    pub sessions: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        let part = |_| Part {
            epoch: AtomicU64::new(0),
            registers: (0..REGISTERS).map(|_| AtomicU8::new(0)).collect(),
        };
        Self([0; PARTS].map(part))
    }
}

impl Sessions {
    /// Notes that a session had a request at a moment in seconds since 1970.
    #[inline]
    pub fn note(&self, session: u64, now: u64) {
        let epoch = now / PART;
        let part = &self.0[epoch as usize % PARTS];
        if part.epoch.load(Relaxed) != epoch {
            part.renew(epoch);
        }
        let (register, rank) = place(session);
        let held = &part.registers[register];
        if held.load(Relaxed) < rank {
            held.store(rank, Relaxed);
        }
    }

    /// Adds the sessions that had a request within the window before `now`.
    pub fn add_to(&self, into: &mut Sketch, now: u64) {
        let newest = now / PART;
        for part in &self.0 {
            let epoch = part.epoch.load(Acquire);
            // A worker's clock may be a moment ahead of the reader's.
            if epoch == 0 || epoch > newest + 1 || epoch + (PARTS as u64) <= newest {
                continue;
            }
            for (register, rank) in part.registers.iter().enumerate() {
                into.raise(register, rank.load(Relaxed));
            }
        }
    }
}

impl Part {
    #[cold]
    fn renew(&self, epoch: u64) {
        self.epoch.store(0, Release);
        self.registers.iter().for_each(|register| register.store(0, Relaxed));
        self.epoch.store(epoch, Release);
    }
}

impl PinTotals {
    /// The sums of the workers' counts; `now` is in seconds since 1970.
    pub fn of<'a>(workers: impl Iterator<Item = &'a PinCounts>, now: u64) -> Self {
        let (mut totals, mut sessions) = (Self::default(), Sketch::default());
        for counts in workers {
            totals.pinned += counts.pinned.value();
            let issued = totals.issued.iter_mut().zip(&counts.issued);
            let not_honoured = totals.not_honoured.iter_mut().zip(&counts.not_honoured);
            for (sum, counter) in issued.chain(not_honoured) {
                *sum += counter.value();
            }
            counts.sessions.add_to(&mut sessions, now);
        }
        totals.sessions = sessions.estimate().round() as u64;
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(sessions: &[&Sessions], now: u64) -> u64 {
        let mut sketch = Sketch::default();
        sessions.iter().for_each(|sessions| sessions.add_to(&mut sketch, now));
        sketch.estimate().round() as u64
    }

    #[test]
    fn sessions_are_counted_for_as_long_as_the_window_and_once_over_all_workers() {
        let (one, other) = (Sessions::default(), Sessions::default());
        let start = 3_000 * PART;
        for session in 0..50 {
            one.note(session, start);
            other.note(session, start + PART);
        }
        one.note(50, start + PART);
        assert_eq!(estimate(&[&one, &other], start + PART), 51);
        assert_eq!(estimate(&[&one], start + WINDOW), 51, "a whole window later they count");
        assert_eq!(estimate(&[&one], start + WINDOW + PART), 1, "and a part later no more");
        assert_eq!(estimate(&[&one], start + WINDOW + 2 * PART), 0);
        // The part of the first sessions is used again.
        one.note(51, start + 3 * PART);
        assert_eq!(estimate(&[&one], start + 3 * PART), 2);
    }
}
