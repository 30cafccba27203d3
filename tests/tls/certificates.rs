//! Which certificate a client is shown, and which versions are spoken.

use std::process::Command;

use rustls::{
    ProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use super::{
    authority::{Authority, Kind, listener},
    peer::Trust,
    support::{Setup, Switchback, Upstream},
};

fn started(authority: &Authority, pairs: &[String], more: &str, upstream: &Upstream) -> Switchback {
    assert!(authority.file().is_file());
    Setup::new().listener(&listener(pairs, more)).start(upstream)
}

fn file(authority: &Authority, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(authority.path(&format!("{name}.pem"))).expect("a certificate")
}

#[test]
fn a_certificate_is_chosen_by_the_name_that_the_client_asks_for() {
    let authority = Authority::new();
    let pairs = [
        authority.issue("first", &["a.example"], Kind::Ecdsa),
        authority.issue("wild", &["*.b.example"], Kind::Ecdsa),
        authority.issue("exact", &["www.b.example", "b.example"], Kind::Ecdsa),
    ];
    let upstream = Upstream::ok();
    let switchback = started(&authority, &pairs, "", &upstream);
    let trust = Trust::of(&authority);
    for (name, shown) in [
        ("a.example", "first"),
        ("www.b.example", "exact"),
        ("b.example", "exact"),
        ("x.b.example", "wild"),
        ("A.EXAMPLE", "first"),
    ] {
        let mut peer = trust.connect(switchback.address, name).expect("a handshake");
        assert_eq!(peer.certificate(), file(&authority, shown), "{name}");
        assert_eq!(peer.get(name).0, 200, "{name}");
    }
    let refused = trust.connect(switchback.address, "unknown.example").map(|_| ());
    let said = refused.expect_err("the default is another's").to_string();
    assert!(said.contains("not valid for name"), "{said}");
    // Whoever asks for no name is shown the first one; that it is not of an address is the client's to judge.
    let unnamed = trust.with(|config| config.enable_sni = false);
    let mut peer = unnamed.connect(switchback.address, "a.example").expect("a handshake");
    assert_eq!(peer.certificate(), file(&authority, "first"));
    assert_eq!(peer.get("www.b.example").0, 200, "it never said by which name it came");
}

#[test]
fn of_two_kinds_for_a_name_a_client_is_shown_the_one_that_it_can_verify() {
    let authority = Authority::new();
    let pairs = [
        authority.issue("rsa", &["a.example"], Kind::Rsa),
        authority.issue("ecdsa", &["a.example"], Kind::Ecdsa),
    ];
    let upstream = Upstream::ok();
    let switchback = started(&authority, &pairs, "", &upstream);
    let only = |part: &str, versions: &[&'static rustls::SupportedProtocolVersion]| {
        let mut provider: CryptoProvider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite());
            name.contains("TLS13") || name.contains(part)
        });
        Trust::speaking(&authority, versions, provider)
    };
    let shown =
        |trust: &Trust| trust.connect(switchback.address, "a.example").expect("a handshake").certificate();
    assert_eq!(shown(&Trust::of(&authority)), file(&authority, "ecdsa"), "it is the cheaper one");
    assert_eq!(shown(&only("ECDHE_RSA", &[&TLS12])), file(&authority, "rsa"));
    assert_eq!(shown(&only("ECDHE_ECDSA", &[&TLS12])), file(&authority, "ecdsa"));
}

#[test]
fn versions_from_the_least_one_on_are_spoken_and_curl_agrees() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["localhost"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let both = started(&authority, &pairs, "", &upstream);
    let newest = started(&authority, &pairs, "min_version = \"1.3\"", &upstream);
    let old = Trust::speaking(&authority, &[&TLS12], aws_lc_rs::default_provider());
    let new = Trust::speaking(&authority, &[&TLS13], aws_lc_rs::default_provider());
    let version =
        |trust: &Trust, to: &Switchback| trust.connect(to.address, "localhost").map(|peer| peer.version());
    assert_eq!(version(&old, &both).expect("a handshake"), ProtocolVersion::TLSv1_2);
    assert_eq!(version(&new, &both).expect("a handshake"), ProtocolVersion::TLSv1_3);
    assert_eq!(version(&new, &newest).expect("a handshake"), ProtocolVersion::TLSv1_3);
    version(&old, &newest).expect_err("the listener speaks nothing so old");
    let curl = |to: &Switchback, most: &str| {
        let url = format!("https://localhost:{0}/one https://localhost:{0}/two", to.address.port());
        let output = Command::new("curl")
            .args(["-sS", "--http1.1", "--tls-max", most, "--resolve"])
            .arg(format!("localhost:{}:127.0.0.1", to.address.port()))
            .arg("--cacert")
            .arg(authority.file())
            .args(["-w", "%{http_code} %{num_connects}\n", "-o", "/dev/null", "-o", "/dev/null"])
            .args(url.split(' '))
            .output()
            .expect("curl is installed by tests/install");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for most in ["1.2", "1.3"] {
        // The second request goes over the first one's connection.
        assert_eq!(curl(&both, most), (true, "200 1\n200 0\n".to_owned()), "{most}");
    }
    assert!(!curl(&newest, "1.2").0, "curl is refused what is not spoken");
}
