//! References to values that are kept outside of the file: `${env:NAME}` and `${file:PATH}` in a text of it.
//!
//! Invariant: what a reference stands for is in the values that the file sets and nowhere else. The file's own text keeps the
//! reference, and messages about the file show it in the value's place.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use sha2::{Digest as _, Sha256};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{pointer::Pointer, problems::Problems, shape::shortened};

/// The largest file that a reference can be to: secrets are short.
const MAX_BYTES: u64 = 64 << 10;
/// The most references in a file, so that a file can't take up all memory by naming a long one very often.
const MAX_REFERENCES: usize = 1_000;

/// A text of the file that holds references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where it stands, as a JSON pointer.
    pub pointer: String,
    /// The text as it is written.
    pub written: String,
    /// A digest of what it stands for.
    digest: [u8; 32],
}

impl Reference {
    /// Whether it is the same reference and stands for something else now.
    pub fn has_moved(&self, before: &Self) -> bool {
        self.pointer == before.pointer && self.written == before.written && self.digest != before.digest
    }

    /// The files that it refers to.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let after = self.written.split("${file:").skip(1);
        after.filter_map(|rest| rest.split('}').next())
    }
}

/// Which references are followed.
#[derive(Debug, Clone, Copy)]
pub enum Follow<'a> {
    /// All: the text is that of the file on this machine.
    All,
    /// Those that the configuration in force has at the same place. Who sends a text over the network is to learn nothing of
    /// this machine's files and environment by it.
    Known(&'a [Reference]),
}

/// Puts what references stand for in their place, and answers which there were.
pub(super) fn resolve(
    document: &mut Spanned<DeTable<'_>>,
    follow: Follow<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Reference> {
    let mut resolver = Resolver { follow, files: HashMap::new(), found: Vec::new() };
    resolver.table(document.get_mut(), &Pointer::Root, problems);
    resolver.found
}

struct Resolver<'a> {
    follow: Follow<'a>,
    /// What was read, so that two references to a file agree.
    files: HashMap<String, Result<String, String>>,
    found: Vec<Reference>,
}

impl Resolver<'_> {
    fn table(&mut self, table: &mut DeTable<'_>, at: &Pointer<'_>, problems: &mut Problems<'_>) {
        for (key, value) in table.iter_mut() {
            self.value(value, &at.key(key.get_ref().as_ref()), problems);
        }
    }

    fn value(&mut self, value: &mut Spanned<DeValue<'_>>, at: &Pointer<'_>, problems: &mut Problems<'_>) {
        let span = value.span();
        match value.get_mut() {
            DeValue::Table(inner) => self.table(inner, at, problems),
            DeValue::Array(inner) => {
                for (index, item) in inner.iter_mut().enumerate() {
                    self.value(item, &at.index(index), problems);
                }
            }
            DeValue::String(text) if text.contains("${") => match self.text(text, at) {
                Ok(value) => *text = value.into(),
                Err((message, help)) => {
                    problems.error(&span, at, message, help);
                    // What follows from it would be said of the reference, not of what it stands for.
                    problems.leave_out(&span);
                }
            },
            _ => {}
        }
        if let (DeValue::String(text), Some(last)) = (value.get_ref(), self.found.last())
            && last.pointer == at.to_string()
        {
            problems.hide(text, &last.written);
        }
    }

    /// What a text stands for.
    fn text(&mut self, written: &str, at: &Pointer<'_>) -> Result<String, (String, String)> {
        let mut value = String::with_capacity(written.len());
        let mut rest = written;
        let mut holds_references = false;
        while let Some(start) = rest.find("${") {
            let (before, reference) = (&rest[..start], &rest[start + 2..]);
            if let Some(escaped) = before.strip_suffix('$') {
                value.push_str(escaped);
                value.push_str("${");
                rest = reference;
                continue;
            }
            value.push_str(before);
            let end = reference.find('}').ok_or_else(|| {
                let help = "write ${env:NAME} or ${file:PATH}, or $${ for the two characters as they are";
                ("a reference is not closed by }".to_owned(), help.to_owned())
            })?;
            if !holds_references {
                holds_references = true;
                self.allow(written, at)?;
            }
            value.push_str(&self.reference(&reference[..end])?);
            rest = &reference[end + 1..];
        }
        value.push_str(rest);
        if holds_references {
            let digest = Sha256::digest(value.as_bytes()).into();
            self.found.push(Reference { pointer: at.to_string(), written: written.to_owned(), digest });
        }
        Ok(value)
    }

    /// Whether a text with references may stand here.
    fn allow(&self, written: &str, at: &Pointer<'_>) -> Result<(), (String, String)> {
        if self.found.len() >= MAX_REFERENCES {
            return Err(("there are too many references".into(), format!("at most {MAX_REFERENCES}")));
        }
        let Follow::Known(known) = self.follow else { return Ok(()) };
        let pointer = at.to_string();
        if known.iter().any(|known| known.pointer == pointer && known.written == written) {
            return Ok(());
        }
        Err((
            "a reference to this machine's files or environment can't come through the admin API".into(),
            "write it into the file on the machine itself; what the configuration in force has at this very place may stay"
                .into(),
        ))
    }

    /// What one reference, between its braces, stands for.
    fn reference(&mut self, reference: &str) -> Result<String, (String, String)> {
        if let Some(name) = reference.strip_prefix("env:") {
            return variable(name);
        }
        let Some(path) = reference.strip_prefix("file:") else {
            return Err((
                format!("${{{}}} is no reference", shortened(reference)),
                "write ${env:NAME} or ${file:PATH}, or $${ for the two characters as they are".into(),
            ));
        };
        let read = || read(Path::new(path)).map_err(|error| error.to_string());
        let found = self.files.entry(path.to_owned()).or_insert_with(read);
        found.clone().map_err(|error| {
            let help =
                "a text file of at most 64 KiB that Switchback may read; one line end at its end is left out";
            (format!("the file of ${{file:{}}} can't be read: {error}", shortened(path)), help.into())
        })
    }
}

