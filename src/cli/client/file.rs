//! The client file: the addresses of instances and the tokens for them, so that nobody has to write them on command lines.
//!
//! Invariant: a token is taken from no file that others can read, and an address from none that others can write: they
//! could have the token sent to themselves.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::source::{Filed, Said, TlsFiles, Token};
use crate::control::refusal::Unknown;

/// The largest client file, and the largest file of a token.
const MAX_BYTES: u64 = 64 << 10;
/// The permissions of others than the owner: to write, and to read.
const WRITE: u32 = 0o022;
const READ: u32 = 0o044;
/// What a part of the file may say, and the table of the parts with names.
const KEYS: [&str; 6] = ["admin", "token", "token_file", "ca", "cert", "key"];
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
    /// It has no instance of this name.
    #[error("{} has no instance {unknown}", path.display())]
    NoInstance {
        /// The file.
        path: PathBuf,
        /// The name, and which one was probably meant.
        unknown: Unknown,
    },
    /// There is none, and an instance of it was asked for.
    #[error(
        "there is no client file that could name an instance: set SWITCHBACK_CLIENT_FILE, or write ~/.config/switchback/client.toml"
    )]
    Missing,
}

/// Where the client file is, by the environment, and whether it has to be there.
pub struct Place {
    path: PathBuf,
    is_named: bool,
}

impl Place {
    /// Finds it by variables of the environment.
    pub fn find(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        if let Some(path) = variable("SWITCHBACK_CLIENT_FILE") {
            return Some(Self { path, is_named: true });
        }
        // A relative path is none, by the XDG Base Directory Specification.
        let folder = variable("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
        let folder = folder.or_else(|| Some(variable("HOME")?.join(".config")))?;
        Some(Self { path: folder.join("switchback/client.toml"), is_named: false })
    }

    /// Reads what the file says: of the instance that is asked for, or without a name.
    pub fn read(self, instance: Option<&str>) -> Result<Filed, ClientFileError> {
        let Self { path, is_named } = self;
        let (text, mode) = match content(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => {
                return if instance.is_some() { Err(ClientFileError::Missing) } else { Ok(Filed::default()) };
            }
            Err(error) => return Err(ClientFileError::Io { path, error }),
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let parts = match Parts::parse(&text, folder) {
            Ok(parts) if mode & READ != 0 && parts.hold_a_token() => {
                return Err(ClientFileError::Wrong { what: open_to_others(&path), path });
            }
            Ok(parts) => parts,
            Err(what) => return Err(ClientFileError::Wrong { path, what }),
        };
        let Parts { unnamed, mut named } = parts;
        match instance {
            None => Ok(Filed { unnamed, named: None }),
            Some(name) => match named.remove(name) {
                Some(said) => Ok(Filed { unnamed: Said::default(), named: Some(said) }),
                None => {
                    let unknown = Unknown::new(name, named.keys());
                    Err(ClientFileError::NoInstance { path, unknown })
                }
            },
        }
    }
}

/// Reads a token from a file of its own.
pub fn token(path: &Path) -> Result<String, ClientFileError> {
    let (token, mode) =
        content(path).map_err(|error| ClientFileError::Io { path: path.to_owned(), error })?;
    if mode & READ != 0 {
        return Err(ClientFileError::Wrong { path: path.to_owned(), what: open_to_others(path) });
    }
    Ok(token.trim().to_owned())
}

fn open_to_others(path: &Path) -> String {
    format!("it holds a token, and others can read it: chmod 600 {}", path.display())
}

/// What a client file says.
struct Parts {
    unnamed: Said,
    named: BTreeMap<String, Said>,
}

impl Parts {
    /// Reads the text of a file. Paths in it are seen from its folder.
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
            // The error's own text shows the line, which may hold a token.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("line {}: {}", before.matches('\n').count() + 1, error.message())
        })?;
        let instances = match table.remove(INSTANCES) {
            None => Table::new(),
            Some(Value::Table(instances)) => instances,
            Some(_) => return Err(format!("{INSTANCES} is not a table: write [{INSTANCES}.NAME]")),
        };
        let unnamed = part(table, "", folder)?;
        let named = instances.into_iter().map(|(name, value)| match value {
            Value::Table(table) => Ok((name.clone(), part(table, &format!("{INSTANCES}.{name}."), folder)?)),
            _ => Err(format!("{INSTANCES}.{name} is not a table: write [{INSTANCES}.{name}]")),
        });
        Ok(Self { unnamed, named: named.collect::<Result<_, _>>()? })
    }

    fn hold_a_token(&self) -> bool {
        let mut parts = std::iter::once(&self.unnamed).chain(self.named.values());
        parts.any(|said| matches!(said.token, Some(Token::Text(_))))
    }
}

/// Reads a part of the file. `prefix` is what stands before its keys where they are named.
fn part(mut table: Table, prefix: &str, folder: &Path) -> Result<Said, String> {
    let [admin, text, file, ca, cert, key] = KEYS.map(|key| match table.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{prefix}{key} is not a text")),
    });
    if let Some(key) = table.keys().next() {
        let known = KEYS.into_iter().chain(prefix.is_empty().then_some(INSTANCES));
        let unknown = Unknown::new(key, known);
        let listed = match unknown.nearest {
            Some(_) => String::new(),
            None => format!("; known are {}", unknown.known.join(", ")),
        };
        let of =
            if prefix.is_empty() { String::new() } else { format!("[{}] ", prefix.trim_end_matches('.')) };
        return Err(format!("{of}has no key {unknown}{listed}"));
    }
    let token = match (text?, file?) {
        (None, None) => None,
        (Some(token), None) => Some(Token::Text(token)),
        (None, Some(file)) => Some(Token::File(folder.join(file))),
        (Some(_), Some(_)) => {
            return Err(format!(
                "{prefix}token and {prefix}token_file are both given: which of them counts?"
            ));
        }
    };
    let own = match (cert?, key?) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((folder.join(cert), folder.join(key))),
        _ => return Err(format!("{prefix}cert and {prefix}key are a pair: give both")),
    };
    let tls = TlsFiles { ca: ca?.map(|ca| folder.join(ca)), own };
    Ok(Said { admin: admin?, token, tls })
}

/// The text of a file that others can't write, with its permissions.
fn content(path: &Path) -> io::Result<(String, u32)> {
    // A pipe or device could keep who opens it waiting.
    if !fs::metadata(path)?.is_file() {
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
