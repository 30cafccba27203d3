//! The client file: the addresses of instances and the tokens for them, so that nobody has to write them on command lines.
//!
//! Invariant: a token is taken from no file that others can read, and an address from none that others can write: they
//! could have the token sent to themselves.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::source::{Filed, Said};
use crate::control::refusal::Unknown;

/// The largest client file, and the largest file of a token.
const MAX_BYTES: u64 = 64 << 10;
/// The permissions of others than the owner: to write, and to read.
const WRITE: u32 = 0o022;
const READ: u32 = 0o044;
/// What a part of the file may say, beside the parts with names.
const KEYS: [&str; 3] = ["admin", "token", "token_file"];
const INSTANCES: &str = "instance";

/// Why the client file can't be used. Nothing was sent to anybody.
#[derive(Debug, thiserror::Error)]
pub enum ClientFileError {
    /// It, or a file that it names, can't be read.
    #[error("{} can't be read: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not what a client file is.
    #[error("{}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It has no instance of this name, or is not there.
    #[error("{0}")]
    NoInstance(String),
}

/// Where the client file is, by the environment: where it is named, it has to be there.
pub fn place(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<(PathBuf, bool)> {
    if let Some(named) = variable("SWITCHBACK_CLIENT_FILE") {
        return Some((named, true));
    }
    // A relative path is none, by the XDG Base Directory Specification.
    let folder = variable("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some((folder.join("switchback/client.toml"), false))
}

/// Reads what the file says, and of the instance that is asked for.
pub fn read(place: Option<(PathBuf, bool)>, instance: Option<&str>) -> Result<Filed, ClientFileError> {
    let missing = |place: &str| {
        let instance = instance.unwrap_or_default();
        ClientFileError::NoInstance(format!(
            "there is no instance {instance:?}: {place}, where [instance.{instance}] would stand"
        ))
    };
    let (path, text) = match place {
        None if instance.is_some() => return Err(missing("no folder is known for a client file")),
        None => return Ok(Filed::default()),
        Some((path, must_be)) => match content(&path) {
            Ok(found) => (path, found),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_be => {
                return match instance {
                    Some(_) => Err(missing(&format!("there is no file {}", path.display()))),
                    None => Ok(Filed::default()),
                };
            }
            Err(error) => return Err(ClientFileError::Io { path, error }),
        },
    };
    let (text, mode) = text;
    let wrong = |what: String| ClientFileError::Wrong { path: path.clone(), what };
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        // The error's own text shows the line, which may hold a token.
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        wrong(format!("line {line}: {}", error.message()))
    })?;
    let instances = match table.remove(INSTANCES) {
        None => Table::new(),
        Some(Value::Table(instances)) => instances,
        Some(_) => return Err(wrong(format!("{INSTANCES} is not a table: write [instance.NAME]"))),
    };
    let mut parts = vec![(String::new(), table)];
    for (name, part) in instances {
        match part {
            Value::Table(part) => parts.push((format!("{INSTANCES}.{name}."), part)),
            _ => return Err(wrong(format!("{INSTANCES}.{name} is not a table: write [instance.{name}]"))),
        }
    }
    parts.iter().try_for_each(|(prefix, part)| known(prefix, part)).map_err(wrong)?;
    if mode & READ != 0 && parts.iter().any(|(_, part)| part.contains_key("token")) {
        return Err(wrong(format!("it holds a token, and others can read it: chmod 600 {}", path.display())));
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let named = match instance {
        None => None,
        Some(name) => {
            let prefix = format!("{INSTANCES}.{name}.");
            let names = parts.iter().filter_map(|(of, _)| of.strip_prefix("instance.")?.strip_suffix('.'));
            let Some((_, part)) = parts.iter().find(|(of, _)| *of == prefix) else {
                let unknown = Unknown::new(name, names);
                return Err(ClientFileError::NoInstance(format!(
                    "{} has no instance {unknown}",
                    path.display()
                )));
            };
            Some(said(part, folder)?)
        }
    };
    let unnamed = if named.is_some() { Said::default() } else { said(&parts[0].1, folder)? };
    Ok(Filed { unnamed, named })
}

/// Refuses what is not known, or of the wrong kind.
fn known(prefix: &str, part: &Table) -> Result<(), String> {
    for (key, value) in part {
        if !KEYS.contains(&key.as_str()) {
            let of = KEYS.into_iter().chain(prefix.is_empty().then_some(INSTANCES));
            let unknown = Unknown::new(key, of);
            let allowed = if unknown.nearest.is_some() {
                String::new()
            } else {
                format!("; known are {}", unknown.known.join(", "))
            };
            return Err(format!("{prefix}: there is no key {unknown}{allowed}")
                .trim_start_matches(": ")
                .to_owned());
        }
        if !value.is_str() {
            return Err(format!("{prefix}{key} is not a text"));
        }
    }
    if part.contains_key("token") && part.contains_key("token_file") {
        return Err(format!("{prefix}token and {prefix}token_file are both given: which of them counts?"));
    }
    Ok(())
}

/// What a part says, with the token that is in a file of its own.
fn said(part: &Table, folder: &Path) -> Result<Said, ClientFileError> {
    let text = |key: &str| part.get(key).and_then(Value::as_str).map(str::to_owned);
    let token = match text("token_file") {
        None => text("token"),
        Some(file) => {
            let path = folder.join(file);
            let (token, mode) =
                content(&path).map_err(|error| ClientFileError::Io { path: path.clone(), error })?;
            if mode & READ != 0 {
                let what = format!("it holds a token, and others can read it: chmod 600 {}", path.display());
                return Err(ClientFileError::Wrong { path, what });
            }
            Some(token)
        }
    };
    Ok(Said { admin: text("admin"), token })
}

/// The text of a file that others can't write, with its permissions.
fn content(path: &Path) -> io::Result<(String, u32)> {
    // A pipe or device could keep who opens it waiting.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    // Of what was opened: the path may lead elsewhere by now.
    let metadata = file.metadata()?;
    if metadata.mode() & WRITE != 0 {
        return Err(io::Error::other("others than its owner may write it: chmod 600"));
    }
    if ![0, rustix::process::geteuid().as_raw()].contains(&metadata.uid()) {
        return Err(io::Error::other("it belongs to another user"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is over 64 KiB"));
    }
    Ok((text, metadata.mode()))
}
