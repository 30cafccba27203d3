//! The admin API over TLS: where it may listen, whom it lets in, and how the command line and curl reach it.

use std::{
    fs,
    net::TcpStream,
    process::{Command, Output},
};

use super::{
    authority::{Authority, Kind},
    support::{Setup, Switchback, Upstream, wait_until},
};

/// A file whose admin API is at an address, with more keys.
fn file(listen: &str, keys: &str, upstream: &Upstream) -> String {
    let text = Setup::new().toml(&[upstream]);
    text.replacen("listen = \"127.0.0.1:0\"", &format!("listen = {listen:?}\n{keys}"), 1)
}

/// The key `tls` with a certificate for `localhost`, and more.
fn tls(authority: &Authority, more: &str) -> String {
    let pair = authority.issue("admin", &["localhost"], Kind::Ecdsa);
    format!("tls = {{ certificates = [{pair}]{more} }}")
}

fn asking(authority: &Authority, more: &str) -> String {
    tls(authority, &format!(", client_ca = {:?}{more}", authority.file()))
}

fn program(authority: &Authority, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
    for variable in ["SWITCHBACK_ADMIN", "SWITCHBACK_TOKEN", "SWITCHBACK_CLIENT_FILE", "XDG_CONFIG_HOME"] {
        command.env_remove(variable);
    }
    command.env("HOME", &authority.folder).current_dir(&authority.folder);
    command.args(arguments).output().expect("the binary that cargo built")
}

/// Makes a call by the command line: its exit code, and all that it has said.
fn call(authority: &Authority, arguments: &[&str]) -> (Option<i32>, String) {
    let output = program(authority, arguments);
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), said.concat())
}

fn url(switchback: &Switchback) -> String {
    format!("https://localhost:{}", switchback.admin.port())
}

#[test]
fn the_command_line_and_curl_call_over_tls_and_nobody_else_is_taken_for_the_instance() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = Upstream::ok();
    let switchback = Switchback::start(&file("127.0.0.1:0", &tls(&authority, ""), &upstream));
    let own = url(&switchback);
    assert_eq!(call(&authority, &["status", "--admin", &own, "--ca", "ca.pem"]).0, Some(0));
    let address = format!("https://{}", switchback.admin);
    let plain = format!("http://{}", switchback.admin);
    let foreign = other.file().display().to_string();
    for (arguments, words) in [
        (&["status", "--admin", &own, "--ca", &foreign][..], "certificate"),
        (&["status", "--admin", &address, "--ca", "ca.pem"], "not valid for name"),
        (&["status", "--admin", &own], "certificate"),
        (&["status", "--admin", &plain], "no Switchback answers"),
    ] {
        let (code, said) = call(&authority, arguments);
        assert!(code == Some(3) || code == Some(1), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    // Those who only connect hold nobody up.
    let _idle: Vec<_> = (0..20).map(|_| TcpStream::connect(switchback.admin).expect("it accepts")).collect();
    let curl = Command::new("curl")
        .args(["-sS", "-4", "--cacert", "ca.pem", &format!("{own}/v1/certificates")])
        .current_dir(&authority.folder)
        .output()
        .expect("curl is installed by tests/install");
    let listed: serde_json::Value = serde_json::from_slice(&curl.stdout).expect("JSON");
    assert_eq!(listed["certificates"][0]["listener"], "[admin]", "{listed}");
    assert_eq!(listed["certificates"][0]["names"][0], "localhost", "{listed}");
}

#[test]
fn who_shows_a_certificate_may_call_and_changes_are_written_down_as_his() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    authority.revoke("callers.crl", &[2], 2100);
    let list = format!(", crl = [{:?}]", authority.path("callers.crl"));
    let switchback = Switchback::start(&file("127.0.0.1:0", &asking(&authority, &list), &upstream));
    let own = url(&switchback);
    authority.client("ops", 1, 2100);
    authority.client("gone", 2, 2100);
    let with = |arguments: &[&str], pair: &str| {
        let (cert, key) = (format!("{pair}.pem"), format!("{pair}.key"));
        let place = ["--admin", &own, "--ca", "ca.pem", "--cert", &cert, "--key", &key];
        call(&authority, &[arguments, &place].concat())
    };
    assert_eq!(call(&authority, &["status", "--admin", &own, "--ca", "ca.pem"]).0, Some(3), "it shows none");
    assert_eq!(with(&["status"], "gone").0, Some(3), "it was revoked");
    let (code, said) = with(&["drain", "app", &upstream.address.to_string()], "ops");
    assert_eq!(code, Some(0), "{said}");
    let (_, history) = with(&["history", "--json"], "ops");
    assert!(history.contains("CN=ops,O=clients"), "{history}");
    // The same from a client file.
    let text = format!(
        "admin = \"{own}\"\nca = \"../../ca.pem\"\ncert = \"../../ops.pem\"\nkey = \"../../ops.key\"\n"
    );
    fs::create_dir_all(authority.path(".config/switchback")).expect("a writable folder");
    authority.write(".config/switchback/client.toml", &text);
    let (code, said) = call(&authority, &["status"]);
    assert_eq!(code, Some(0), "{said}");
    // The list of revocations is followed here, too.
    authority.revoke("callers.crl", &[1, 2], 2100);
    wait_until("who was revoked is shut out", || with(&["status"], "ops").0 == Some(3));
}

