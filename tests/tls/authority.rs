//! An authority for tests, and the pairs that it issues.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, PKCS_RSA_SHA256, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

/// What a pair's key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ecdsa,
    Rsa,
}

/// An authority with a folder of its own, which is removed at its end.
pub struct Authority {
    pub folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

static FOLDERS: AtomicU32 = AtomicU32::new(0);

impl Authority {
    pub fn new() -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("switchback-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("an authority");
        fs::write(folder.join("ca.pem"), certificate.pem()).expect("a writable folder");
        fs::write(folder.join("ca.key"), key.serialize_pem()).expect("a writable folder");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// The authority's own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a pair for these names, as `name.pem` and `name.key`, each in one step; and answers how the file names it.
    pub fn issue(&self, name: &str, names: &[&str], kind: Kind) -> String {
        self.issue_until(name, names, kind, 2100)
    }

    /// The same, valid until the beginning of a year.
    pub fn issue_until(&self, name: &str, names: &[&str], kind: Kind, year: i32) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate(),
            Kind::Rsa => KeyPair::generate_for(&PKCS_RSA_SHA256),
        };
        let key = key.expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.named(name, name)
    }

    /// Writes a client's pair, as `name.pem` and `name.key`, with a serial number and valid until the beginning of a year;
    /// and answers it.
    pub fn client(&self, name: &str, serial: u64, year: i32) -> CertifiedKey {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "clients, and tests");
        params.distinguished_name.push(DnType::CommonName, name);
        let uri = format!("spiffe://tests.example/{name}");
        params.subject_alt_names.push(SanType::URI(uri.try_into().expect("a good URI")));
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.write(&format!("{name}.pem"), &certificate.pem());
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).expect("a pair")
    }

    /// Writes a list of revocations with these serial numbers, in date until the beginning of a year.
    pub fn revoke(&self, name: &str, serials: &[u64], year: i32) {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        self.write(name, &list.pem().expect("PEM"));
    }

    /// How the file names a certificate and a key.
    pub fn named(&self, certificate: &str, key: &str) -> String {
        let (certificate, key) = (self.path(&format!("{certificate}.pem")), self.path(&format!("{key}.key")));
        format!("{{ cert = {certificate:?}, key = {key:?} }}")
    }

    /// Writes a file that its owner alone may read, in one step.
    pub fn write(&self, name: &str, text: &str) {
        let beside = self.path(&format!("{name}.next"));
        fs::write(&beside, text).expect("a writable folder");
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("our own file");
        fs::rename(&beside, self.path(name)).expect("a file beside it");
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// The keys of a listener with these pairs.
pub fn listener(pairs: &[String], more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!("tls = {{ certificates = [{}]{comma}{more} }}", pairs.join(", "))
}
