//! `GET /v1/events`: revisions and what else happens, as they come (server-sent events, HTML 9.2).
//!
//! Invariant: no revision is missed and none comes twice, however slow a reader is: each is read from the durable
//! history after the one that was sent last, and a stream holds a page of them at most. A reader that takes nothing is
//! closed by the server's write timeout; one that falls behind with what is not durable is closed here. The number of
//! streams is bounded, and none keeps its connection's place.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch},
    time::{Interval, MissedTickBehavior},
};

use super::{problem::Problem, query, revisions::Revision, router::Admin, server::Ending};
use crate::control::{events::Event, handle::Control, snapshot::Snapshot, store::MAX_REVISIONS};

/// Streams at once: dashboards, pipelines that follow a release, and room for the forgotten ones.
pub const MAX_STREAMS: usize = 100;
/// How often a silent stream says that it is there, so that whatever is between does not take it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// When a client whose stream has ended is to come back.
const RETRY_AFTER_MS: u32 = 2_000;
/// The most revisions that are read at once.
const BATCH: u64 = 50;

/// The places of streams. Every clone is the same.
#[derive(Debug, Clone)]
pub struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

impl Streams {
    /// How many are open.
    pub(super) fn open(&self) -> usize {
        MAX_STREAMS - self.0.available_permits()
    }
}

/// Opens a stream: of what comes, or of all after a revision.
pub(super) async fn events(
    State(admin): State<Admin>,
    Extension(ending): Extension<Ending>,
    fields: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let [after] = query::numbers(&uri, ["after"])?;
    let after = last_event(&fields)?.or(after);
    let permit = Arc::clone(&admin.streams.0).try_acquire_owned().map_err(|_| too_many())?;
    // Heard from here on, read afterwards: what comes in between is not missed.
    let mut changes = admin.control.changes();
    let newest = changes.borrow_and_update().state.revision();
    let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stream = Stream {
        heard: admin.control.events().listen(),
        control: admin.control,
        changes,
        ending,
        beat,
        last: after.unwrap_or(newest),
        ready: VecDeque::new(),
        _permit: permit,
    };
    // An event without data is none, but its id counts: who comes back begins here.
    let first = after.map_or_else(|| format!("id: {newest}\n"), |_| String::new());
    stream.ready.push_back(format!("retry: {RETRY_AFTER_MS}\n{first}\n"));
    let parts = futures_util::stream::unfold(stream, |mut stream| async move {
        let part = stream.next().await?;
        Some((Ok::<_, Infallible>(part), stream))
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(parts)).into_response())
}

/// The revision that a client has seen last, by its own word.
fn last_event(fields: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = fields.get("last-event-id").filter(|id| !id.is_empty()) else { return Ok(None) };
    let number = id.to_str().ok().filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|number| number.parse().ok()).map(Some).ok_or_else(|| {
        let detail = "Last-Event-ID is the number of a revision";
        Problem::new(StatusCode::BAD_REQUEST, "invalid-field", "A field can't be read", detail)
    })
}

fn too_many() -> Problem {
    let detail = format!("{MAX_STREAMS} event streams are open already: try again later");
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "too-many-streams", "Too many event streams", detail)
        .with_header(header::RETRY_AFTER, "5")
}

struct Stream {
    control: Control,
    changes: watch::Receiver<Arc<Snapshot>>,
    heard: broadcast::Receiver<Arc<Event>>,
    ending: Ending,
    beat: Interval,
    /// The revision that was sent last, or was seen before.
    last: u64,
    /// What has been read and not been sent.
    ready: VecDeque<String>,
    _permit: OwnedSemaphorePermit,
}

impl Stream {
    /// The next part of the stream; `None` is its end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Some(part);
            }
            let newest = self.changes.borrow_and_update().state.revision();
            if self.last != newest {
                self.read(newest).await?;
                continue;
            }
            tokio::select! {
                () = self.ending.ended() => return None,
                changed = self.changes.changed() => changed.ok()?,
                event = self.heard.recv() => return Some(passing(&*event.ok()?)),
                _ = self.beat.tick() => return Some(":\n\n".to_owned()),
            }
        }
    }

    /// Reads the revisions after the last one, as far as they fit a batch. `None` if they can't be read: the client
    /// comes back, and begins where this has ended.
    async fn read(&mut self, newest: u64) -> Option<()> {
        let oldest = (newest + 1).saturating_sub(MAX_REVISIONS);
        if self.last > newest || self.last + 1 < oldest {
            // Another history, or what is no longer kept: it is said, for a client must not believe that it knows all.
            let (after, from) = (self.last, if self.last > newest { newest } else { oldest - 1 });
            self.ready.push_back(format!(
                "id: {from}\nevent: gap\ndata: {{\"after\":{after},\"from\":{from}}}\n\n"
            ));
            self.last = from;
            return Some(());
        }
        let end = newest.min(self.last + BATCH);
        let limit = usize::try_from(BATCH).expect("it is small");
        let page = self.control.store().page(Some(end + 1), limit).await;
        let page = page
            .inspect_err(|error| tracing::warn!(%error, "an event stream ends: the history can't be read"));
        let changes = page.ok()?.into_iter().rev().filter(|change| change.revision > self.last);
        self.ready.extend(changes.map(|change| {
            let id = change.revision;
            let data = serde_json::to_string(&Revision::of(change))
                .expect("names, numbers and times always have a text");
            format!("id: {id}\nevent: revision\ndata: {data}\n\n")
        }));
        self.last = end;
        Some(())
    }
}

/// An event that is not kept, and so has no id.
fn passing(event: &Event) -> String {
    let data = serde_json::to_string(event).expect("names and texts always have a text");
    format!("event: {}\ndata: {data}\n\n", event.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_is_a_number_or_nothing() {
        let read = |id: &str| {
            let mut fields = HeaderMap::new();
            fields.insert("last-event-id", id.parse().unwrap());
            last_event(&fields)
        };
        assert_eq!((read("12").unwrap(), read("").unwrap()), (Some(12), None));
        assert_eq!(last_event(&HeaderMap::new()).unwrap(), None);
        for bad in ["-1", "+1", "1.0", "x", "99999999999999999999999"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