#[test]
fn a_certificate_has_the_role_that_the_file_gives_it_and_a_token_counts_instead() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    for name in ["viewer", "operator", "nobody"] {
        authority.client(name, 1, 2100);
    }
    let roles = ", client_roles = { \"CN=viewer,O=clients\\\\2C and tests\" = \"viewer\", \"URI:spiffe://tests.example/operator\" = \"operator\" }";
    let tokens = authority.path("tokens.toml");
    for with_tokens in [false, true] {
        let mut keys = asking(&authority, roles);
        if with_tokens {
            keys.push_str(&format!("\ntokens = {tokens:?}"));
        }
        let switchback = Switchback::start(&file("127.0.0.1:0", &keys, &upstream));
        let own = url(&switchback);
        let address = upstream.address.to_string();
        let with = |arguments: &[&str], pair: &str| {
            let (cert, key) = (format!("{pair}.pem"), format!("{pair}.key"));
            let place = ["--admin", &own, "--ca", "ca.pem", "--cert", &cert, "--key", &key];
            call(&authority, &[arguments, &place].concat())
        };
        for (arguments, pair, is_good) in [
            (&["status"][..], "viewer", true),
            (&["drain", "app", &address], "viewer", false),
            (&["drain", "app", &address], "operator", true),
            (&["status"], "nobody", false),
        ] {
            let (code, said) = with(arguments, pair);
            assert_eq!(code == Some(0), is_good, "{pair} {arguments:?}: {said}");
            assert!(is_good || said.contains("role") || said.contains("token"), "{said}");
        }
        if with_tokens {
            let made = ["token", "new", "--role", "admin", "--name", "ci", "--file", "tokens.toml", "--json"];
            let (code, said) = call(&authority, &made);
            assert_eq!(code, Some(0), "{said}");
            let made: serde_json::Value = serde_json::from_str(&said).expect("JSON");
            let token = made["token"].as_str().expect("a token");
            wait_until("the token counts", || with(&["status", "--token", token], "nobody").0 == Some(0));
            let wrong = format!("sb_{}", "0".repeat(64));
            assert_eq!(
                with(&["status", "--token", &wrong], "viewer").0,
                Some(1),
                "it is judged by the token"
            );
        }
    }
}

#[test]
fn a_new_certificate_is_in_force_without_a_restart() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    let switchback = Switchback::start(&file("127.0.0.1:0", &tls(&authority, ""), &upstream));
    let own = url(&switchback);
    let status = || call(&authority, &["status", "--admin", &own, "--ca", "ca.pem"]);
    assert_eq!(status().0, Some(0));
    authority.issue("admin", &["elsewhere.example"], Kind::Ecdsa);
    wait_until("the new one is shown", || status().1.contains("not valid for name"));
    authority.issue("admin", &["localhost"], Kind::Rsa);
    wait_until("the next one is shown", || status().0 == Some(0));
}

#[test]
fn loopback_is_left_over_tls_alone_and_only_to_those_who_prove_who_they_are() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    let (plain, asks) = (tls(&authority, ""), asking(&authority, ""));
    let optional = asking(&authority, ", client_auth = \"optional\"");
    let tokens = "tokens = \"tokens.toml\"";
    for (listen, keys, is_good) in [
        ("0.0.0.0:9900", tokens.to_owned(), false),
        ("0.0.0.0:9900", plain.clone(), false),
        ("0.0.0.0:9900", optional.clone(), false),
        ("0.0.0.0:9900", asks.clone(), true),
        ("0.0.0.0:9900", format!("{plain}\n{tokens}"), true),
        ("[2001:db8::1]:9900", format!("{optional}\n{tokens}"), true),
        ("127.0.0.1:9900", plain.clone(), true),
        ("unix:/tmp/admin.sock", plain, false),
    ] {
        authority.write("switchback.toml", &file(listen, &keys, &upstream));
        let (code, said) = call(&authority, &["check", "-c", "switchback.toml"]);
        assert_eq!(code == Some(0), is_good, "{listen} {keys}: {said}");
        assert!(is_good || said.contains("help:"), "{said}");
        assert!(is_good || listen.starts_with("unix") || said.contains("client_ca"), "{said}");
    }
}
