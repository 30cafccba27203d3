//! The configuration file: a raw mirror of the TOML, checked whole and lowered once into the validated types here.
//!
//! Nothing after this layer checks a value of the file again. Only [`load`] and [`parse`] make a [`Config`], so
//! every name in it refers to something that is declared in it.

use std::{fs::File, io::Read, path::Path, sync::OnceLock};

use serde::Deserialize;

mod declared;
pub mod defaults;
mod diagnostic;
mod later;
mod lower;
mod pointer;
mod problems;
mod raw;
mod references;
mod schema;
mod settings;
mod shape;
mod shared;
mod spanned;
mod suggest;
mod units;

pub use diagnostic::{Diagnostic, Warning};
pub use problems::ConfigErrors;
pub use references::Follow;
pub use schema::schema;
pub use settings::*;

/// Reads and checks a file of at most [`defaults::MAX_FILE_BYTES`], and the certificates that it names.
pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    parse_with(&path.display().to_string(), &read(path)?, Follow::All, true)
}

/// Reads the text of a file of at most [`defaults::MAX_FILE_BYTES`].
pub fn read(path: &Path) -> Result<String, ConfigErrors> {
    let name = path.display().to_string();
    let refused = |message: String, help: Option<&str>| {
        ConfigErrors::whole_file(&name, message, help.map(str::to_owned))
    };
    let unreadable = |error: std::io::Error| refused(format!("the file can't be read: {error}"), None);
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // Reading stops at the limit, whatever the file's size is said to be: it may be a pipe, or grow.
    file.take(defaults::MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > defaults::MAX_FILE_BYTES {
        let message = format!("the file is larger than {} MiB", defaults::MAX_FILE_BYTES >> 20);
        return Err(refused(message, None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + memchr::memchr_iter(b'\n', &error.as_bytes()[..error.utf8_error().valid_up_to()]).count();
        refused(
            format!("line {line} is not UTF-8"),
            Some("TOML files are UTF-8; save the file in that encoding"),
        )
    })
}

/// Checks the text of a file. `file_name` is what diagnostics call it. Every error of the text is in the answer.
pub fn parse(file_name: &str, text: &str) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    parse_following(file_name, text, Follow::All)
}

/// Checks a text as [`parse`] does; `follow` says which references in it are followed, and which are errors.
pub fn parse_following(
    file_name: &str,
    text: &str,
    follow: Follow<'_>,
) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    parse_with(file_name, text, follow, false)
}

/// `reads_files` says whether the files that the text names are looked at: not those that somebody else sends.
fn parse_with(
    file_name: &str,
    text: &str,
    follow: Follow<'_>,
    reads_files: bool,
) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    static SCHEMA: OnceLock<serde_json::Value> = OnceLock::new();
    if text.len() as u64 > defaults::MAX_FILE_BYTES {
        let message = format!("the text is larger than {} MiB", defaults::MAX_FILE_BYTES >> 20);
        return Err(ConfigErrors::whole_file(file_name, message, None));
    }
    let mut problems = problems::Problems::new(diagnostic::Source::new(file_name, text), reads_files);
    let (mut document, syntax_errors) = toml::de::DeTable::parse_recoverable(text);
    for error in syntax_errors {
        problems.syntax(error.span().unwrap_or(0..0), error.message().to_owned());
    }
    let references = references::resolve(&mut document, follow, &mut problems);
    shape::check(&mut document, SCHEMA.get_or_init(schema), &mut problems);
    let config = match raw::File::deserialize(toml::de::Deserializer::from(document)) {
        Ok(file) => Some(lower::lower(&file, &mut problems)),
        // The document has the mirror's shape by now, so this is a fault of ours; it is still no reason to panic.
        Err(error) => {
            let at = pointer::Pointer::Root;
            problems.error(&error.span().unwrap_or(0..0), &at, error.message(), None);
            None
        }
    };
    problems.conclude(config.map(|config| Config {
        text: text.into(),
        references: references.into(),
        ..config
    }))
}
