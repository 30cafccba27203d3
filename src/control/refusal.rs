//! Why a command is refused. A refusal holds everything that is wrong with it, and changes nothing.

use std::fmt::Display;

use crate::model::{endpoint_address::InvalidEndpointAddress, name::Name, weights::Weights};

/// Why a command is refused. It is always the caller's mistake, and repeating the command would not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The split is not declared.
    #[error("there is no split {0}")]
    Split(Unknown),
    /// The pool to switch to is not one of the split's.
    #[error("the split has no pool {0}")]
    Pool(Unknown),
    /// The pool is not declared.
    #[error("there is no pool {0}")]
    NoPool(Unknown),
    /// The pool has no such endpoint.
    #[error("pool {pool} has no endpoint {unknown}")]
    NoEndpoint {
        /// The pool.
        pool: Name,
        /// The address that was asked for.
        unknown: Unknown,
    },
    /// An endpoint can't be added.
    #[error("{address:?} can't be added: {fault}")]
    Address {
        /// The address, as written.
        address: String,
        /// Why not.
        fault: AddressFault,
    },
    /// The weight of an endpoint is over [`Weights::MAX`].
    #[error("the weight of an endpoint is at most {max}", max = Weights::MAX)]
    EndpointWeight,
    /// The set of weights is wrong in one or more ways.
    #[error("the weights are refused: {}", join(.0))]
    Weights(Vec<WeightFault>),
    /// The file is right, but can't come into force.
    #[error("the file can't come into force: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    File(Vec<FileFault>),
    /// The revision to go back to is not there.
    #[error("there is no revision {asked} to go back to: revisions {oldest} to {newest} are")]
    Revision {
        /// What was asked for.
        asked: u64,
        /// The oldest revision whose weights are known for the split.
        oldest: u64,
        /// The newest revision.
        newest: u64,
    },
}

/// One thing in a file that is right and can't come into force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[error("{message} ({pointer}): {help}")]
pub struct FileFault {
    /// Where it stands in the file, as a JSON pointer.
    pub pointer: String,
    /// What can't be.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

/// One thing that is wrong with a set of weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightFault {
    /// A pool that is not one of the split's.
    #[error("the split has no pool {0}")]
    Pool(Unknown),
    /// A pool that is named twice.
    #[error("pool {0} is named twice")]
    Repeated(Name),
    /// A weight over [`Weights::MAX`].
    #[error("the weight of pool {0} is {1}: at most {max} is allowed", max = Weights::MAX)]
    TooLarge(Name, u64),
    /// Nobody would get the traffic.
    #[error("all weights are 0: give at least one pool a weight above 0")]
    AllZero,
}

/// Why an endpoint can't be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// It is no address of an endpoint.
    #[error(transparent)]
    Invalid(InvalidEndpointAddress),
    /// It belongs to one link alone, where a machine's own services are.
    #[error("a link-local address is an endpoint only if the file declares it")]
    LinkLocal,
    /// Requests would come back to us.
    #[error("this is an address of Switchback itself: requests would go in circles")]
    OurOwn,
    /// The pool is full.
    #[error("a pool has at most {max} endpoints", max = crate::config::defaults::MAX_ENDPOINTS)]
    TooMany,
    /// No further name is resolved.
    #[error("all pools together have at most {max} names", max = crate::config::defaults::MAX_DNS_NAMES)]
    TooManyNames,
}

/// A name that is not known where it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The name, as written.
    pub name: String,
    /// The names that are known, at most [`Unknown::MAX_KNOWN`] of them.
    pub known: Vec<String>,
    /// The known name that was probably meant.
    pub nearest: Option<String>,
}

impl Unknown {
    /// The most names that an answer lists.
    pub const MAX_KNOWN: usize = 64;
    /// The most of an unknown name that is repeated back.
    pub(super) const MAX_ECHO: usize = 80;

    /// Says that `name` is none of `known`.
    pub fn new<T: Display>(name: &str, known: impl Iterator<Item = T> + Clone) -> Self {
        Self {
            name: name.chars().take(Self::MAX_ECHO).collect(),
            nearest: nearest(name, known.clone().map(|known| known.to_string())),
            known: known.take(Self::MAX_KNOWN).map(|known| known.to_string()).collect(),
        }
    }
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.name)?;
        if let Some(nearest) = &self.nearest {
            write!(f, ": did you mean {nearest:?}?")?;
        }
        Ok(())
    }
}

/// The known name that differs from `name` by the fewest edits, if those are few enough to be a slip.
fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    // Names are short, so a longer text is no slip of one, and comparing it would only cost time.
    if name.len() > 2 * Name::MAX_LEN {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    known
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase()), known))
        .filter(|(edits, known)| *edits <= (known.len() / 3).max(1))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| known)
}

fn join(faults: &[WeightFault]) -> String {
    faults.iter().map(WeightFault::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        let known = ["blue", "green"].map(|name| Name::new(name).unwrap());
        for (written, meant) in
            [("gren", Some("green")), ("Blue", Some("blue")), ("purple", None), ("", None)]
        {
            let unknown = Unknown::new(written, known.iter());
            assert_eq!(unknown.nearest.as_deref(), meant, "{written:?}");
        }
        assert_eq!(Unknown::new("gren", known.iter()).to_string(), r#""gren": did you mean "green"?"#);
        assert_eq!(Unknown::new(&"x".repeat(100_000), known.iter()).name.len(), Unknown::MAX_ECHO);
    }
}
