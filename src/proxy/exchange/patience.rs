//! How long an attempt may take, and how long each side may keep it waiting.

use std::time::{Duration, Instant};

use crate::{config::Listener, telemetry::causes::TimeoutKind};

/// A request that has waited for so long is worth a look: has its client reset the connection?
pub(in crate::proxy) const LOOK: Duration = Duration::from_millis(500);

/// What an attempt waits for.
#[derive(Debug)]
pub(super) struct Patience {
    /// The end of the route's time for the request.
    due: Option<Instant>,
    /// The end of the route's time for the attempt, up to the response's head.
    per_try: Option<Instant>,
    /// By when the response's head must have come, once the request has been sent.
    first_byte: Option<Instant>,
    /// Since when the upstream has, or could have, all that the client has sent.
    asked: Instant,
    /// When the client is looked at, unless the runtime watches it.
    look_at: Option<Instant>,
    /// Since when the client owes us bytes of its body.
    sending: Option<Instant>,
    /// Since when the client takes no byte, and how many it had taken then.
    reading: Option<(Instant, u64)>,
    /// Since when the upstream is silent within its response.
    silent: Option<Instant>,
}

/// What has taken too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The upstream, or all of it.
    Upstream(TimeoutKind),
    /// The client's next bytes of its body.
    Sending,
    /// The client's taking of bytes.
    Reading,
    /// Nothing; but it is time to look whether the client is still there.
    Look,
}

impl Patience {
    pub(super) fn new(now: Instant, due: Option<Instant>, per_try: Option<Instant>) -> Self {
        Self {
            due,
            per_try,
            first_byte: None,
            asked: now,
            look_at: Some(now + LOOK),
            sending: None,
            reading: None,
            silent: None,
        }
    }

    /// The request has been sent: the response's head is to begin by then.
    pub(super) fn await_head(&mut self, by: Instant) {
        self.first_byte = Some(by);
    }

    /// The response's head has come.
    #[inline]
    pub(super) fn head_came(&mut self) {
        self.first_byte = None;
        self.per_try = None;
    }

    /// The attempt has its time anew; or none any more, as there is no other to follow it.
    pub(super) fn try_until(&mut self, per_try: Option<Instant>) {
        self.per_try = per_try;
    }

    /// Whether the client owes us bytes of its body.
    pub(super) fn awaits_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Nothing has come from the client, which owes us bytes.
    pub(super) fn await_sending(&mut self, now: Instant) {
        self.sending.get_or_insert(now);
    }

    /// The client has sent more of its body, for the upstream to take.
    #[inline]
    pub(super) fn sending_came(&mut self, now: Instant) {
        self.sending = None;
        self.asked = now;
    }

    /// The client owes us nothing.
    #[inline]
    pub(super) fn stop_sending(&mut self) {
        self.sending = None;
    }

    /// Since when the upstream is waited for, before its response begins: to take more of the request, or to answer.
    pub(super) fn asked_since(&self) -> Instant {
        self.asked
    }

    /// Since when the upstream sends nothing of its response, while it could.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.silent
    }

    /// The client takes no more bytes than `taken` in all.
    pub(super) fn await_reading(&mut self, now: Instant, taken: u64) {
        if self.reading.is_none_or(|(_, before)| before != taken) {
            self.reading = Some((now, taken));
        }
        // An upstream that is not asked for more is not silent.
        self.silent = None;
    }

    /// The client has taken all there is.
    #[inline]
    pub(super) fn stop_reading(&mut self) {
        self.reading = None;
    }

    /// The upstream has more of its response to send, and sends nothing.
    pub(super) fn await_stream(&mut self, now: Instant) {
        self.silent.get_or_insert(now);
    }

    /// The upstream has sent something.
    #[inline]
    pub(super) fn stop_silence(&mut self) {
        self.silent = None;
    }

    /// There is a look around by then, unless one is due or to come already.
    pub(super) fn look_by(&mut self, at: Instant) {
        self.look_at.get_or_insert(at);
    }

    /// There is no further look around: the runtime says when something comes of the client.
    pub(super) fn look_no_more(&mut self) {
        self.look_at = None;
    }

    /// When something is due next, if anything is.
    #[inline]
    pub(super) fn next(&self, listener: &Listener, stream_idle: Option<Duration>) -> Option<Instant> {
        let sending = self.sending.map(|since| since + listener.body_timeout);
        let reading = self.reading.map(|(since, _)| since + listener.write_timeout);
        let silent = self.silent_until(stream_idle);
        let all = [self.due, self.per_try, self.first_byte, sending, reading, silent, self.look_at];
        all.into_iter().flatten().min()
    }

    /// What is due.
    pub(super) fn overdue(
        &self,
        now: Instant,
        listener: &Listener,
        stream_idle: Option<Duration>,
    ) -> Option<Overdue> {
        let past = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        for (time, kind) in [
            (self.due, TimeoutKind::Request),
            (self.first_byte, TimeoutKind::FirstByte),
            (self.per_try, TimeoutKind::PerTry),
            (self.silent_until(stream_idle), TimeoutKind::StreamIdle),
        ] {
            if past(time) {
                return Some(Overdue::Upstream(kind));
            }
        }
        if past(self.sending.map(|since| since + listener.body_timeout)) {
            return Some(Overdue::Sending);
        }
        if past(self.reading.map(|(since, _)| since + listener.write_timeout)) {
            return Some(Overdue::Reading);
        }
        past(self.look_at).then_some(Overdue::Look)
    }

    #[inline]
    fn silent_until(&self, stream_idle: Option<Duration>) -> Option<Instant> {
        self.silent.zip(stream_idle).map(|(since, time)| since + time)
    }
}
