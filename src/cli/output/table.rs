//! Tables: columns as wide as their widest cell. Pure.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

/// What a cell says beside its words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// It is as it should be.
    Good,
    /// Something is under way.
    Passing,
    /// Somebody should look at it.
    Bad,
    /// It names what stands below.
    Head,
}

/// A cell.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Tone {
    /// A text in this tone. Where nothing is coloured, the marks are taken away when it is written.
    pub fn of(self, text: &str) -> String {
        let style = match self {
            Self::Plain => return text.to_owned(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Passing => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Head => Style::new().bold(),
        };
        format!("{style}{text}{style:#}")
    }
}

impl Cell {
    /// A cell in a tone.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        // A line end within a cell would be taken for another row.
        Self { text: text.into().replace(['\n', '\t'], " "), tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Rows under a head, which may be empty.
pub fn table(head: &[&str], rows: &[Vec<Cell>]) -> String {
    let head: Vec<Cell> = head.iter().map(|name| Cell::new(*name, Tone::Head)).collect();
    let lines = || std::iter::once(&head).filter(|head| !head.is_empty()).chain(rows);
    let columns = lines().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines().filter_map(|line| line.get(column)).map(Cell::width).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines() {
        let filled = line.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
        for (column, (cell, width)) in line.iter().zip(&widths).take(filled).enumerate() {
            let space = if column + 1 < filled { width - cell.width() + 2 } else { 0 };
            let _ = write!(text, "{}{:space$}", cell.tone.of(&cell.text), "");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_is_coloured() {
        let rows = [
            vec!["a".into(), Cell::new("bcd", Tone::Good), "".into()],
            vec!["efgh".into(), "i\nj".into(), "k".into()],
        ];
        let shown = anstream::adapter::strip_str(&table(&["X", "Y"], &rows)).to_string();
        assert_eq!(shown, "X     Y\na     bcd\nefgh  i j  k\n");
        assert!(table(&[], &rows).contains("\u{1b}[32mbcd\u{1b}[0m"));
    }
}
