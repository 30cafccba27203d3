//! The live line of the demo: how the last second's requests were shared.
//!
//! Invariant: a line is shorter than 80 characters, so that it can be written over in place on any terminal.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use super::visitors::Visits;
use crate::{app::Instance, model::name::Name, telemetry::registry::Key};

/// Characters of a full bar.
const BAR: u64 = 8;
/// The longest line: a terminal of 80 columns may wrap one that fills it.
const MAX_LINE: usize = 79;

/// What was shown last.
#[derive(Debug)]
pub(super) struct Display {
    is_terminal: bool,
    /// Requests of each pool when it was shown last.
    before: BTreeMap<Name, u64>,
    generation: u64,
}

/// A pool's part in the last second.
#[derive(Debug)]
struct Part {
    pool: Name,
    weight: u32,
    requests: u64,
}

impl Display {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), before: BTreeMap::new(), generation: 0 }
    }

    /// Shows the shares since the last time: on a terminal in place, with a new line for each generation.
    pub(super) fn show(&mut self, instance: &Instance, visits: &Visits) -> io::Result<()> {
        let snapshot = instance.control.control.snapshot();
        let Some((split, weights)) = snapshot.state.live().weights.first_key_value() else { return Ok(()) };
        let mut parts = Vec::new();
        for (pool, weight) in weights.iter() {
            let taken = instance.series.counts(&Key::Split(split.clone(), pool.clone())).taken();
            let before = self.before.insert(pool.clone(), taken).unwrap_or(taken);
            parts.push(Part { pool: pool.clone(), weight, requests: taken.saturating_sub(before) });
        }
        let line = line(snapshot.table.generation, &parts, visits.failed.get());
        let mut out = io::stdout().lock();
        let is_new = snapshot.table.generation != self.generation;
        self.generation = snapshot.table.generation;
        match (self.is_terminal, is_new) {
            (true, false) => write!(out, "\r\x1b[2K{line}")?,
            (true, true) => write!(out, "\n{line}")?,
            (false, _) => writeln!(out, "{line}")?,
        }
        out.flush()
    }
}

/// One line: the generation, of each pool its weight and its share, and the requests of the last second.
fn line(generation: u64, parts: &[Part], failed: u64) -> String {
    let sum: u64 = parts.iter().map(|part| part.requests).sum();
    let mut line = format!("gen {generation:<3}");
    for Part { pool, weight, requests } in parts {
        let share = (100 * requests).checked_div(sum).unwrap_or(0);
        let bar = "#".repeat(usize::try_from(share * BAR / 100).unwrap_or(0));
        let _ = write!(line, "  {pool} {weight:>3} {bar:<8} {share:>3} %");
    }
    let _ = write!(line, "  {sum:>4}/s  {failed} failed");
    line.chars().take(MAX_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(of: [(&str, u32, u64); 2]) -> [Part; 2] {
        of.map(|(pool, weight, requests)| Part { pool: Name::new(pool).unwrap(), weight, requests })
    }

    #[test]
    fn a_line_fits_a_terminal_of_80_columns_whatever_it_shows() {
        assert_eq!(
            line(3, &parts([("blue", 90, 18), ("green", 10, 2)]), 0),
            "gen 3    blue  90 #######   90 %  green  10           10 %    20/s  0 failed"
        );
        let long =
            line(1 << 40, &parts([("blue", 1_000_000, 1 << 40), ("green", 1_000_000, 1 << 40)]), 1 << 40);
        assert_eq!(long.chars().count(), MAX_LINE);
    }
}
