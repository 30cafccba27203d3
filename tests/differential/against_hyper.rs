//! Whole requests, against hyper's server.

use std::convert::Infallible;

use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use switchback::wire::{
    chunked::{Chunked, Output},
    fields::{LIMITS, Progress},
    request::{RequestBody, RequestHead},
};
use tokio::{io::AsyncWriteExt, sync::mpsc};

use crate::{
    generate, rounds,
    support::{seeded, shown},
};

/// A request as its reader took it.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    method: Vec<u8>,
    /// Name in lower case and value, in order of the names.
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

/// Our reading of the first request, if it is accepted and whole.
fn ours(bytes: &[u8]) -> Option<Reading> {
    let mut head = RequestHead::default();
    let Ok(Progress::Complete(end)) = head.parse(bytes, &LIMITS) else { return None };
    let rest = &bytes[end..];
    let mut body = Vec::new();
    match head.body {
        RequestBody::None => {}
        RequestBody::Length(length) => {
            body.extend_from_slice(rest.get(..usize::try_from(length).ok()?)?);
        }
        RequestBody::Chunked => {
            let mut chunked = Chunked::default();
            chunked.advance(rest, Output::Data, &mut body).ok()?;
            if !chunked.is_done() {
                return None;
            }
        }
    }
    let fields = head.fields.lines.iter();
    let mut fields: Vec<_> = fields
        .map(|field| (field.name.of(bytes).to_ascii_lowercase(), field.value.of(bytes).to_vec()))
        .collect();
    fields.sort();
    Some(Reading { method: head.method.of(bytes).to_vec(), fields, body })
}

/// Hyper's reading of the first request, if it takes it.
async fn theirs(bytes: &[u8]) -> Option<Reading> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.expect("the pipe has room");
    client.shutdown().await.expect("an open pipe");
    let (readings, mut read) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let readings = readings.clone();
        async move {
            let method = request.method().as_str().as_bytes().to_vec();
            let fields = request.headers().iter();
            let mut fields: Vec<_> = fields
                .map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()))
                .collect();
            fields.sort();
            if let Ok(body) = request.into_body().collect().await {
                readings.send(Reading { method, fields, body: body.to_bytes().to_vec() }).ok();
            }
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    // An error is its refusal of this request or of one behind it.
    http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await.ok();
    read.try_recv().ok()
}

#[test]
fn a_request_that_we_accept_is_the_same_request_to_hyper() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut rng = seeded("a_request_that_we_accept_is_the_same_request_to_hyper");
    let (mut same, mut refused) = (0, 0);
    for _ in 0..rounds(20_000) {
        let bytes = generate::request(&mut rng);
        let Some(ours) = ours(&bytes) else { continue };
        match runtime.block_on(theirs(&bytes)) {
            Some(theirs) => {
                same += 1;
                assert_eq!(ours, theirs, "{}", shown(&bytes));
            }
            // Hyper also parses the target (the `http` crate's `Uri`) and refuses forms that we refuse a step later,
            // when the target is normalised; and `Content-Length` of 2^64 - 1. A refusal smuggles nothing.
            None => refused += 1,
        }
    }
    assert!(same > rounds(20_000) / 20, "only {same} were accepted by both: the generator proves little");
    assert!(refused < same, "hyper refused {refused} that we took, and took {same}");
}
