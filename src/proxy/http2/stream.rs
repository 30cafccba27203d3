//! A stream of a connection, as bytes of HTTP/1.1 both ways.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Method, Request as HttpRequest};
use tokio::io::ReadBuf;

use super::{client::Client, request::Request, response::Response};
use crate::tls::Certificates;

/// A stream of a connection: one request and its response.
///
/// Dropped before its response has ended, it is reset, so that the client sees that it has not.
#[derive(Debug)]
pub(in crate::proxy) struct Stream {
    client: Rc<Client>,
    request: Request,
    response: RefCell<Response>,
}

impl Stream {
    /// The stream of a request; `None` if that is malformed, and was reset for it.
    pub(super) fn new(
        client: &Rc<Client>,
        request: HttpRequest<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> Option<Self> {
        let (parts, body) = request.into_parts();
        let Some(request) = Request::new(&parts, body, &client.worker.buffers) else {
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return None;
        };
        let response = RefCell::new(Response::new(respond, parts.method == Method::HEAD));
        Some(Self { client: Rc::clone(client), request, response })
    }

    /// The scheme that the client used to come here.
    pub(in crate::proxy) fn scheme(&self) -> &'static str {
        self.client.scheme
    }

    /// What the client asked for in its handshake, if it named a host.
    pub(in crate::proxy) fn asked(&self) -> Option<(&str, &Arc<Certificates>)> {
        self.client.asked.as_ref().map(|(name, certificates)| (&**name, certificates))
    }

    /// Reads of the request. Nothing is its end.
    pub(in crate::proxy) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.request.poll_read(cx, buffer)
    }

    /// Takes bytes of the response; answers how many.
    pub(in crate::proxy) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.response.get_mut().poll_write(cx, bytes, &self.client)
    }

    /// Waits until the client resets it, or is gone.
    pub(in crate::proxy) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.response.get_mut().poll_reset(cx).map(|()| io::ErrorKind::ConnectionReset.into())
    }

    /// Whether the client has reset it, or is gone. Who waits for that to happen is not woken any more.
    pub(in crate::proxy) fn is_reset(&self) -> bool {
        self.response.borrow_mut().poll_reset(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.request.give_back(&self.client.worker.buffers);
        if let Some(response) = self.response.get_mut().take_unfinished() {
            self.client.break_off(response);
        }
    }
}
