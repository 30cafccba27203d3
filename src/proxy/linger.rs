//! The lingering close (RFC 9112 9.6): after the last answer, stop writing and read on for a bounded while. Closing
//! with unread bytes would reset the connection, and the reset may eat the answer before the client has read it.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use tokio::io::{AsyncWrite, ReadBuf};

use super::{clock, downstream::Downstream};

/// How long it is read on.
const TIME: Duration = Duration::from_secs(2);
/// How much is read: more than a client has in flight when it sees the end of our side.
const BYTES: usize = 4 << 20;

/// Closes a connection so that its client gets the answer.
pub(super) async fn linger(downstream: &mut Downstream) {
    downstream.deadline.arm(clock::now() + TIME);
    let mut left = BYTES;
    poll_fn(|cx| {
        // A failure means that the client is gone already.
        if Pin::new(&mut downstream.stream).poll_shutdown(cx).is_pending() {
            // Over TLS, our end is a record that the socket may not take.
            return if downstream.deadline.poll_due(cx) { Poll::Ready(()) } else { Poll::Pending };
        }
        loop {
            let mut scratch = downstream.worker.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            match downstream.stream.poll_discard(cx, &mut buffer) {
                Poll::Pending if downstream.deadline.poll_due(cx) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            left = left.saturating_sub(buffer.filled().len());
            if left == 0 {
                return Poll::Ready(());
            }
        }
    })
    .await;
}
