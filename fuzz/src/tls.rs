//! In place of the layer `tls`, the part of it that the fuzzed layers name: building its cryptography takes longer than the
//! fuzzing.
//!
//! Invariant: of what stands for certificates nothing can be made, so nothing that was fuzzed has gone by it.

use std::{convert::Infallible, fmt, path::PathBuf, sync::Arc, time::SystemTime};

#[path = "../../src/tls/settings.rs"]
mod settings;

pub use settings::*;

/// What is known of a client's TLS.
#[derive(Debug)]
pub struct Session {
    pub is_asked: bool,
    pub identity: Option<Arc<Identity>>,
    _none: Infallible,
}

/// Who a client is by its certificate.
#[derive(Debug)]
pub enum Identity {}

impl Identity {
    pub fn fields(&self) -> [(&'static str, &str); 2] {
        match *self {}
    }
}

/// Which file of a certificate.
pub enum Part {
    Certificate,
    Key,
    Ocsp,
}

/// Which file of what is asked of clients.
#[derive(Clone, Copy)]
pub enum ClientPart {
    Authorities,
    Revocations(usize),
}

/// A certificate with its key.
pub enum Pair {}

/// Whose certificates count.
pub enum Clients {}

/// What is wrong with files.
pub struct Fault<P> {
    pub part: P,
    none: Infallible,
}

/// What files are read with.
pub fn provider() {}

impl Pair {
    pub fn read(_: &PairFiles, (): &()) -> Result<Self, Fault<Part>> {
        unreachable!("{NO_FILE}")
    }

    pub fn warnings(&self, _: SystemTime) -> Vec<(Part, String, String)> {
        match *self {}
    }
}

impl Clients {
    pub fn read(_: &ClientSettings, (): &()) -> Result<Self, Vec<Fault<ClientPart>>> {
        unreachable!("{NO_FILE}")
    }

    pub fn warnings(&self, _: SystemTime) -> Vec<(PathBuf, String, String)> {
        match *self {}
    }
}

const NO_FILE: &str = "a text that is parsed has no files read";

impl<P> Fault<P> {
    pub fn part(&self) -> P {
        match self.none {}
    }

    pub fn remedy(&self) -> &'static str {
        match self.none {}
    }
}

impl<P> fmt::Display for Fault<P> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.none {}
    }
}
