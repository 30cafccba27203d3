//! Writes the head that a client gets of an upstream's response.

use std::cell::RefCell;

use super::{clock::DateValue, rate, request_head::is_dropped, routed::Routed};
use crate::{
    config,
    wire::{
        body::{Body, Target},
        emit,
        fields::{Field, Known, KnownSet},
        response::ResponseHead,
    },
};

/// The fields that concern the upstream's connection alone, or that are written anew.
const OF_THE_HOP: KnownSet = KnownSet::of(&[
    Known::Connection,
    Known::ContentLength,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::Te,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// The field by which a browser is told to come by HTTPS alone (RFC 6797).
pub(super) const HSTS: &[u8] = b"Strict-Transport-Security";

/// What becomes of the client's connection after the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// It stays, and an HTTP/1.1 client knows without being told.
    Stays,
    /// It stays, and an HTTP/1.0 client must be told.
    StaysAndSaysSo,
    /// It is closed.
    Closes,
}

impl Afterwards {
    /// What a client is told that speaks HTTP/1.1 or HTTP/1.0.
    pub(super) fn of(stays: bool, is_http11: bool) -> Self {
        match (stays, is_http11) {
            (false, _) => Self::Closes,
            (true, true) => Self::Stays,
            (true, false) => Self::StaysAndSaysSo,
        }
    }

    /// Writes the field line that says so, if one is needed.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Stays => {}
            Self::StaysAndSaysSo => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            Self::Closes => out.extend_from_slice(b"Connection: close\r\n"),
        }
    }
}

/// What the head is written from.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    /// The bytes that the head was parsed from.
    pub(super) buffer: &'a [u8],
    /// The upstream's head.
    pub(super) head: &'a ResponseHead,
    /// What the request has from its route.
    pub(super) routed: &'a Routed,
    /// Which attempt it answers, if those in front are to know.
    pub(super) attempt: Option<u32>,
    /// What the client is told of HTTPS, in place of what the upstream says.
    pub(super) hsts: Option<&'a [u8]>,
}

impl Incoming<'_> {
    /// Writes a final response's head with its empty line.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        body: &Body,
        afterwards: Afterwards,
        date: &RefCell<DateValue>,
    ) {
        let request_id = self.routed.request_id();
        self.write_line(out);
        emit::fields(out, self.buffer, &self.head.fields.lines, |field| {
            self.passes(field)
                && !(request_id.is_some() && field.known == Known::XRequestId)
                && !(self.attempt.is_some() && field.known == Known::SwitchbackAttempt)
        });
        // On an answer to HEAD and on a 304 the length frames nothing, but says what a GET would get.
        match self.head.content_length {
            Some(length) if self.head.status != 204 => emit::content_length(out, length),
            _ if body.target() == Target::Chunked => out.extend_from_slice(emit::CHUNKED),
            _ => {}
        }
        // RFC 9110 6.6.1: a recipient with a clock adds the date that an origin without one left out.
        if !self.head.has_date && !is_dropped(self.edits(), b"date") {
            emit::line(out, b"Date", date.borrow_mut().text());
        }
        // What the route says of the field stands for ours.
        if let Some(id) = request_id.filter(|_| !is_dropped(self.edits(), b"x-request-id")) {
            emit::line(out, b"X-Request-Id", id);
        }
        rate::write_fields(out, self.routed);
        if let Some(hsts) = self.hsts.filter(|_| !is_dropped(self.edits(), HSTS)) {
            emit::line(out, HSTS, hsts);
        }
        if let Some(attempt) = self.attempt {
            write_attempt(out, attempt);
        }
        out.extend_from_slice(&self.edits().lines);
        afterwards.write(out);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes an interim response (1xx) with its empty line.
    pub(super) fn write_interim(&self, out: &mut Vec<u8>) {
        self.write_line(out);
        emit::fields(out, self.buffer, &self.head.fields.lines, |field| self.passes(field));
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the head of a 101, which ends HTTP on this connection.
    pub(super) fn write_upgrade(&self, out: &mut Vec<u8>) {
        self.write_line(out);
        emit::fields(out, self.buffer, &self.head.fields.lines, |field| {
            field.known == Known::Upgrade || self.passes(field)
        });
        out.extend_from_slice(&self.edits().lines);
        out.extend_from_slice(b"Connection: Upgrade\r\n\r\n");
    }

    /// The route's edits.
    fn edits(&self) -> &config::HeaderEdits {
        &self.routed.settings().response_headers
    }

    fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        emit::decimal(out, u64::from(self.head.status));
        out.push(b' ');
        out.extend_from_slice(self.head.reason.of(self.buffer));
        out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn passes(&self, field: &Field) -> bool {
        !OF_THE_HOP.contains(field.known)
            && !self.head.fields.is_nominated(self.buffer, field.name)
            // There is to be one of it (RFC 6797 7.1).
            && (self.hsts.is_none() || !field.name.of(self.buffer).eq_ignore_ascii_case(HSTS))
            && !is_dropped(self.edits(), field.name.of(self.buffer))
    }
}

/// Writes the field that says how many attempts a failure has behind it, so that a Switchback in front makes no more.
#[cold]
pub(super) fn write_attempt(out: &mut Vec<u8>, attempt: u32) {
    out.extend_from_slice(b"X-Switchback-Attempt: ");
    emit::decimal(out, u64::from(attempt));
    out.extend_from_slice(b"\r\n");
}
