//! Questions and answers, as far as endpoints need them. Pure values.

use std::{future::Future, net::IpAddr, time::Duration};

/// Asks DNS, or what stands in its place.
pub trait Ask: Send + Sync + 'static {
    /// The full names that a name without a last dot may mean, in the order in which they are tried: the search list's.
    fn candidates(&self, name: &str) -> Vec<Box<str>>;

    /// Asks one question. It answers within a bounded time, whatever happens.
    fn ask(&self, question: &Question) -> impl Future<Output = Answer> + Send;
}

/// What is asked: the records of one type of a full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The full name, without a last dot.
    pub name: Box<str>,
    /// The type.
    pub kind: Kind,
}

/// Types of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Where a service is (RFC 2782).
    Srv,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There are records, of the type that was asked for.
    Records {
        /// The records, at least one.
        records: Vec<Record>,
        /// How long they may be used.
        ttl: Duration,
    },
    /// The name does not exist, or has no record of this type.
    Nothing,
    /// Nothing is known: why.
    Failed(Box<str>),
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// Of A and AAAA.
    Address(IpAddr),
    /// Of SRV.
    Service(Service),
}

/// A target of an SRV record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The lowest there is counts.
    pub priority: u16,
    /// The share among those of the same priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The full name of a host, without a last dot; empty says that the service is not to be had.
    pub target: Box<str>,
}

impl Question {
    /// A question.
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.into(), kind }
    }
}
