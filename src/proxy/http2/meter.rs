//! What a client makes us do that serves no request: counted, and bounded.
//!
//! A flood is cheap to send and dear to follow. What a sound client sends grows with its requests and with what it is
//! sent, so that is what earns it more.
//!
//! Invariant: pure; time is passed in.

use std::time::{Duration, Instant};

use super::{
    PREFACE,
    frames::{FrameHead, Frames, Kind},
    limits,
};

/// Counts the frames of a connection.
#[derive(Debug)]
pub(super) struct Meter {
    received: Frames,
    sent: Frames,
    control: Budget,
    resets: Budget,
    /// Sent bytes that have not earned anything yet.
    unearned: usize,
    is_flooded: bool,
}

/// What may be used up, and grows again.
#[derive(Debug)]
struct Budget {
    left: u32,
    most: u32,
    a_second: u32,
    since: Instant,
}

impl Meter {
    /// The meter of a connection that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            received: Frames::after(PREFACE.len()),
            sent: Frames::after(0),
            control: Budget::new(limits::CONTROL, limits::CONTROL_A_SECOND, now),
            resets: Budget::new(limits::RESETS, limits::RESETS_A_SECOND, now),
            unearned: 0,
            is_flooded: false,
        }
    }

    /// Whether the client has sent more than any sound one does.
    pub(super) fn is_flooded(&self) -> bool {
        self.is_flooded
    }

    /// Whether a block of fields has begun and not ended.
    pub(super) fn is_within_fields(&self) -> bool {
        self.received.is_within_fields()
    }

    /// Whether a frame may be sent between those of the h2 crate.
    pub(super) fn is_between_frames(&self) -> bool {
        self.sent.is_between()
    }

    /// Counts what the client has sent; answers how many resets are in it.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) -> u64 {
        let Self { received, control, resets, is_flooded, .. } = self;
        let mut reset = 0;
        received.follow(bytes, |FrameHead { length, kind, is_last }| {
            let is_fine = match kind {
                Kind::Headers => {
                    control.earn(limits::CONTROL_FOR_HEAD);
                    true
                }
                // How many frames a block of fields may have, h2 bounds.
                Kind::Continuation => true,
                Kind::Data if length > 0 || is_last => true,
                Kind::ResetStream => {
                    reset += 1;
                    resets.take(now)
                }
                Kind::Data | Kind::GoAway | Kind::Other => control.take(now),
            };
            *is_flooded |= !is_fine;
        });
        reset
    }

    /// Counts what the client is sent; answers how many resets are in it.
    pub(super) fn send(&mut self, bytes: &[u8]) -> u64 {
        self.unearned += bytes.len();
        let unit = limits::BYTES_FOR_CONTROL as usize;
        self.control.earn(u32::try_from(self.unearned / unit).unwrap_or(u32::MAX));
        self.unearned %= unit;
        let mut resets = 0;
        self.sent.follow(bytes, |head| resets += u64::from(head.kind == Kind::ResetStream));
        resets
    }

    /// A response was sent to its end, which earns its client a reset of another.
    pub(super) fn answered(&mut self) {
        self.resets.earn(1);
    }
}

impl Budget {
    fn new(most: u32, a_second: u32, now: Instant) -> Self {
        Self { left: most, most, a_second, since: now }
    }

    fn earn(&mut self, amount: u32) {
        self.left = self.left.saturating_add(amount).min(self.most);
    }

    /// Uses one up; answers whether there was one.
    fn take(&mut self, now: Instant) -> bool {
        if self.left == 0 {
            self.refill(now);
        }
        let has_one = self.left > 0;
        self.left -= u32::from(has_one);
        has_one
    }

    /// Adds what time has brought, once that is a second's worth at least.
    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            self.earn(self.a_second.saturating_mul(u32::try_from(seconds).unwrap_or(u32::MAX)));
            self.since += Duration::from_secs(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const RESET: [u8; 13] = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
    const HEADERS: [u8; 10] = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82];

    fn begun(now: Instant) -> Meter {
        let mut meter = Meter::new(now);
        meter.receive(PREFACE, now);
        meter
    }

    #[test]
    fn pings_without_end_are_a_flood_and_some_for_each_request_are_none() {
        let now = Instant::now();
        let mut meter = begun(now);
        for _ in 0..limits::CONTROL {
            meter.receive(&PING, now);
        }
        assert!(!meter.is_flooded());
        meter.receive(&PING, now);
        assert!(meter.is_flooded());

        let mut meter = begun(now);
        for _ in 0..10_000 {
            meter.receive(&HEADERS, now);
            (0..limits::CONTROL_FOR_HEAD).for_each(|_| {
                meter.receive(&PING, now);
            });
        }
        assert!(!meter.is_flooded());
    }

    #[test]
    fn resets_are_bounded_by_what_was_answered_and_by_time() {
        let now = Instant::now();
        let mut meter = begun(now);
        assert_eq!(meter.receive(&RESET.repeat(limits::RESETS as usize), now), u64::from(limits::RESETS));
        assert!(!meter.is_flooded());
        meter.answered();
        meter.receive(&RESET, now);
        assert!(!meter.is_flooded());
        let later = now + Duration::from_secs(1);
        meter.receive(&RESET.repeat(limits::RESETS_A_SECOND as usize), later);
        assert!(!meter.is_flooded());
        meter.receive(&RESET, later);
        assert!(meter.is_flooded());
    }

    #[test]
    fn a_client_that_opens_its_windows_for_each_frame_of_a_long_response_floods_nothing() {
        let now = Instant::now();
        let mut meter = begun(now);
        let mut data = vec![0; 9 + (16 << 10)];
        data[1] = 0x40;
        let update = [0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 0x40, 0];
        for _ in 0..50_000 {
            assert_eq!(meter.send(&data), 0);
            meter.receive(&update, now);
            meter.receive(&update, now);
        }
        assert!(!meter.is_flooded());
    }

    #[test]
    fn empty_data_without_an_end_is_counted() {
        let now = Instant::now();
        let (empty, end) = ([0, 0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0, 0, 1]);
        let mut meter = begun(now);
        meter.receive(&end.repeat(5_000), now);
        assert!(!meter.is_flooded());
        meter.receive(&empty.repeat(5_000), now);
        assert!(meter.is_flooded());
    }
}
