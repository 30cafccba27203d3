//! Finds out that an endpoint has vanished without a word: by a PING, where streams are open and nothing comes.
//!
//! Servers of gRPC end connections whose clients ping more often than they like, commonly once in five minutes where nothing
//! else is said. So silence is asked about once, and then seldom, until something comes again.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// How long nothing may come before it is asked whether the endpoint is there.
const SILENCE: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const WITHIN: Duration = Duration::from_secs(5);
/// How long it is left alone after an answer, if nothing else comes.
const REST: Duration = Duration::from_secs(310);

/// Watches over a connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    pings: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    /// How many bytes had come when it was looked at last.
    seen: u64,
    /// Whether an answer is waited for.
    is_asking: bool,
    /// Until when it is left alone.
    rests_until: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(pings: Option<PingPong>) -> Self {
        Self { pings, timer: Box::pin(sleep(SILENCE)), seen: 0, is_asking: false, rests_until: None }
    }

    /// Ready when the endpoint does not answer. `received` bytes have come in all.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, received: u64, has_streams: bool) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let is_silent = std::mem::replace(&mut self.seen, received) == received && has_streams;
            let was_asking = std::mem::take(&mut self.is_asking);
            match (is_silent, was_asking) {
                (true, true) => return Poll::Ready(()),
                // What has come is the answer, or more than that.
                (false, true) => self.rests_until = Some(now + REST),
                (false, false) => self.rests_until = None,
                (true, false) if self.rests_until.is_none_or(|until| until <= now) => self.ask(cx),
                (true, false) => {}
            }
            let next = if self.is_asking { WITHIN } else { SILENCE };
            self.timer.as_mut().reset(now + next);
        }
    }

    fn ask(&mut self, cx: &mut Context<'_>) {
        let Some(pings) = &mut self.pings else { return };
        // An answer of before has to be taken first.
        let _ = pings.poll_pong(cx);
        self.is_asking = pings.send_ping(Ping::opaque()).is_ok();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    /// Settings without any.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    /// How long it takes until an endpoint that says nothing more is given up; `None` if it is not within a day.
    async fn given_up(has_streams: bool) -> Option<Duration> {
        let (ours, mut theirs) = duplex(1 << 16);
        theirs.write_all(&SETTINGS).await.unwrap();
        let (_sender, mut connection) = h2::client::handshake(ours).await.unwrap();
        let mut heartbeat = Heartbeat::new(connection.ping_pong());
        let began = Instant::now();
        let beating = poll_fn(|cx| {
            let _ = Pin::new(&mut connection).poll(cx);
            heartbeat.poll(cx, SETTINGS.len() as u64, has_streams)
        });
        let day = Duration::from_secs(24 * 60 * 60);
        tokio::time::timeout(day, beating).await.ok().map(|()| began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_answers_no_ping_is_given_up_if_somebody_waits_for_it() {
        let taken = given_up(true).await.expect("it is given up");
        // What had come before the first look is news to it.
        let least = SILENCE * 2 + WITHIN;
        assert!((least..least + Duration::from_secs(1)).contains(&taken), "{taken:?}");
        assert_eq!(given_up(false).await, None);
    }
}
