//! How long an attempt may take, and how long each side may keep it waiting.

use std::time::{Duration, Instant};

use crate::config::Listener;

/// While a request waits, its client is looked at this often: has it reset the connection?
pub(in crate::proxy) const LOOK: Duration = Duration::from_millis(500);

/// What an attempt waits for.
#[derive(Debug)]
pub(super) struct Patience {
    /// The end of the route's time.
    due: Option<Instant>,
    /// When the client is looked at.
    look_at: Instant,
    /// Since when the client owes us bytes of its body.
    sending: Option<Instant>,
    /// Since when the client takes no byte, and how many it had taken then.
    reading: Option<(Instant, u64)>,
}

/// What has taken too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The whole request.
    Request,
    /// The client's next bytes of its body.
    Sending,
    /// The client's taking of bytes.
    Reading,
    /// Nothing; but it is time to look whether the client is still there.
    Look,
}

impl Patience {
    pub(super) fn new(now: Instant, due: Option<Instant>) -> Self {
        Self { due, look_at: now + LOOK, sending: None, reading: None }
    }

    /// Nothing has come from the client, which owes us bytes.
    pub(super) fn await_sending(&mut self, now: Instant) {
        self.sending.get_or_insert(now);
    }

    /// The client owes us nothing, or has just paid.
    #[inline]
    pub(super) fn stop_sending(&mut self) {
        self.sending = None;
    }

    /// The client takes no more bytes than `taken` in all.
    pub(super) fn await_reading(&mut self, now: Instant, taken: u64) {
        if self.reading.is_none_or(|(_, before)| before != taken) {
            self.reading = Some((now, taken));
        }
    }

    /// The client has taken all there is.
    #[inline]
    pub(super) fn stop_reading(&mut self) {
        self.reading = None;
    }

    /// When something is due next.
    #[inline]
    pub(super) fn next(&self, listener: &Listener) -> Instant {
        let sending = self.sending.map(|since| since + listener.body_timeout);
        let reading = self.reading.map(|(since, _)| since + listener.write_timeout);
        [self.due, sending, reading].into_iter().flatten().fold(self.look_at, Instant::min)
    }

    /// What is due. After a look the next one is set.
    pub(super) fn overdue(&mut self, now: Instant, listener: &Listener) -> Option<Overdue> {
        if self.due.is_some_and(|due| due <= now) {
            return Some(Overdue::Request);
        }
        if self.sending.is_some_and(|since| since + listener.body_timeout <= now) {
            return Some(Overdue::Sending);
        }
        if self.reading.is_some_and(|(since, _)| since + listener.write_timeout <= now) {
            return Some(Overdue::Reading);
        }
        (self.look_at <= now).then(|| {
            self.look_at = now + LOOK;
            Overdue::Look
        })
    }
}
