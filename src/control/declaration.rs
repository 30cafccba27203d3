//! Which declaration is in force: the file on disk, or one that was applied through the admin API.
//!
//! The newest wins: what was applied holds until the file on disk changes its content.

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// By which way a declaration came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It is the file on disk.
    Disk,
    /// It was applied through the admin API, by whoever may not touch this machine's files.
    Applied,
}

/// The declaration in force, and the file on disk that was loaded last, by the digests of their texts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Declaration {
    /// What is in force.
    pub text: String,
    /// The file on disk.
    pub disk: String,
}

impl Declaration {
    /// A file on disk that is in force.
    pub fn of_disk(config: &Config) -> Self {
        Self { text: config.digest(), disk: config.digest() }
    }

    /// What becomes of it when `config` is loaded.
    pub(super) fn after(&self, config: &Config, source: Source) -> Self {
        match source {
            Source::Disk => Self::of_disk(config),
            Source::Applied => Self { text: config.digest(), disk: self.disk.clone() },
        }
    }

    /// Whether something else than the file on disk is in force.
    pub fn is_applied(&self) -> bool {
        self.text != self.disk
    }

    /// Whether what comes is older than what is in force: the file on disk, as it was before something was applied.
    pub(super) fn holds_against(&self, config: &Config, source: Source) -> bool {
        source == Source::Disk && self.is_applied() && config.digest() == self.disk
    }
}
