//! One thing that is wrong with a file, or worth knowing about it, and how it is shown.
//!
//! A diagnostic owns all that it shows, so it outlives the file's text. What it quotes of the file is shortened and
//! holds no control character: a hostile file can't draw on the terminal of whoever checks it.

use std::{fmt, ops::Range};

/// The longest piece of a source line that is quoted, in characters.
const MAX_QUOTED: usize = 120;

/// A problem of a configuration file, with the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// The file, as it was named to [`super::parse`].
    pub file: String,
    /// The line, from 1; 0 if the file as a whole is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 if the file as a whole is meant.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What is allowed, or what was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The JSON pointer (RFC 6901) of the value or key; empty for the whole file.
    pub pointer: String,
    #[serde(skip)]
    quote: Option<Quote>,
}

/// A piece of the line that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Quote {
    text: String,
    /// Characters before the marker.
    indent: usize,
    /// The marker's length in characters, at least 1.
    length: usize,
}

impl Diagnostic {
    /// A diagnostic about the file as a whole.
    pub(super) fn whole_file(file: &str, message: String, help: Option<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, message, help, pointer: String::new(), quote: None }
    }

    /// The diagnostic as text: message, place, the line with a marker, and the help.
    fn write(&self, f: &mut fmt::Formatter<'_>, severity: &str) -> fmt::Result {
        writeln!(f, "{severity}: {}", self.message)?;
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        if self.line == 0 {
            writeln!(f, " --> {}", self.file)?;
        } else {
            writeln!(f, "{margin}--> {}:{}:{}", self.file, self.line, self.column)?;
        }
        if let Some(Quote { text, indent, length }) = &self.quote {
            writeln!(f, "{margin} |\n{number} | {text}")?;
            writeln!(f, "{margin} | {}{}", " ".repeat(*indent), "^".repeat(*length))?;
        }
        match &self.help {
            Some(help) => writeln!(f, "{margin} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "error")
    }
}

/// Something that is allowed and may surprise.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Warning(pub Diagnostic);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, "warning")
    }
}

/// The text of a file, by lines.
#[derive(Debug)]
pub(super) struct Source<'t> {
    name: &'t str,
    text: &'t str,
    /// The byte offset at which each line begins.
    starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(super) fn new(name: &'t str, text: &'t str) -> Self {
        let breaks = memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1);
        Self { name, text, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// The number of the line, from 0, that an offset lies in.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset) - 1
    }

    /// A diagnostic about a span of this text.
    pub(super) fn diagnostic(
        &self,
        span: Range<usize>,
        pointer: String,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let line = self.line_of(span.start.min(self.text.len()));
        let start = self.starts[line];
        let end = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        let content = self.text[start..end].trim_end_matches(['\r', '\n']);
        // Spans come from the TOML parser and lie on character boundaries; flooring costs nothing and can't panic.
        let from = content.floor_char_boundary((span.start - start).min(content.len()));
        let to = content.floor_char_boundary(span.end.saturating_sub(start).clamp(from, content.len()));
        let column = content[..from].chars().count();
        let length = content[from..to].chars().count().max(1);
        Diagnostic {
            file: self.name.into(),
            line: line + 1,
            column: column + 1,
            message,
            help,
            pointer,
            quote: Some(quote(content, column, length)),
        }
    }
}

/// Cuts a window around the marked part out of a line and makes it safe to print.
fn quote(line: &str, column: usize, length: usize) -> Quote {
    let skip = if column + length.min(MAX_QUOTED / 2) > MAX_QUOTED { column - MAX_QUOTED / 4 } else { 0 };
    let mut text: String = line
        .chars()
        .skip(skip)
        .take(MAX_QUOTED)
        .map(|character| match character {
            '\t' => ' ',
            character if character.is_control() => '\u{FFFD}',
            character => character,
        })
        .collect();
    let mut indent = column - skip;
    let shown = text.chars().count();
    if skip > 0 {
        text.insert_str(0, "... ");
        indent += 4;
    }
    let length = length.min((shown + 1).saturating_sub(column - skip).max(1));
    Quote { text, indent, length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_with_its_line_and_a_marker() {
        let source = Source::new("a.toml", "x = 1\ny = \"ä\" # z\r\n");
        let span = 10..14;
        let shown = source.diagnostic(span, "/y".into(), "wrong".into(), Some("right".into())).to_string();
        assert_eq!(
            shown,
            "error: wrong\n --> a.toml:2:5\n  |\n2 | y = \"ä\" # z\n  |     ^^^\n  = help: right\n"
        );
    }

    #[test]
    fn long_lines_are_cut_and_control_characters_are_not_printed() {
        let text = format!("{}\u{1b}[2J{}", "a".repeat(500), "b".repeat(500));
        let shown =
            Source::new("a.toml", &text).diagnostic(500..503, String::new(), "m".into(), None).to_string();
        assert!(!shown.contains('\u{1b}') && shown.len() < 400, "{shown}");
        assert!(shown.contains("\u{FFFD}[2Jb"), "{shown}");
    }

    #[test]
    fn a_span_outside_the_text_or_over_several_lines_is_shown_at_its_start() {
        let source = Source::new("a.toml", "a\nbc\nd");
        assert_eq!(source.diagnostic(99..120, String::new(), String::new(), None).line, 3);
        let shown = source.diagnostic(3..6, String::new(), "m".into(), None);
        assert_eq!((shown.line, shown.column), (2, 2));
        assert!(shown.to_string().ends_with("  |  ^\n"), "{shown}");
    }
}
