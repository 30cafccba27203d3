//! Runs the binary, with nothing of this environment that it reads.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use super::admin_support::Instance;

/// The binary, which is told nothing but by its arguments.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
    for variable in [
        "SWITCHBACK_ADMIN",
        "SWITCHBACK_TOKEN",
        "SWITCHBACK_CLIENT_FILE",
        "XDG_CONFIG_HOME",
        "HOME",
        "NO_COLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

pub fn switchback(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("the binary starts")
}

pub fn on(instance: &Instance, arguments: &[&str]) -> Output {
    switchback(&[arguments, &["--admin", &instance.url()]].concat())
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("it was ended by a signal: {output:?}"))
}

pub fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it prints UTF-8")
}

pub fn complained(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("it prints UTF-8")
}

pub fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A folder of the test's own, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("switchback-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file with permissions of the test's own, and answers where it is.
    pub fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder of our own");
        fs::write(&path, text).expect("a writable folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
