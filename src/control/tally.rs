//! How many commands came, by kind and by what became of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::change::Kind;

/// The kinds that are counted: what a caller can ask for, and what the control plane does by itself.
const KINDS: [Kind; 10] = [
    Kind::Weights,
    Kind::Switch,
    Kind::Rollback,
    Kind::Drain,
    Kind::Undrain,
    Kind::PutEndpoint,
    Kind::DeleteEndpoint,
    Kind::ForgetEndpoint,
    Kind::Restore,
    Kind::Load,
];

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Applied,
    /// What it asks for was in force already.
    Unchanged,
    /// It was wrong.
    Refused,
    /// It was turned away unheard: too many were waiting, or the process is ending.
    Busy,
    /// A fault of Switchback; the old state keeps serving.
    Failed,
}

const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Applied, "applied"),
    (Outcome::Unchanged, "unchanged"),
    (Outcome::Refused, "refused"),
    (Outcome::Busy, "busy"),
    (Outcome::Failed, "failed"),
];

/// Counts of commands.
#[derive(Debug, Default)]
pub struct Tally([[AtomicU64; OUTCOMES.len()]; KINDS.len()]);

impl Tally {
    /// Counts one command.
    pub fn count(&self, kind: Kind, outcome: Outcome) {
        let row = KINDS.iter().position(|known| *known == kind);
        let column = OUTCOMES.iter().position(|(known, _)| *known == outcome);
        if let (Some(row), Some(column)) = (row, column) {
            self.0[row][column].fetch_add(1, Relaxed);
        }
    }

    /// All counts with the names of kind and outcome, zeros included.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.0.iter().zip(KINDS).flat_map(|(row, kind)| {
            row.iter()
                .zip(OUTCOMES)
                .map(move |(count, (_, outcome))| (kind.name(), outcome, count.load(Relaxed)))
        })
    }
}
