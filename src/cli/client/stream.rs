//! The stream of events, followed for as long as somebody wants to: read, taken up again where it broke.
//!
//! Invariant: what has an id is told once and in order over every break, because the instance is asked for what came
//! after the last one that was told. An instance that is away is asked less and less often.

use std::{ops::ControlFlow, time::Duration};

use http_body_util::BodyExt as _;
use hyper::header;

use super::{
    super::Failure,
    ANSWER_WITHIN, Call, Client,
    exchange::{begin, read, runtime},
};

/// What the instance sends at least every 15 s, if only a comment, is missing for so long: the connection is dead.
const SILENT_FOR: Duration = Duration::from_secs(45);
/// The pause before the first new try, unless the instance says another, and the longest one.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The largest event: a revision is told in 20 lines at most.
const MAX_EVENT: usize = 1 << 20;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its kind.
    pub event: String,
    /// The revision that it is, if it is one that can be asked for again.
    pub id: Option<u64>,
    /// What it says, in JSON.
    pub data: String,
}

/// What follows a stream.
pub trait Follower {
    /// An event has come; a break ends the following.
    fn tell(&mut self, event: &StreamEvent) -> Result<ControlFlow<()>, Failure>;
    /// The connection is lost, for this reason.
    fn lost(&mut self, why: &str);
    /// It is there again.
    fn found(&mut self);
}

/// Why a stream has ended.
enum End {
    /// The follower wants no more.
    Enough,
    /// The connection is lost: it may be tried again.
    Lost(String),
    /// It makes no sense to try again.
    Refused(Failure),
}

/// How far a stream was followed.
struct Position {
    /// The last id.
    last: Option<u64>,
    pause: Duration,
    /// Connections that were lost one after the other without a word.
    failures: u32,
    has_begun: bool,
    is_lost: bool,
}

impl Client {
    /// Follows the events, of what comes now or of all after a revision, until the follower has enough.
    pub fn follow(&self, since: Option<u64>, follower: &mut impl Follower) -> Result<(), Failure> {
        let mut position =
            Position { last: since, pause: PAUSE, failures: 0, has_begun: false, is_lost: false };
        runtime()?.block_on(async {
            loop {
                match self.once(&mut position, follower).await {
                    End::Enough => return Ok(()),
                    End::Refused(failure) => return Err(failure),
                    // Who can't be reached at all is no stream that broke: the address may be wrong.
                    End::Lost(why) if !position.has_begun => return Err(self.unreachable(&why)),
                    End::Lost(why) => {
                        if !position.is_lost {
                            follower.lost(&why);
                        }
                        position.is_lost = true;
                        tokio::time::sleep(position.next_pause(fastrand::f64())).await;
                    }
                }
            }
        })
    }

    /// Follows one connection to its end.
    async fn once(&self, position: &mut Position, follower: &mut impl Follower) -> End {
        let mut call = Call::get("/v1/events");
        call.fields.extend(position.last.map(|last| ("last-event-id", last.to_string())));
        let stream = match self.connect(ANSWER_WITHIN).await {
            Ok(stream) => stream,
            Err(Failure::NotReachable(_)) if position.has_begun => return End::Lost(String::new()),
            Err(failure) => return End::Refused(failure),
        };
        let request = match self.request(call) {
            Ok(request) => request,
            Err(failure) => return End::Refused(failure),
        };
        let head = tokio::time::timeout(ANSWER_WITHIN, begin(stream, request)).await;
        let response = match head {
            Ok(Ok(response)) => response,
            Ok(Err(why)) => return End::Lost(why),
            Err(_) => return End::Lost("it gives no answer".into()),
        };
        if response.status() != 200 {
            let is_passing = response.status().is_server_error() || response.status() == 429;
            return match tokio::time::timeout(ANSWER_WITHIN, read(response)).await {
                Ok(Ok(answer)) if is_passing && position.has_begun => {
                    End::Lost(format!("status {}", answer.status))
                }
                Ok(Ok(answer)) => {
                    let refused = self.success(answer).and_then(|_| self.expect(false));
                    refused.map_or_else(End::Refused, |()| End::Enough)
                }
                _ => End::Lost("its answer is no admin API's".into()),
            };
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return self.expect(false).map_or_else(End::Refused, |()| End::Enough);
        }
        self.listen(response.into_body(), position, follower).await
    }

