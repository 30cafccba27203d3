//! Reads a file of TLS whole, within a limit, and tells whether one has changed.
//!
//! Invariant: what is said of a file quotes nothing that is in it, since it may be a key.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustls::pki_types::pem;

/// The largest file of a certificate, a key or an OCSP response: a long chain is some 20 KiB.
pub(super) const OF_A_CERTIFICATE: u64 = 1 << 20;
/// The largest list of revocations: half a million entries.
pub(super) const OF_A_LIST: u64 = 16 << 20;

/// The bytes of a file.
pub(super) fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // A pipe or device could keep who opens it waiting.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

/// What can be told of a file without reading it: its identity, its size, and when anything of it last changed.
pub(super) type Sign = Result<(u64, u64, u64, (i64, i64), (i64, i64)), io::ErrorKind>;

/// The sign of a file.
pub(super) fn sign(path: &Path) -> Sign {
    let found = fs::metadata(path).map_err(|error| error.kind())?;
    let (modified, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Ok((found.dev(), found.ino(), found.len(), modified, changed))
}

/// What is wrong with a PEM file. The library's words quote the line that it stopped at; where a file has lost its ends of lines, that
/// is the whole of it, and perhaps a key.
pub(crate) fn pem_fault(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a line with BEGIN has none with END behind it; it was cut off, or its line ends are lost"
                .to_owned()
        }
        pem::Error::IllegalSectionStart { .. } => "a line with BEGIN is not whole".to_owned(),
        // These quote nothing but a byte that is no base64.
        error => error.to_string(),
    }
}
