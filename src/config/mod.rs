//! The configuration file: a raw mirror of the TOML, checked whole and lowered once into the validated types here.
//!
//! Nothing after this layer checks a value of the file again. Only [`load`] and [`parse`] make a [`Config`], so
//! every name in it refers to something that is declared in it.

use std::path::Path;

mod diagnostic;
mod pointer;
mod problems;
mod settings;

pub use diagnostic::{Diagnostic, Warning};
pub use problems::ConfigErrors;
pub use settings::*;

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let _ = path;
    todo!()
}

/// Checks the text of a file. `file_name` is what diagnostics call it. Every error of the text is in the answer.
pub fn parse(file_name: &str, text: &str) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let _ = (file_name, text);
    todo!()
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> serde_json::Value {
    todo!()
}
