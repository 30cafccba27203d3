//! One probe of one endpoint: a question, and whether the answer is good. Probes have connections of their own.
//!
//! Invariant: whatever the endpoint does, a probe ends within its timeout and holds at most some 200 KiB.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::config;

mod grpc;
mod http;

/// A probe, ready to be made again and again.
#[derive(Debug)]
pub struct Prober {
    address: SocketAddr,
    timeout: Duration,
    question: Question,
}

#[derive(Debug)]
enum Question {
    Tcp,
    Http(http::Question, Option<http::Kept>),
    Grpc(grpc::Question),
}

/// Why a probe failed: always the endpoint's doing, or that of the way to it.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// There was no connection.
    #[error("it can't be connected to: {0}")]
    Unreachable(#[from] io::Error),
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
    TimedOut,
    Status,
    Body,
    NotServing,
    Malformed,
}

/// The longest text of a result.
const MAX_TEXT: usize = 200;

impl Prober {
    /// Prepares the probes of an endpoint.
    pub fn new(check: &config::HealthCheck, endpoint: SocketAddr) -> Self {
        let address = SocketAddr::new(endpoint.ip(), check.port.unwrap_or(endpoint.port()));
        let question = match &check.probe {
            config::Probe::Tcp => Question::Tcp,
            config::Probe::Http(settings) => Question::Http(http::Question::new(settings, address), None),
            config::Probe::Grpc { service } => Question::Grpc(grpc::Question::new(service, address)),
        };
        Self { address, timeout: check.timeout, question }
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
                TcpStream::connect(self.address).await?;
                Ok("it takes connections".to_owned())
            }
            Question::Http(question, kept) => question.ask(self.address, kept).await,
            Question::Grpc(question) => question.ask(TcpStream::connect(self.address).await?).await,
        }
    }
}

impl ProbeFailure {
    fn result(&self) -> ProbeResult {
        match self {
            Self::Unreachable(_) => ProbeResult::Unreachable,
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

impl ProbeResult {
    /// All of them, each in its place as a number.
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Unreachable,
        Self::TimedOut,
        Self::Status,
        Self::Body,
        Self::NotServing,
        Self::Malformed,
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
            Self::TimedOut => "timed_out",
            Self::Status => "status",
            Self::Body => "body",
            Self::NotServing => "not_serving",
            Self::Malformed => "malformed",
        }
    }
}
