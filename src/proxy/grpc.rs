//! Calls of gRPC: which requests are some, how long they may take, and how their clients are told of failures.
//!
//! Invariant: who calls by gRPC is answered in its form, by HTTP 200 with a status in trailers, of which there is nothing else
//! (gRPC over HTTP2, "Trailers-Only").

use std::time::Duration;

use crate::{
    model::grpc::{self, GrpcStatus},
    routing::{head_view::HeadView, request_view::RequestView as _},
    wire::emit,
};

/// Whether a request of HTTP/2 is a call. What browsers send (gRPC-Web) is not.
pub(super) fn is_call(view: &HeadView<'_>) -> bool {
    let kind = view.header("content-type", 0).unwrap_or_default();
    let rest = kind.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| rest.first().is_none_or(|next| matches!(next, b'+' | b';' | b' ')))
}

/// How long a call may take: what its client says, and no longer than its route does.
pub(super) fn time(view: &HeadView<'_>, route: Option<Duration>) -> Option<Duration> {
    let said = view.header("grpc-timeout", 0).and_then(grpc::timeout);
    [said, route].into_iter().flatten().min()
}

/// Writes the fields of an answer that has nothing but a status.
pub(super) fn write(out: &mut Vec<u8>, status: GrpcStatus, detail: &str) {
    emit::line(out, b"Content-Type", b"application/grpc");
    emit::line(out, b"grpc-status", status.number().to_string().as_bytes());
    out.extend_from_slice(b"grpc-message: ");
    for byte in detail.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out.extend_from_slice(b"\r\n");
}
