//! Reads a file of TLS whole, within a limit.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

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
