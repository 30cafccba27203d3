//! How a drain ends what does not end by itself: requests at their deadline, streams one after the other.
//!
//! Invariant: the control plane says how far a drain has come and workers look, whenever they look around anyway. No
//! request is told, so a drain costs those that do not drain nothing.

use std::{
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::local::{Lease, LocalEndpoint};
use crate::telemetry::registry::CUT_KINDS;

/// How far the drain of an endpoint has come, and what it has cut.
#[derive(Debug, Default)]
pub struct Progress {
    /// The part of the streams' time that is over: 0 is none of it, [`u32::MAX`] all.
    tide: AtomicU32,
    /// The requests' time is over.
    is_over: AtomicBool,
    /// Counts the beginnings and ends of drains: behind an endpoint's back a process may have been replaced in between.
    epoch: AtomicU32,
    /// Streams that are open, draining or not.
    streams: AtomicU64,
    cut: [AtomicU64; CUT_KINDS.len()],
}

/// What a drain ends, in the order of [`crate::telemetry::registry::CUT_KINDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Request,
    /// A connection that was upgraded.
    Tunnel,
    /// A response of type `text/event-stream`.
    EventStream,
}

/// A stream that is open on an endpoint: a tunnel or an event stream.
#[derive(Debug)]
pub struct Stream {
    endpoint: Rc<LocalEndpoint>,
    /// Whether its request counts at the pool's gate, and so does this.
    is_gated: bool,
    kind: Kind,
    /// When the tide has risen so far, it is this stream's turn to close.
    mark: u32,
}

/// Marks for a worker's streams: wherever it begins, any run of them is spread evenly.
#[derive(Debug)]
pub struct Marks(u32);

/// 2^32 divided by the golden ratio: its multiples are spread more evenly than random numbers (Weyl; Knuth, The Art of
/// Computer Programming 3, 6.4).
const STEP: u32 = 0x9E37_79B9;

impl Progress {
    /// Begins a drain: nothing is over and nothing has been cut.
    pub fn begin(&self) {
        self.end();
        self.cut.iter().for_each(|count| count.store(0, Relaxed));
    }

    /// Nothing is to be cut any more. To be called before anything new may come: whoever claims the endpoint then knows
    /// that connections from before are to be closed.
    pub fn end(&self) {
        self.epoch.fetch_add(1, Relaxed);
        self.tide.store(0, Relaxed);
        self.is_over.store(false, Relaxed);
    }

    /// How often drains have begun and ended.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Relaxed)
    }

    /// Says that `elapsed` of the time that streams have is over.
    pub fn advance_streams(&self, elapsed: Duration, whole: Duration) {
        let part = if elapsed >= whole { 1.0 } else { elapsed.as_secs_f64() / whole.as_secs_f64() };
        // A float that is out of range becomes the nearest integer.
        self.tide.store((part * f64::from(u32::MAX)) as u32, Relaxed);
    }

    /// Says that the time of requests is over, or that it is not.
    pub fn set_over(&self, is_over: bool) {
        self.is_over.store(is_over, Relaxed);
    }

    /// Whether requests are to end now.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Streams that are open.
    pub fn streams(&self) -> u64 {
        self.streams.load(Relaxed)
    }

    /// What the newest drain has cut, of a kind.
    pub fn cut(&self, kind: Kind) -> u64 {
        self.cut[kind as usize].load(Relaxed)
    }

    /// Counts something that was cut.
    pub fn count_cut(&self, kind: Kind) {
        self.cut[kind as usize].fetch_add(1, Relaxed);
    }
}

impl Marks {
    /// Begins at any number.
    pub fn new(seed: u32) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(STEP);
        self.0.max(1)
    }
}

impl Stream {
    /// Counts a request in that has become a stream, until this is dropped, which is before its lease is.
    pub fn open(lease: &Lease, kind: Kind, marks: &mut Marks) -> Self {
        let endpoint = Rc::clone(lease);
        endpoint.drain.streams.fetch_add(1, Relaxed);
        if lease.is_gated() {
            endpoint.state.gate.begin_stream();
        }
        Self { endpoint, is_gated: lease.is_gated(), kind, mark: marks.next() }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether its endpoint drains, so that it has to look whether its turn has come.
    pub fn is_to_look(&self) -> bool {
        self.endpoint.occupancy.is_draining()
    }

    /// Whether its turn to close has come.
    pub fn is_to_close(&self) -> bool {
        self.endpoint.drain.tide.load(Relaxed) >= self.mark
    }

    /// Whether the time of all streams is over.
    pub fn is_late(&self) -> bool {
        self.endpoint.drain.tide.load(Relaxed) == u32::MAX
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.endpoint.drain.streams.fetch_sub(1, Relaxed);
        if self.is_gated {
            self.endpoint.state.gate.end_stream();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams of one worker close one after the other, however few of them there are.
    #[test]
    fn marks_are_spread_evenly_wherever_they_begin() {
        let seed = fastrand::u32(..);
        println!("seed {seed}");
        for count in [10u32, 100, 1000] {
            let mut marks = Marks::new(seed);
            let mut parts = vec![0u32; count as usize / 5];
            for _ in 0..count {
                let part = (u64::from(marks.next()) * parts.len() as u64) >> 32;
                parts[part as usize] += 1;
            }
            // Five on average.
            assert!(parts.iter().all(|part| (3..=7).contains(part)), "{count}: {parts:?}");
        }
    }

    #[test]
    fn the_tide_rises_from_nothing_to_all() {
        let progress = Progress::default();
        let tide = || progress.tide.load(Relaxed);
        let second = Duration::from_secs(1);
        for (elapsed, whole, expected) in [
            (Duration::ZERO, second, 0),
            (second / 2, second, u32::MAX / 2),
            (second, second, u32::MAX),
            (2 * second, second, u32::MAX),
            (Duration::ZERO, Duration::ZERO, u32::MAX),
        ] {
            progress.advance_streams(elapsed, whole);
            assert_eq!(tide(), expected, "{elapsed:?} of {whole:?}");
        }
        progress.set_over(true);
        progress.count_cut(Kind::Tunnel);
        progress.end();
        assert!(tide() == 0 && !progress.is_over() && progress.cut(Kind::Tunnel) == 1);
        progress.begin();
        assert_eq!(progress.cut(Kind::Tunnel), 0);
    }
}
