//! One probe of one endpoint: a question, and whether the answer is good. Probes have connections of their own.
//!
//! Invariant: whatever the endpoint does, a probe ends within its timeout and holds at most some 200 KiB.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustix::io::Errno;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    config,
    upstream::{
        socket::Socket,
        way::{NoConnection, Way},
    },
};

mod grpc;
mod http;

/// A probe, ready to be made again and again.
#[derive(Debug)]
pub struct Prober {
    address: SocketAddr,
    way: Way,
    timeout: Duration,
    question: Question,
}

#[derive(Debug)]
enum Question {
    Tcp,
    Http(http::Question, Option<http::Kept>, Arc<Semaphore>),
    Grpc(grpc::Question),
}

/// Why a probe failed: the endpoint's doing, or that of the way to it, unless it is [`ProbeResult::NotMade`].
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// There was no connection.
    #[error("it can't be connected to: {0}")]
    Unreachable(#[from] io::Error),
    /// TLS could not be spoken.
    #[error("{0}")]
    Tls(String),
    /// The time was over before there was a whole answer.
    #[error("there was no answer within {0:?}")]
    TimedOut(Duration),
    /// The answer has a status that is not expected.
    #[error("it answered {0}")]
    Status(u16),
    /// The body does not hold the expected text.
    #[error("the body of its answer does not hold the expected text")]
    Body,
    /// It speaks the protocol, and says that it is not well.
    #[error("it says {0}")]
    NotServing(&'static str),
    /// The answer is none, or none that can be understood.
    #[error("its answer can't be understood: {0}")]
    Malformed(String),
}

/// What a probe has come to.
#[derive(Debug)]
pub struct Finding {
    /// Which kind of result it is.
    pub result: ProbeResult,
    /// What a person reads of it.
    pub text: String,
}

/// The kinds of results, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the kinds are those of ProbeFailure")]
pub enum ProbeResult {
    Success,
    Unreachable,
    Tls,
    TimedOut,
    Status,
    Body,
    NotServing,
    Malformed,
    /// There was none, for want of something of this machine's: it says nothing about the endpoint.
    NotMade,
}

/// The longest text of a result.
const MAX_TEXT: usize = 200;

impl Prober {
    /// Prepares the probes of an endpoint. A connection is kept for the next probe while there is room among all that
    /// are `kept`.
    pub fn new(check: &config::HealthCheck, endpoint: SocketAddr, way: &Way, kept: Arc<Semaphore>) -> Self {
        let address = SocketAddr::new(endpoint.ip(), check.port.unwrap_or(endpoint.port()));
        let question = match &check.probe {
            config::Probe::Tcp => Question::Tcp,
            config::Probe::Http(settings) => {
                Question::Http(http::Question::new(settings, address), None, kept)
            }
            config::Probe::Grpc { service } => Question::Grpc(grpc::Question::new(service, address)),
        };
        Self { address, way: way.clone(), timeout: check.timeout, question }
    }

    /// Makes the probe.
    pub async fn probe(&mut self) -> Finding {
        let time = self.timeout;
        let answer = timeout(time, self.ask()).await;
        match answer.unwrap_or(Err(ProbeFailure::TimedOut(time))) {
            Ok(text) => Finding { result: ProbeResult::Success, text },
            Err(failure) => {
                let text = failure.to_string().chars().take(MAX_TEXT).collect();
                Finding { result: failure.result(), text }
            }
        }
    }

    async fn ask(&mut self) -> Result<String, ProbeFailure> {
        match &mut self.question {
            Question::Tcp => {
                connected(&self.way, self.address, true).await?;
                Ok("it takes connections".to_owned())
            }
            Question::Http(question, kept, room) => question.ask((&self.way, self.address), kept, room).await,
            Question::Grpc(question) => {
                let stream = connected(&self.way, self.address, false).await?;
                question.ask(stream).await
            }
        }
    }
}

/// A connection as requests have it. `alone` is for HTTP/1.1 and nothing else.
async fn connected(way: &Way, address: SocketAddr, alone: bool) -> Result<Socket, ProbeFailure> {
    match way.connect(address, alone).await {
        Ok(made) => Ok(made.socket),
        Err(NoConnection::Unreachable(error)) => Err(error.into()),
        Err(NoConnection::NotHttp2) => Err(ProbeFailure::Malformed(NoConnection::NotHttp2.to_string())),
        Err(NoConnection::Unfit(unfit)) => Err(ProbeFailure::Tls(unfit.to_string())),
    }
}

impl ProbeFailure {
    fn result(&self) -> ProbeResult {
        match self {
            Self::Unreachable(error) if is_ours(error) => ProbeResult::NotMade,
            Self::Unreachable(_) => ProbeResult::Unreachable,
            Self::Tls(_) => ProbeResult::Tls,
            Self::TimedOut(_) => ProbeResult::TimedOut,
            Self::Status(_) => ProbeResult::Status,
            Self::Body => ProbeResult::Body,
            Self::NotServing(_) => ProbeResult::NotServing,
            Self::Malformed(_) => ProbeResult::Malformed,
        }
    }

    fn malformed(error: impl std::fmt::Display) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Whether a connection was not even tried, because this process or machine is out of descriptors or memory.
fn is_ours(error: &io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| ours.contains(&error))
}

impl ProbeResult {
    /// All of them, each in its place as a number.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::Unreachable,
        Self::Tls,
        Self::TimedOut,
        Self::Status,
        Self::Body,
        Self::NotServing,
        Self::Malformed,
        Self::NotMade,
    ];

    /// Whether the endpoint passed.
    pub fn is_success(self) -> bool {
        self == Self::Success
    }

    /// Its name in metrics and the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::TimedOut => "timed_out",
            Self::Status => "status",
            Self::Body => "body",
            Self::NotServing => "not_serving",
            Self::Malformed => "malformed",
            Self::NotMade => "not_made",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_says_nothing_about_an_endpoint() {
        for (error, result) in [
            (Errno::MFILE, ProbeResult::NotMade),
            (Errno::NFILE, ProbeResult::NotMade),
            (Errno::CONNREFUSED, ProbeResult::Unreachable),
            (Errno::HOSTUNREACH, ProbeResult::Unreachable),
        ] {
            assert_eq!(ProbeFailure::Unreachable(error.into()).result(), result, "{error}");
        }
        let places: Vec<_> = ProbeResult::ALL.iter().map(|result| *result as usize).collect();
        assert_eq!(places, (0..ProbeResult::ALL.len()).collect::<Vec<_>>());
    }
}
