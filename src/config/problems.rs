//! Collects all that is wrong with a file, so that it is reported at once.
//!
//! One mistake is one error: what only follows from another (a reference to something that could not be read, a key
//! that is missing because its name was mistyped) is left out.

use std::{collections::HashSet, fmt, ops::Range};

use super::{
    diagnostic::{Diagnostic, Source, Warning},
    pointer::Pointer,
    shape, suggest,
};

/// The most errors that are kept: nobody reads more, and a hostile file could cause one with each byte.
const MAX_ERRORS: usize = 200;

/// Everything that is wrong with a file, in the file's order. Its [`Display`](fmt::Display) is the whole report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    errors: Vec<Diagnostic>,
    omitted: usize,
}

impl ConfigErrors {
    /// One error about the file as a whole.
    pub(super) fn whole_file(file: &str, message: String, help: Option<String>) -> Self {
        Self { errors: vec![Diagnostic::whole_file(file, message, help)], omitted: 0 }
    }

    /// A file of which nothing can be said but that it can't be read.
    pub fn of_file(file: &std::path::Path, message: &str) -> Self {
        Self::whole_file(&file.display().to_string(), message.to_owned(), None)
    }

    /// The errors, in the file's order, at least one.
    pub fn errors(&self) -> &[Diagnostic] {
        &self.errors
    }

    /// How many errors there were beyond those that were kept.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// The whole report as plain text.
    pub fn render(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "{error}")?;
        }
        let count = self.errors.len() + self.omitted;
        if self.omitted > 0 {
            writeln!(f, "... and {} more", self.omitted)?;
        }
        write!(f, "{count} error{} in {}", if count == 1 { "" } else { "s" }, self.errors[0].file)
    }
}

/// The errors and warnings found so far.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    source: Source<'t>,
    errors: Vec<(usize, Diagnostic)>,
    warnings: Vec<(usize, Diagnostic)>,
    omitted: usize,
    /// Lines (from 0) whose TOML could not be read: what else is said of them would be about a guess.
    unreadable: HashSet<usize>,
    /// Offsets of values that could not be had: what else is said of them would be about something else.
    left_out: HashSet<usize>,
    /// Values that are not to be shown, each with what is shown instead.
    hidden: Vec<(String, String)>,
    reads_files: bool,
}

impl<'t> Problems<'t> {
    pub(super) fn new(source: Source<'t>, reads_files: bool) -> Self {
        let (errors, warnings) = (Vec::new(), Vec::new());
        let (unreadable, left_out, hidden) = Default::default();
        Self { source, errors, warnings, omitted: 0, unreadable, left_out, hidden, reads_files }
    }

