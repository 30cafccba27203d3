//! The worker's coarse clock: read once for a turn of its event loop, not once for each question.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

/// A cached time is read anew after so many questions, so that a loop which never parks does not stand still in time.
const QUESTIONS: u32 = 64;

thread_local! {
    static CACHED: Cell<(Option<Instant>, u32)> = const { Cell::new((None, 0)) };
}

/// The time at about the beginning of this turn of the event loop. Never runs backwards.
#[inline]
pub(super) fn now() -> Instant {
    CACHED.with(|cached| match cached.get() {
        (Some(now), left) if left > 0 => {
            cached.set((Some(now), left - 1));
            now
        }
        _ => {
            let now = Instant::now();
            cached.set((Some(now), QUESTIONS));
            now
        }
    })
}

/// Forgets the cached time: called by the runtime whenever the thread comes back from waiting.
pub(super) fn wake() {
    CACHED.with(|cached| cached.set((None, 0)));
}

/// The value of a `Date` field (RFC 9110 6.6.1), formatted once a second.
#[derive(Debug)]
pub(super) struct DateValue {
    text: [u8; 29],
    good_until: Instant,
}

impl DateValue {
    pub(super) fn new() -> Self {
        let mut date = Self { text: [0; 29], good_until: now() };
        date.renew();
        date
    }

    /// The value for a response that is sent now.
    pub(super) fn text(&mut self) -> &[u8] {
        if now() >= self.good_until {
            self.renew();
        }
        &self.text
    }

    fn renew(&mut self) {
        let text = httpdate::fmt_http_date(SystemTime::now());
        self.text.copy_from_slice(text.as_bytes());
        self.good_until = now() + Duration::from_millis(500);
    }
}
