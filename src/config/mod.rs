//! The configuration file: a raw mirror of the TOML, checked whole and lowered once into the validated types here.
//!
//! Nothing after this layer checks a value of the file again. Only [`load`] and [`parse`] make a [`Config`], so
//! every name in it refers to something that is declared in it.

mod settings;

pub use settings::*;
