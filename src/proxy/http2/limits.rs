//! What a client may do on a connection, each with its reason. `docs/http2.md` lists them for operators.

use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Handshake};

use super::link::Io;
use crate::config::Listener;

/// What is received of one request's body before it is passed on: 20 Mbit/s over 100 ms.
const STREAM_WINDOW: u32 = 256 << 10;
/// What is received of all bodies of a connection before they are passed on: the bound on what they hold in memory.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The smallest that a client may count on (RFC 9113 4.2): larger frames gain nothing and delay other streams.
const FRAME: u32 = 16 << 10;
/// The fields of a request, counted as RFC 9113 6.5.2 does: as large as a head of HTTP/1.1 may be. One that is larger is
/// answered with 431, and one that is much larger ends the connection, before it is held.
const HEADER_LIST: u32 = 64 << 10;
/// The table by which field lines are shortened (HPACK), in each direction: the protocol's default.
const HEADER_TABLE: u32 = 4096;
/// What is held of one response for a client that has opened its window and does not read the connection.
const SEND_BUFFER: usize = 32 << 10;
/// Streams that the client has reset before they were looked at.
const RESET_UNSEEN: usize = 100;
/// Streams that were ended for an error in them. A sound client makes none.
const MALFORMED: usize = 128;
/// Streams that we have reset and that are remembered, since frames for them may be on the way.
const RESET_HERE: usize = 100;
/// How long those are remembered: a long way there and back.
const REMEMBERED: Duration = Duration::from_secs(2);

/// Frames that carry neither a request nor a body (SETTINGS, PING, WINDOW_UPDATE, PRIORITY, empty DATA, unknown ones): so
/// many at once. Clients send some for each request and for each piece of a response.
pub(super) const CONTROL: u32 = 2_000;
/// So many a second, whatever happens.
pub(super) const CONTROL_A_SECOND: u32 = 100;
/// So many for each block of fields.
pub(super) const CONTROL_FOR_HEAD: u32 = 4;
/// One for so many bytes that were sent: the clients that open windows most often do so for each frame, twice.
pub(super) const BYTES_FOR_CONTROL: u32 = 512;

/// Resets at once: a browser that leaves a page resets all that it has open, and another page's after it.
pub(super) const RESETS: u32 = 200;
/// So many a second, whatever happens.
pub(super) const RESETS_A_SECOND: u32 = 10;

/// How long a client that was told to open no more streams, and opens more all the while, is served.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_secs(10);
/// For how long such a client has no request in flight before it is told which was the last: what it had taken on, and not yet
/// sent, when it was told to go has come by then.
pub(super) const QUIET_BEFORE_END: Duration = Duration::from_millis(100);
/// How long a client may take to take the word that ends its connection for its fault.
pub(super) const LAST_WORD: Duration = Duration::from_secs(2);

/// Begins a connection with these limits.
pub(super) fn handshake(io: Io, listener: &Listener) -> Handshake<Io, Bytes> {
    let streams = u32::try_from(listener.http2_max_streams).unwrap_or(u32::MAX);
    Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADER_LIST)
        .header_table_size(HEADER_TABLE)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(streams)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(Some(MALFORMED))
        .max_concurrent_reset_streams(RESET_HERE)
        .reset_stream_duration(REMEMBERED)
        .enable_connect_protocol()
        .handshake(io)
}
