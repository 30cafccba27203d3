//! What an attempt sees when it looks around: is its client still there, and does its endpoint's drain end it?

use std::task::Context;

use super::{Exchange, Failure};
use crate::upstream::drain::{Kind, Stream};

impl Exchange<'_> {
    /// Looks around; answers what ends the attempt, if anything does. An event stream whose turn has come ends as if
    /// the upstream had ended it, so that its client connects anew, elsewhere.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) -> Option<Failure> {
        if self.is_client_gone(cx) {
            return Some(Failure::ClientGone);
        }
        let wrote = self.request.up.sent() > 0;
        let Some(stream) = &self.down.stream else {
            return self
                .request
                .lease
                .drain
                .is_over()
                .then_some(Failure::Drained { kind: Kind::Request, wrote });
        };
        let (is_to_close, is_late) = (stream.is_to_close(), stream.is_late());
        if is_to_close && self.down.end_early(&self.downstream.worker.buffers) {
            self.downstream.worker.count_cut(&self.request.lease, Kind::EventStream);
            self.down.stream = None;
            return None;
        }
        // Within a chunk there is no end; there may be one at the next look.
        is_late.then_some(Failure::Drained { kind: Kind::EventStream, wrote })
    }

    /// Counts a response in that is an event stream.
    pub(super) fn open_stream(&mut self) {
        let mut marks = self.downstream.worker.marks.borrow_mut();
        self.down.stream = Some(Stream::open(&self.request.lease, Kind::EventStream, &mut marks));
    }
}

/// Whether a `Content-Type` is that of server-sent events.
pub(super) fn is_event_stream(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stream_is_known_by_its_type_alone() {
        for good in ["text/event-stream", "Text/Event-Stream; charset=utf-8", "text/event-stream ;x"] {
            assert!(is_event_stream(good.as_bytes()), "{good}");
        }
        for bad in ["text/event-streams", "text/html", "", "application/json; text/event-stream"] {
            assert!(!is_event_stream(bad.as_bytes()), "{bad}");
        }
    }
}
