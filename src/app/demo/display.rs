//! The live line of the demo: how the last second's requests were shared.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
};

use super::visitors::Visits;
use crate::{app::Instance, model::name::Name, telemetry::registry::Key};

/// Characters of a full bar.
const BAR: u64 = 24;

/// What was shown last.
#[derive(Debug)]
pub(super) struct Display {
    is_terminal: bool,
    /// Requests of each pool when it was shown last.
    before: BTreeMap<Name, u64>,
    generation: u64,
}

impl Display {
    pub(super) fn new() -> Self {
        Self { is_terminal: std::io::stdout().is_terminal(), before: BTreeMap::new(), generation: 0 }
    }

    /// Shows the shares since the last time: on a terminal in place, with a new line for each generation.
    pub(super) fn show(&mut self, instance: &Instance, visits: &Visits) {
        let snapshot = instance.control.control.snapshot();
        let Some((split, weights)) = snapshot.state.live().weights.first_key_value() else { return };
        let mut news = Vec::new();
        for (pool, weight) in weights.iter() {
            let taken = instance.series.counts(&Key::Split(split.clone(), pool.clone())).taken();
            let before = self.before.insert(pool.clone(), taken).unwrap_or(taken);
            news.push((pool.clone(), weight, taken.saturating_sub(before)));
        }
        let sum: u64 = news.iter().map(|(_, _, requests)| requests).sum();
        let mut line = format!("generation {:<3}", snapshot.table.generation);
        for (pool, weight, requests) in news {
            let share = (100 * requests).checked_div(sum).unwrap_or(0);
            let bar = "#".repeat(usize::try_from(share * BAR / 100).unwrap_or(0));
            line += &format!("  {pool} (weight {weight}) {share:>3} % {bar:<24}");
        }
        let (good, failed) = (visits.good.get(), visits.failed.get());
        line += &format!("  {sum:>5} requests/s  the demo's own: {good} good, {failed} failed");
        let mut out = std::io::stdout().lock();
        let is_new = snapshot.table.generation != self.generation;
        self.generation = snapshot.table.generation;
        // Nobody may be reading any more; the demo goes on.
        let _ = match (self.is_terminal, is_new) {
            (true, false) => write!(out, "\r\x1b[2K{line}"),
            (true, true) => write!(out, "\n{line}"),
            (false, _) => writeln!(out, "{line}"),
        };
        let _ = out.flush();
    }
}
