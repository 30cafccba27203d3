//! Replacements of the binary, and the processes that they leave.

use std::process::Command;

use serde_json::Value;

use super::Switchback;

/// Processes that are killed at the end.
#[derive(Default)]
pub struct Successors(Vec<String>);

impl Successors {
    /// Replaces the process that serves.
    pub fn replace(&mut self, switchback: &Switchback) {
        let output = Command::new(env!("CARGO_BIN_EXE_switchback"))
            .args(["upgrade", "--json", "--admin", &format!("http://{}", switchback.admin)])
            .output()
            .expect("the binary that cargo built");
        assert!(output.status.success(), "{output:?}\n{}", switchback.stderr());
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        self.0.push(answer["pid"].to_string());
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        for pid in &self.0 {
            // It may have ended meanwhile.
            let _ = Command::new("sh").args(["-c", "kill -s KILL \"$0\" 2>/dev/null", pid]).status();
        }
    }
}
