//! A probe by `grpc.health.v1.Health/Check` (the gRPC Health Checking Protocol) over cleartext HTTP/2 with prior
//! knowledge. Its two messages have a field each, so they are written and read here without a library.

use std::{future::poll_fn, net::SocketAddr, pin::pin};

use super::ProbeFailure;
use crate::upstream::socket::Socket;
use h2::{RecvStream, client};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, header, uri::Scheme};
use hyper::body::Bytes;

const PATH: &str = "/grpc.health.v1.Health/Check";
/// The longest answer; a good one has 7 bytes.
const MAX_ANSWER: usize = 1024;
/// The longest list of header fields.
const MAX_HEADERS: u32 = 16 * 1024;
/// What a message begins with: whether it is compressed, and its length (gRPC over HTTP2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// The request of every probe.
#[derive(Debug)]
pub(super) struct Question {
    uri: Uri,
    message: Bytes,
}

impl Question {
    pub(super) fn new(service: &str, address: SocketAddr) -> Self {
        let authority = address.to_string();
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(PATH).build();
        Self { uri: uri.expect("an address is an authority"), message: framed(service) }
    }

    /// Asks on a fresh connection, which is closed afterwards.
    pub(super) async fn ask(&self, stream: Socket) -> Result<String, ProbeFailure> {
        let mut builder = client::Builder::new();
        builder.enable_push(false).max_header_list_size(MAX_HEADERS).initial_window_size(65_535);
        let (sender, connection) = builder.handshake(stream).await.map_err(ProbeFailure::malformed)?;
        let mut connection = pin!(connection);
        let mut exchange = pin!(self.exchange(sender));
        let mut is_over = false;
        poll_fn(|context| {
            is_over = is_over || connection.as_mut().poll(context).is_ready();
            exchange.as_mut().poll(context)
        })
        .await
    }

    async fn exchange(&self, sender: client::SendRequest<Bytes>) -> Result<String, ProbeFailure> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        let fields = [
            (header::CONTENT_TYPE, "application/grpc"),
            (header::TE, "trailers"),
            (header::USER_AGENT, "switchback/health"),
        ];
        for (name, value) in fields {
            request.headers_mut().insert(name, header::HeaderValue::from_static(value));
        }
        let mut sender = sender.ready().await.map_err(ProbeFailure::malformed)?;
        let (response, mut body) = sender.send_request(request, false).map_err(ProbeFailure::malformed)?;
        body.send_data(self.message.clone(), true).map_err(ProbeFailure::malformed)?;
        judge(response.await.map_err(ProbeFailure::malformed)?).await
    }
}

async fn judge(response: Response<RecvStream>) -> Result<String, ProbeFailure> {
    if response.status() != StatusCode::OK {
        return Err(ProbeFailure::Status(response.status().as_u16()));
    }
    let kind = response.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return Err(ProbeFailure::Malformed("it is not gRPC's".to_owned()));
    }
    // An answer without a message has its status among the header fields.
    refuse_status(response.headers())?;
    let mut body = response.into_body();
    let mut answer = Vec::new();
    while let Some(bytes) = body.data().await {
        let bytes = bytes.map_err(ProbeFailure::malformed)?;
        if answer.len() + bytes.len() > MAX_ANSWER {
            return Err(ProbeFailure::Malformed(format!("it has over {MAX_ANSWER} bytes")));
        }
        answer.extend_from_slice(&bytes);
    }
    let trailers = body.trailers().await.map_err(ProbeFailure::malformed)?.unwrap_or_default();
    refuse_status(&trailers)?;
    if !trailers.contains_key(STATUS) {
        return Err(ProbeFailure::Malformed("it has no grpc-status".to_owned()));
    }
    match serving_status(&answer) {
        Some(SERVING) => Ok("it says SERVING".to_owned()),
        Some(0) => Err(ProbeFailure::NotServing("UNKNOWN")),
        Some(2) => Err(ProbeFailure::NotServing("NOT_SERVING")),
        Some(3) => Err(ProbeFailure::NotServing("SERVICE_UNKNOWN")),
        Some(_) => Err(ProbeFailure::NotServing("a status that is not defined")),
        None => Err(ProbeFailure::Malformed("it is no HealthCheckResponse".to_owned())),
    }
}

const STATUS: &str = "grpc-status";
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Fails if the fields hold a gRPC status other than 0.
fn refuse_status(fields: &HeaderMap) -> Result<(), ProbeFailure> {
    let Some(status) = fields.get(STATUS) else { return Ok(()) };
    match status.to_str().ok().and_then(|status| status.parse::<u8>().ok()) {
        Some(0) => Ok(()),
        // The two that a server without the service, or without the protocol, answers.
        Some(5) => Err(ProbeFailure::NotServing("NOT_FOUND (grpc-status 5): it does not know the service")),
        Some(12) => Err(ProbeFailure::NotServing("UNIMPLEMENTED (grpc-status 12): it has no health service")),
        Some(_) => Err(ProbeFailure::NotServing("another grpc-status than 0")),
        None => Err(ProbeFailure::Malformed("its grpc-status is no number".to_owned())),
    }
}

/// A `HealthCheckRequest` with its prefix: field 1 is the service, left out if it is empty.
fn framed(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | LENGTH_DELIMITED as u8);
        push_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).expect("a service's name is short");
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

// Wire types of the Protocol Buffers encoding.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// The status in a `HealthCheckResponse` with its prefix: field 1, 0 if it is left out. `None` if this is not one whole
/// uncompressed message.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (prefix, mut message) = framed.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        let skipped = match key & 7 {
            VARINT => {
                let value = take_varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
                0
            }
            FIXED_64 => 8,
            LENGTH_DELIMITED => usize::try_from(take_varint(&mut message)?).ok()?,
            FIXED_32 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

fn push_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> Vec<u8> {
        let mut framed = vec![0, 0, 0, 0, bytes.len() as u8];
        framed.extend_from_slice(bytes);
        framed
    }

    #[test]
    fn the_request_names_its_service() {
        assert_eq!(&framed("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&framed("shop")[..], b"\0\0\0\0\x06\x0a\x04shop");
        let long = "s".repeat(300);
        assert_eq!(framed(&long)[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn the_status_is_found_among_fields_that_are_not_known() {
        for (bytes, status) in [
            (&[][..], Some(0)),
            (&[8, 1], Some(1)),
            (&[8, 2, 8, 1], Some(1)),
            (&[0x12, 2, 8, 2, 8, 1, 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x25, 0, 0, 0, 0], Some(1)),
            (&[8, 0x81, 0x00], Some(1)),
            (&[8], None),
            (&[8, 0x80], None),
            (&[0x12, 200, 1, 8, 1], None),
            (&[0x0b, 8, 1], None),
            (&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], None),
        ] {
            assert_eq!(serving_status(&message(bytes)), status, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_one_whole_plain_message_is_none() {
        for framed in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x01\x08\x01",
        ] {
            assert_eq!(serving_status(framed), None, "{framed:?}");
        }
    }
}