    pub(super) fn source(&self) -> &Source<'t> {
        &self.source
    }

    /// Whether the files that the text names are looked at.
    pub(super) fn reads_files(&self) -> bool {
        self.reads_files
    }

    /// From now on nothing more is said of the value at this place.
    pub(super) fn leave_out(&mut self, span: &Range<usize>) {
        self.left_out.insert(span.start);
    }

    /// Shows `instead` wherever a message would show `value`, unless that is too short to be anything but a word.
    pub(super) fn hide(&mut self, value: &str, instead: &str) {
        /// A secret that is shorter could be found by trying.
        const SHORTEST: usize = 6;
        let short = shape::shortened(value);
        for shown in [value.to_owned(), short].into_iter().filter(|shown| shown.len() >= SHORTEST) {
            self.hidden.push((shown, instead.to_owned()));
        }
    }

    fn shown(&self, text: String) -> String {
        self.hidden.iter().fold(text, |text, (value, instead)| text.replace(value, instead))
    }

    /// An error of TOML's own syntax.
    pub(super) fn syntax(&mut self, span: Range<usize>, message: String) {
        let line = self.source.line_of(span.start);
        // The parser often stumbles again over the rest of the line.
        if self.unreadable.insert(line) {
            self.push(span, String::new(), message, None);
        }
    }

    /// An error in what is there.
    pub(super) fn error(
        &mut self,
        span: &Range<usize>,
        at: &Pointer<'_>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        let is_left_out = self.left_out.contains(&span.start);
        if !is_left_out && !self.unreadable.contains(&self.source.line_of(span.start)) {
            self.push(span.clone(), at.to_string(), message.into(), help.into());
        }
    }

    /// An error about something that is not there. It is left out where it may follow from another error: in a file
    /// that could not be read whole, and inside a table (`at`) that has an error already.
    pub(super) fn missing(
        &mut self,
        span: &Range<usize>,
        at: &Pointer<'_>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        if self.unreadable.is_empty() && !self.has_error_below(at) {
            self.push(span.clone(), at.to_string(), message.into(), help.into());
        }
    }

    /// An error about a name (`of` a kind) that nothing declares. It is left out where what declares it may just not
    /// have been understood: the kind's table, that entry of it, or a top-level key that was meant to be the kind.
    pub(super) fn unresolved(
        &mut self,
        span: &Range<usize>,
        at: &Pointer<'_>,
        of: (&str, &str),
        message: String,
        help: impl FnOnce() -> Option<String>,
    ) {
        // Finding what was meant costs more than anything else here, so it is not done for what nobody will see.
        if self.errors.len() == MAX_ERRORS {
            self.omitted += 1;
            return;
        }
        let root = Pointer::Root;
        let (kind, name) = of;
        let kind = root.key(kind);
        let declaration = kind.key(name).to_string();
        let may_be_lost = |error: &Diagnostic| match error.pointer.rfind('/') {
            Some(0) => suggest::nearest(&error.pointer[1..], [of.0]).is_some(),
            _ => error.pointer == declaration,
        };
        if self.unreadable.is_empty() && !self.errors.iter().any(|(_, error)| may_be_lost(error)) {
            self.push(span.clone(), at.to_string(), message, help());
        }
    }

    /// Something that is allowed and may surprise.
    pub(super) fn warning(
        &mut self,
        span: &Range<usize>,
        at: &Pointer<'_>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        if self.warnings.len() < MAX_ERRORS {
            let (message, help) = (self.shown(message.into()), help.into().map(|help| self.shown(help)));
            let diagnostic = self.source.diagnostic(span.clone(), at.to_string(), message, help);
            self.warnings.push((span.start, diagnostic));
        }
    }

    /// `value` with the warnings, if nothing was wrong; else every error.
    pub(super) fn conclude<T>(mut self, value: Option<T>) -> Result<(T, Vec<Warning>), ConfigErrors> {
        self.errors.sort_by_key(|(offset, _)| *offset);
        self.warnings.sort_by_key(|(offset, _)| *offset);
        match value {
            Some(value) if self.errors.is_empty() => {
                Ok((value, self.warnings.into_iter().map(|(_, warning)| Warning(warning)).collect()))
            }
            _ => {
                debug_assert!(!self.errors.is_empty(), "nothing was made of the file, and no error says why");
                if self.errors.is_empty() {
                    self.push(0..0, String::new(), "the file can't be read".into(), None);
                }
                let errors = self.errors.into_iter().map(|(_, error)| error).collect();
                Err(ConfigErrors { errors, omitted: self.omitted })
            }
        }
    }

    fn has_error_below(&self, at: &Pointer<'_>) -> bool {
        let prefix = format!("{at}/");
        self.errors.iter().any(|(_, error)| error.pointer.starts_with(&prefix))
    }

    fn push(&mut self, span: Range<usize>, pointer: String, message: String, help: Option<String>) {
        if self.errors.len() == MAX_ERRORS {
            self.omitted += 1;
            return;
        }
        let offset = span.start;
        let (message, help) = (self.shown(message), help.map(|help| self.shown(help)));
        self.errors.push((offset, self.source.diagnostic(span, pointer, message, help)));
    }
}
