//! The command line.

/// Runs the command line and answers the process' exit code.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