fn variable(name: &str) -> Result<String, (String, String)> {
    // Names with these would make std::env panic or never match.
    let found = (!name.is_empty() && !name.contains(['=', '\0'])).then(|| std::env::var(name));
    match found {
        Some(Ok(value)) => Ok(value),
        Some(Err(std::env::VarError::NotUnicode(_))) => Err((
            format!("the environment variable {} is not UTF-8", shortened(name)),
            "set it to a text in UTF-8".into(),
        )),
        Some(Err(std::env::VarError::NotPresent)) | None => Err((
            format!("the environment variable \"{}\" is not set", shortened(name)),
            "set it in the environment that Switchback is started in; $${ writes the two characters as they are".into(),
        )),
    }
}

/// Reads a small text file, less the line end at its end.
fn read(path: &Path) -> io::Result<String> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    // A pipe would be waited for until somebody writes to it.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(invalid("it is not a file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(invalid("it is larger than 64 KiB"));
    }
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(line.unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse, parse_following};

    fn file(host: &str) -> String {
        format!(
            "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
             [pool.app]\nendpoints = [\"127.0.0.1:1\"]\nhealth = {{ http = \"/\", headers = {{ key = \"{host}\" }} }}\n\
             [[route]]\nname = \"all\"\npool = \"app\"\n"
        )
    }

    fn folder() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("switchback-references-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_reference_is_followed_and_its_text_stays_what_it_was() {
        let path = folder().join("secret");
        std::fs::write(&path, "swordfish\n").unwrap();
        let text = file(&format!("a ${{file:{}}} $${{env:x}} ${{env:PATH}}", path.display()));
        let (config, _) = parse("test.toml", &text).unwrap();
        let shown = format!("{:?}", config.pools[0].health);
        let variable = std::env::var("PATH").unwrap();
        assert!(shown.contains(&format!("a swordfish ${{env:x}} {variable}")), "{shown}");
        assert_eq!(&*config.text, &text);
        assert!(!config.document().to_string().contains("swordfish"));
        assert_eq!(config.references.len(), 1);
        assert_eq!(config.references[0].pointer, "/pool/app/health/headers/key");
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        for (written, said) in [
            ("${env:SWITCHBACK_IS_NOT_SET}", "\"SWITCHBACK_IS_NOT_SET\" is not set"),
            ("${file:/no/such/file}", "${file:/no/such/file}"),
            ("${file:/dev/zero}", "not a file"),
            ("${other:x}", "no reference"),
            ("${env:", "not closed"),
            ("${env:}", "is not set"),
        ] {
            let errors = parse("test.toml", &file(written)).unwrap_err();
            assert_eq!(errors.errors().len(), 1, "{errors}");
            let error = &errors.errors()[0];
            assert!(error.message.contains(said), "{errors}");
            assert_eq!((error.line, &*error.pointer), (6, "/pool/app/health/headers/key"));
            assert!(error.help.is_some());
        }
    }

    #[test]
    fn messages_show_the_reference_and_not_the_value() {
        let path = folder().join("timeout");
        std::fs::write(&path, "swordfish").unwrap();
        let reference = format!("${{file:{}}}", path.display());
        let text = file("x") + &format!("[shutdown]\ndelay = \"{reference}\"\n");
        let errors = parse("test.toml", &text).unwrap_err().to_string();
        assert!(errors.contains(&reference) && !errors.contains("swordfish"), "{errors}");
    }

    #[test]
    fn through_the_api_only_what_is_in_force_already_is_followed() {
        let (in_force, _) = parse("test.toml", &file("${env:PATH}")).unwrap();
        let follow = Follow::Known(&in_force.references);
        assert!(parse_following("api", &file("${env:PATH}"), follow).is_ok());
        assert!(parse_following("api", &file("x${env:PATH}"), follow).is_err());
        let elsewhere = file("x") + "[shutdown]\ndelay = \"${env:PATH}\"\n";
        assert!(parse_following("api", &elsewhere, follow).is_err());
        assert!(parse_following("api", &file("$${env:HOME}"), follow).is_ok(), "an escaped one is none");
    }
}
