//! The commands that work on a file, and those that serve.

use std::{io, io::IsTerminal, path::Path};

use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::{Failure, output};
use crate::{
    app,
    config::{self, Config},
    proxy::ProxyError,
};

/// Serves what a file declares.
pub fn run(file: &Path) -> Result<(), Failure> {
    let (config, warnings) = config::load(file)?;
    output::warn(&warnings);
    serve(config, Some(file), "`listen` of the listener or of [admin] in the file sets another address")
}

/// Serves what a configuration declares, and follows the file that it is from. `advice` is for an address that is taken.
pub fn serve(config: Config, file: Option<&Path>, advice: &str) -> Result<(), Failure> {
    log_to_standard_error("info");
    app::run(config, file).map_err(|error| failed(&error, advice))
}

/// Serves the demo.
pub fn demo(options: &app::demo::Options) -> Result<(), Failure> {
    log_to_standard_error("warn");
    app::demo::run(options).map_err(|error| {
        failed(&error, "--listen and --admin-listen set other addresses, such as 127.0.0.1:8081")
    })
}

/// Why it could not start, with each cause said once, and `advice` if an address is taken.
fn failed(error: &anyhow::Error, advice: &str) -> Failure {
    let mut words = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    let is_taken = |cause: &(dyn std::error::Error + 'static)| {
        let kind = match cause.downcast_ref::<ProxyError>() {
            Some(ProxyError::Bind { error, .. }) => Some(error.kind()),
            _ => cause.downcast_ref::<io::Error>().map(io::Error::kind),
        };
        kind == Some(io::ErrorKind::AddrInUse)
    };
    if error.chain().any(is_taken) {
        words = format!("{words}\n{advice}");
    }
    Failure::Failed(words)
}

/// Sends the process' own log to the standard error. `RUST_LOG` says what is logged, else `level` does; but for the h2 crate's
/// warnings, a line for some frames of a client: it could fill the disk with them. Metrics count what they are about.
fn log_to_standard_error(level: &str) {
    let usual = || EnvFilter::new(format!("{level},h2=error"));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| usual());
    let format = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    // Somebody who embeds this may have one already. A log that can't be written must not be complained of where it
    // can't be written.
    let _ = format.with_ansi(io::stderr().is_terminal()).log_internal_errors(false).try_init();
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
        let counted = ["listener", "route", "split", "pool"].map(|kind| {
            let count = &found[format!("{kind}s")];
            format!("{count} {kind}{}", if *count == json!(1) { "" } else { "s" })
        });
        format!("{} is good: {}\n", file.display(), counted.join(", "))
    })
}

/// Prints the schema of the file.
pub fn schema() -> Result<(), Failure> {
    output::print(true, &config::schema(), |_| String::new())
}
