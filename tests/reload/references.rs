//! Values that are kept outside of the file.

use std::fs;

use crate::support::{Setup, Switchback, Upstream, wait_until};

fn start(upstream: &Upstream, secret: &std::path::Path) -> (String, Switchback) {
    let reference = format!("${{file:{}}}", secret.display());
    let text = Setup::new()
        .route(&format!("request_headers = {{ set = {{ X-Key = \"{reference}\" }} }}"))
        .toml(&[upstream]);
    let switchback = Switchback::start(&text);
    (text, switchback)
}

#[test]
fn a_secret_reaches_the_upstream_and_nothing_else_and_a_new_one_is_taken() {
    let upstream = Upstream::ok();
    let folder = std::env::temp_dir().join(format!("switchback-secrets-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let secret = folder.join("secret");
    fs::write(&secret, "swordfish\n").expect("written");
    let (text, switchback) = start(&upstream, &secret);
    let mut client = switchback.client();
    let mut key = || {
        client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        upstream.last().head.one("X-Key").map(str::to_owned)
    };
    assert_eq!(key().as_deref(), Some("swordfish"));
    for path in ["/v1/config", "/v1/config/export", "/v1/status", "/v1/drift", "/v1/revisions"] {
        let said = switchback.admin("GET", path, "").text();
        assert!(!said.contains("swordfish"), "{path}: {said}");
    }
    assert_eq!(switchback.json("GET", "/v1/config", "")["text"], text);

    fs::write(&secret, "herring\n").expect("written");
    wait_until("the new secret is in use", || key().as_deref() == Some("herring"));
    assert!(!switchback.admin("GET", "/v1/revisions", "").text().contains("herring"));

    fs::remove_file(&secret).expect("removed");
    wait_until("it is missed", || !switchback.json("GET", "/v1/status", "")["file"]["error"].is_null());
    assert_eq!(key().as_deref(), Some("herring"));

    let applied = |text: &str| switchback.put_file(text);
    let other = text.replace("X-Key", "X-Other");
    assert_eq!(applied(&other).status, 422, "a reference in another place is refused");
    fs::remove_dir_all(&folder).ok();
}

#[test]
fn what_an_applied_file_refers_to_is_followed_too() {
    let upstream = Upstream::ok();
    let folder = std::env::temp_dir().join(format!("switchback-applied-secrets-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let secret = folder.join("secret");
    fs::write(&secret, "swordfish").expect("written");
    let (text, switchback) = start(&upstream, &secret);
    let applied = text.replace("[pool.app]", "[pool.app]\nconnect_timeout = \"3s\"");
    assert_eq!(switchback.put_file(&applied).status, 200);
    let source = || switchback.json("GET", "/v1/status", "")["file"]["source"].clone();
    assert_eq!(source(), "applied");
    fs::write(&secret, "herring").expect("written");
    wait_until("the new secret is in use", || {
        switchback.client().exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        upstream.last().head.one("X-Key") == Some("herring")
    });
    assert_eq!(source(), "applied");
    assert_eq!(switchback.json("GET", "/v1/config", "")["text"], applied);
    fs::remove_file(&secret).expect("removed");
    wait_until("it is missed", || !switchback.json("GET", "/v1/status", "")["file"]["error"].is_null());
    assert!(switchback.client().exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200);
    fs::remove_dir_all(&folder).ok();
}
