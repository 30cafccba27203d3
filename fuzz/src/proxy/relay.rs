//! The way of requests from a client's bytes to an upstream's, without sockets.

use std::sync::LazyLock;

use super::{
    peer::Peer,
    request_head::{Outgoing, trailers_to_drop},
};
use crate::{
    config,
    wire::{
        body::{Body, Passed},
        fields::{LIMITS, Progress},
        request::RequestHead,
        target,
    },
};

static CONFIG: LazyLock<config::Config> = LazyLock::new(|| {
    let text = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:1\"\n[pool.app]\nendpoints = [\"127.0.0.1:2\"]\n\
                [[route]]\nname = \"all\"\npath = \"/\"\npool = \"app\"\n";
    config::parse("fuzzing.toml", text).expect("a constant that is right").0
});

/// The messages that would be forwarded whole, of bytes that come in pieces of one size. It ends at the first that is
/// refused or not whole.
pub fn relay(input: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut at = 0;
    while let Some((message, read)) = one(&input[at..], piece) {
        messages.push(message);
        at += read;
    }
    messages
}

/// The next message, and how many bytes were read for it.
fn one(input: &[u8], piece: usize) -> Option<(Vec<u8>, usize)> {
    let mut head = RequestHead::default();
    let mut seen = 0;
    let end = loop {
        seen = (seen + piece).min(input.len());
        match head.parse(&input[..seen], &LIMITS).ok()? {
            Progress::Complete(end) => break end,
            Progress::Partial if seen == input.len() => return None,
            Progress::Partial => {}
        }
    };
    let target = target::read(input, &head, None).ok()?;
    if head.fields.underscore {
        return None;
    }
    let mut message = Vec::new();
    Outgoing {
        buffer: input,
        head: &head,
        target: &target,
        route: &CONFIG.routes[0],
        peer: &Peer::new(([127, 0, 0, 1], 1).into(), &CONFIG.listeners[0], None),
        upgrade: None,
        request_id: None,
        scheme: "http",
        is_http2: false,
        in_session: false,
    }
    .write(&mut message);
    let mut body = Body::of_request(head.body);
    body.drop_trailers(trailers_to_drop(&CONFIG.routes[0].request_headers, &head.fields, input));
    let mut at = end;
    while !body.is_done() {
        let next = input.get(at..(at + piece).min(input.len())).filter(|next| !next.is_empty())?;
        let mut aside = Vec::new();
        let Passed { read, direct } = body.pass(next, &mut aside).ok()?;
        message.extend_from_slice(&next[..direct]);
        message.extend_from_slice(&aside);
        at += read;
    }
    Some((message, at))
}