    async fn listen(
        &self,
        mut body: hyper::body::Incoming,
        position: &mut Position,
        follower: &mut impl Follower,
    ) -> End {
        position.has_begun = true;
        let mut decoder = Decoder::default();
        loop {
            let frame = match tokio::time::timeout(SILENT_FOR, body.frame()).await {
                Err(_) => return End::Lost(format!("nothing has come for {} s", SILENT_FOR.as_secs())),
                Ok(None) => return End::Lost("the stream has ended".into()),
                Ok(Some(Err(error))) => return End::Lost(error.to_string()),
                Ok(Some(Ok(frame))) => frame,
            };
            position.failures = 0;
            if std::mem::take(&mut position.is_lost) {
                follower.found();
            }
            for byte in frame.data_ref().into_iter().flatten() {
                let event = match decoder.push(*byte) {
                    Ok(event) => event,
                    Err(TooLarge) => {
                        return End::Refused(Failure::Failed(
                            "an event is over 1 MiB: this is no Switchback".into(),
                        ));
                    }
                };
                position.pause = decoder.retry.unwrap_or(PAUSE);
                let told = event.map_or(Ok(ControlFlow::Continue(())), |event| follower.tell(&event));
                position.last = decoder.last.or(position.last);
                match told {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return End::Enough,
                    Err(failure) => return End::Refused(failure),
                }
            }
        }
    }
}

impl Position {
    /// How long to wait before the next try: longer each time, and not as long as everybody else who lost it.
    fn next_pause(&mut self, random: f64) -> Duration {
        let pause = self.pause.saturating_mul(1 << self.failures.min(8)).min(LONGEST_PAUSE);
        self.failures += 1;
        pause.mul_f64(0.5 + random / 2.0)
    }
}

/// An event is larger than any should be.
struct TooLarge;

/// Reads server-sent events (HTML 9.2.6) byte by byte.
#[derive(Default)]
struct Decoder {
    line: Vec<u8>,
    after_cr: bool,
    event: String,
    data: String,
    id: Option<u64>,
    /// The id of the last event that was whole.
    last: Option<u64>,
    /// The pause that the instance asks for.
    retry: Option<Duration>,
}

impl Decoder {
    /// Takes a byte, and answers the event that it completes.
    fn push(&mut self, byte: u8) -> Result<Option<StreamEvent>, TooLarge> {
        let is_second_end = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
        if is_second_end {
            return Ok(None);
        }
        if byte != b'\r' && byte != b'\n' {
            self.line.push(byte);
            return if self.line.len() + self.data.len() > MAX_EVENT { Err(TooLarge) } else { Ok(None) };
        }
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        self.field(&String::from_utf8_lossy(&line));
        Ok(None)
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.event = value.to_owned(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" => self.id = value.parse().ok(),
            "retry" => {
                let pause = value.parse().ok().map(Duration::from_millis);
                self.retry = pause.map(|pause| pause.clamp(Duration::from_millis(100), LONGEST_PAUSE));
            }
            // A comment, or what a later version adds.
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<StreamEvent> {
        let id = self.id.take();
        self.last = id.or(self.last);
        let (event, mut data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        // An event without data is none; its id counts.
        data.pop()?;
        Some(StreamEvent { event: if event.is_empty() { "message".into() } else { event }, id, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> (Vec<StreamEvent>, Decoder) {
        let mut decoder = Decoder::default();
        let events = text.bytes().filter_map(|byte| decoder.push(byte).ok().expect("it is small")).collect();
        (events, decoder)
    }

    fn event(event: &str, id: Option<u64>, data: &str) -> StreamEvent {
        StreamEvent { event: event.into(), id, data: data.into() }
    }

    #[test]
    fn events_are_read_with_each_kind_of_line_end() {
        let text = "retry: 500\nid: 7\n\n:\n\nid: 8\nevent: revision\ndata: {}\n\nevent: endpoint\ndata: a\ndata:b\n\n";
        let expected = [event("revision", Some(8), "{}"), event("endpoint", None, "a\nb")];
        for end in ["\n", "\r\n", "\r"] {
            let (events, decoder) = decoded(&text.replace('\n', end));
            assert_eq!(events, expected, "{end:?}");
            assert_eq!((decoder.last, decoder.retry), (Some(8), Some(Duration::from_millis(500))));
        }
        let (events, decoder) = decoded("id: 7\n\nevent: x\ndata: half");
        assert_eq!(
            (events.len(), decoder.last),
            (0, Some(7)),
            "what is not whole is no event, but an id counts"
        );
    }

    #[test]
    fn an_id_counts_when_its_event_is_whole() {
        let (_, decoder) = decoded("id: 7\n\nid: 8\nevent: revision\ndata: {}\n");
        assert_eq!(decoder.last, Some(7));
        let (_, decoder) = decoded("id: x\n\nid\n\n");
        assert_eq!(decoder.last, None);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut decoder = Decoder::default();
        let pushed = (0..=MAX_EVENT).find(|_| decoder.push(b'x').is_err());
        assert_eq!(pushed, Some(MAX_EVENT));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut position = Position { last: None, pause: PAUSE, failures: 0, has_begun: true, is_lost: true };
        let pauses: Vec<_> = (0..40).map(|_| position.next_pause(1.0).as_secs()).collect();
        assert_eq!(pauses[..6], [2, 4, 8, 16, 30, 30]);
        assert!(pauses[6..].iter().all(|pause| *pause == 30));
        position.failures = 0;
        assert_eq!(position.next_pause(0.0), Duration::from_secs(1));
    }
}
