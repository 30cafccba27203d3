//! A certificate with its key, as two PEM files hold them.
//!
//! Invariant: a [`Pair`] is whole. Its key is that of its certificate, and both can be used; errors name files and never quote
//! what is in them.

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{files, settings::PairFiles, staple::Staple};

/// The permissions of others than the owner and its group. A key is commonly given to a service by its group.
const OTHERS: u32 = 0o007;

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Where it was read from.
    pub files: PairFiles,
    /// What the certificate says.
    pub facts: Facts,
    /// When it was read.
    pub loaded_at: SystemTime,
    /// The chain and the key, as rustls uses them.
    pub(super) certified: Arc<CertifiedKey>,
    /// Whether others than the key's owner and its group can read it.
    pub is_open: bool,
    /// What clients are told of its revocation, or why that in the file is not; `None` if no file is named.
    pub staple: Option<Result<Staple, String>>,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The DNS names in it (RFC 5280 4.2.1.6), in lower case.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// The SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
}

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// That of the certificate.
    Certificate,
    /// That of the key.
    Key,
    /// That of the OCSP response.
    Ocsp,
}

/// Why two files are no pair.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file can't be read.
    #[error("{path} can't be read: {error}")]
    Unreadable {
        /// Which one.
        part: Part,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file has no certificate.
    #[error("there is no certificate in {0}")]
    NoCertificate(PathBuf),
    /// What should be a certificate is none.
    #[error("{path} holds no certificate that can be used: {why}")]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file has no private key.
    #[error("there is no private key in {0}")]
    NoKey(PathBuf),
    /// The key is encrypted.
    #[error("the private key in {0} is encrypted")]
    EncryptedKey(PathBuf),
    /// The key can't be used.
    #[error("the private key in {path} can't be used: {why}")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key is that of another certificate.
    #[error("the private key in {} is not that of the certificate in {}", .0.key.display(), .0.certificate.display())]
    Mismatch(PairFiles),
}

impl PairError {
    /// Which file it is about.
    pub fn part(&self) -> Part {
        match self {
            Self::Unreadable { part, .. } => *part,
            Self::NoCertificate(_) | Self::BadCertificate { .. } => Part::Certificate,
            Self::NoKey(_) | Self::EncryptedKey(_) | Self::BadKey { .. } | Self::Mismatch(_) => Part::Key,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "name a file that Switchback may read",
            Self::NoCertificate(_) => {
                "a PEM file with BEGIN CERTIFICATE: the site's certificate first, then the intermediate ones"
            }
            Self::BadCertificate { .. } => "issue the certificate anew, or copy it whole",
            Self::NoKey(_) => {
                "a PEM file with BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or BEGIN EC PRIVATE KEY"
            }
            Self::EncryptedKey(_) => {
                "nobody is there to type a password: decrypt it with `openssl pkey -in old -out new`, and chmod 600"
            }
            Self::BadKey { .. } => {
                "an RSA key of 2048 bits or more, an ECDSA key (P-256, P-384, P-521) or an Ed25519 key"
            }
            Self::Mismatch(_) => "name the key that the certificate was requested with",
        }
    }
}

impl Pair {
    /// Reads both files.
    pub fn read(files: &PairFiles, provider: &CryptoProvider) -> Result<Self, PairError> {
        let certificate = read(&files.certificate, Part::Certificate)?;
        let key = read(&files.key, Part::Key)?;
        let chain = chain(&certificate, &files.certificate)?;
        let facts = Facts::of(&chain[0]).map_err(|why| bad(&files.certificate, why))?;
        let key = private_key(&key, &files.key)?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                PairError::Mismatch(files.clone())
            }
            rustls::Error::InvalidCertificate(error) => bad(&files.certificate, format!("{error:?}")),
            error => PairError::BadKey { path: files.key.clone(), why: error.to_string() },
        })?;
        let is_open = fs::metadata(&files.key).is_ok_and(|found| found.mode() & OTHERS != 0);
        let (files, loaded_at) = (files.clone(), SystemTime::now());
        let staple = files.ocsp.as_ref().map(|path| Staple::read(path, &facts.serial, loaded_at));
        let ocsp = staple.as_ref().and_then(|staple| staple.as_ref().ok()).map(|staple| staple.bytes.clone());
        let certified = Arc::new(CertifiedKey { ocsp, ..certified });
        Ok(Self { files, facts, loaded_at, certified, is_open, staple })
    }

    /// Everything about it that is allowed and will surprise, with what to do.
    pub fn warnings(&self, now: SystemTime) -> Vec<(Part, String, String)> {
        let mut warnings = Vec::new();
        let certificate = self.files.certificate.display();
        if self.facts.not_after <= now {
            let message = format!("the certificate in {certificate} has expired");
            warnings.push((Part::Certificate, message, "clients refuse it: renew it".to_owned()));
        } else if self.facts.not_before > now {
            let message = format!("the certificate in {certificate} is not valid yet");
            warnings.push((Part::Certificate, message, "is the clock of this machine right?".to_owned()));
        }
        if self.facts.names.is_empty() {
            let message = format!("the certificate in {certificate} has no DNS name");
            let help = "no client will find it by a name: issue it with a subjectAltName".to_owned();
            warnings.push((Part::Certificate, message, help));
        }
        if self.is_open {
            let key = self.files.key.display();
            let message = format!("everybody on this machine may use the private key in {key}");
            warnings.push((Part::Key, message, format!("chmod 600 {key}")));
        }
        if let (Some(Err(why)), Some(file)) = (&self.staple, &self.files.ocsp) {
            let message = format!("the OCSP response in {} is not shown to clients: {why}", file.display());
            warnings.push((Part::Ocsp, message, "fetch a new one: openssl ocsp -respout".to_owned()));
        }
        warnings
    }

    /// Whether what clients are told of its revocation is out of date.
    pub(super) fn has_stale_staple(&self, now: SystemTime) -> bool {
        self.staple.as_ref().is_some_and(|staple| staple.as_ref().is_ok_and(|staple| staple.until <= now))
    }

    /// Whether another one has the same certificates and key files; a key can't change without its certificate.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.files == other.files
            && self.certified.cert == other.certified.cert
            && self.staple == other.staple
            && self.is_open == other.is_open
    }
}

impl Facts {
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let alternatives = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let general = alternatives.map(|found| &found.value.general_names[..]).unwrap_or_default();
        let names = general.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        let validity = parsed.validity();
        Ok(Self {
            names: names.collect(),
            issuer: parsed.issuer().to_string(),
            serial: hexadecimal(parsed.raw_serial()),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
            fingerprint: hexadecimal(&Sha256::digest(certificate)),
        })
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A time of a certificate; one before 1970 is as long ago.
pub(super) fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn bad(path: &Path, why: String) -> PairError {
    PairError::BadCertificate { path: path.to_owned(), why }
}

fn read(path: &Path, part: Part) -> Result<Vec<u8>, PairError> {
    files::bytes(path, files::OF_A_CERTIFICATE).map_err(|error| PairError::Unreadable {
        part,
        path: path.to_owned(),
        error,
    })
}

fn chain(text: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(|error| bad(path, files::pem_fault(&error)))?;
    if chain.is_empty() {
        return Err(PairError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}

fn private_key(text: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, PairError> {
    let has = |part: &[u8]| memchr::memmem::find(text, part).is_some();
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(PairError::EncryptedKey(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => PairError::NoKey(path.to_owned()),
        error => PairError::BadKey { path: path.to_owned(), why: files::pem_fault(&error) },
    })
}
