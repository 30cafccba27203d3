//! The commands that work on a file, and those that serve.

use std::{io::IsTerminal, path::Path};

use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::{Failure, output};
use crate::{app, config};

/// Serves what a file declares.
pub fn run(file: &Path) -> Result<(), Failure> {
    let (config, warnings) = config::load(file)?;
    output::warn(&warnings);
    log_to_standard_error("info");
    app::run(config).map_err(|error| Failure::Failed(format!("{error:#}")))
}

/// Serves the demo.
pub fn demo(options: &app::demo::Options) -> Result<(), Failure> {
    log_to_standard_error("warn");
    app::demo::run(options).map_err(|error| Failure::Failed(format!("{error:#}")))
}

/// Sends the process' own log to the standard error. `RUST_LOG` says what is logged, else `level` does.
fn log_to_standard_error(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let format = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    // Somebody who embeds this may have one already.
    let _ = format.with_ansi(std::io::stderr().is_terminal()).try_init();
}

/// Says everything that is wrong with a file.
pub fn check(file: &Path, as_json: bool) -> Result<(), Failure> {
    let (config, warnings) = config::load(file)?;
    let found = json!({
        "file": file.display().to_string(),
        "listeners": config.listeners.len(),
        "routes": config.routes.len(),
        "splits": config.splits.len(),
        "pools": config.pools.len(),
        "warnings": warnings,
    });
    if !as_json {
        output::warn(&warnings);
    }
    output::print(as_json, &found, |found| {
        format!(
            "{} is good: {} listeners, {} routes, {} splits, {} pools\n",
            file.display(),
            found["listeners"],
            found["routes"],
            found["splits"],
            found["pools"]
        )
    });
    Ok(())
}

/// Prints the schema of the file.
pub fn schema() -> Result<(), Failure> {
    output::print(true, &config::schema(), |_| String::new());
    Ok(())
}
