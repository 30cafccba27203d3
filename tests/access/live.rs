//! Tokens come and go while the instance runs: by the command line, by the API, by whoever writes the file.

use std::{fs, io::Read, io::Write, net::Ipv4Addr, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use super::{Ask, Folder, Guarded, connect, support::Client, until};

impl Guarded {
    fn metric(&self, name: &str) -> String {
        let mut client = Client::connect(self.switchback.health.expect("this file names one"));
        client.send("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let text = client.response("GET").whole().text();
        let found =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        found.unwrap_or_else(|| panic!("no {name}"))
    }
}

#[test]
fn without_a_file_nobody_comes_in_until_there_is_one() {
    let guarded = Guarded::start(Folder::new());
    assert_eq!(guarded.get("/v1/status", None).status, 401);
    assert_eq!(guarded.metric("switchback_admin_tokens_file_good"), "0");
    assert!(guarded.switchback.stderr().contains("switchback token new"), "the log says what to do");
    let token = guarded.folder.make("viewer", "first", &[]);
    until("a token that was made counts", || guarded.get("/v1/status", Some(&token)).status == 200);
    let status = guarded.get("/v1/status", Some(&token)).json();
    assert_eq!(status["access"], json!({ "tokens": 1, "file": "in_force" }));
}

#[test]
fn a_wrong_file_changes_nothing_and_one_that_is_gone_closes() {
    let folder = Folder::new();
    let token = folder.make("admin", "keeper", &[]);
    let guarded = Guarded::start(folder);
    let path = guarded.folder.tokens();
    let good = fs::read(&path).expect("a file");
    let standing = || guarded.get("/v1/status", Some(&token)).json()["access"]["file"].clone();
    fs::write(&path, "[[token]]\nname = \"half").expect("a writable file");
    until("the status says that the file is refused", || standing() == "refused");
    assert_eq!(guarded.metric("switchback_admin_tokens"), "1");
    let refused = Ask { token: Some(&token), body: "{\"role\": \"viewer\"}", ..Ask::default() };
    let refused = guarded.ask("POST", "/v1/tokens", refused);
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (409, "refused-tokens"),
        "it is not overwritten"
    );
    fs::write(&path, &good).expect("a writable file");
    until("the file is good again", || standing() == "in_force");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("our own file");
    until("a file that others may write is refused", || standing() == "refused");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
    until("the file is good again", || standing() == "in_force");
    fs::remove_file(&path).expect("our own file");
    until("no token counts", || guarded.get("/v1/status", Some(&token)).status != 200);
    fs::write(&path, &good).expect("a writable folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
    until("the token is back", || guarded.get("/v1/status", Some(&token)).status == 200);
}

#[test]
fn the_api_makes_shows_and_revokes_tokens_at_once() {
    let folder = Folder::new();
    let admin = folder.make("admin", "root", &[]);
    let guarded = Guarded::start(folder);
    let ask = |method: &str, path: &str, body: &str| {
        guarded.ask(method, path, Ask { token: Some(&admin), body, ..Ask::default() })
    };
    let body = "{\"name\": \"ci\", \"role\": \"operator\", \"expires\": \"90d\"}";
    let tried = ask("POST", "/v1/tokens?dry_run=true", body).json();
    assert_eq!((&tried["dry_run"], &tried["token"]), (&json!(true), &json!(null)));
    assert_eq!(ask("GET", "/v1/tokens", "").json()["tokens"], json!(1), "a dry run makes none");
    let made = ask("POST", "/v1/tokens", body).json();
    let token = made["token"].as_str().expect("it is shown this once").to_owned();
    assert!(token.starts_with("sb_") && token.len() == 67, "{}", token.len());
    assert_eq!(guarded.get("/v1/status", Some(&token)).status, 200, "it counts at once");
    let listed = ask("GET", "/v1/tokens", "");
    assert!(!listed.body.contains("sb_"), "{}", listed.body);
    assert_eq!(listed.json()["listed"][1]["name"], json!("ci"));
    assert_eq!(ask("POST", "/v1/tokens", body).status, 409, "the name is taken");
    let file = fs::read_to_string(guarded.folder.tokens()).expect("a file");
    assert!(!file.contains(&token[3..]) && file.contains("sha256"));

    // A stream of events that was opened with it ends with it.
    let mut events = connect(Ipv4Addr::LOCALHOST, guarded.switchback.admin);
    let address = guarded.switchback.admin;
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    events.write_all(request.as_bytes()).expect("it reads");
    let mut first = [0; 12];
    events.read_exact(&mut first).expect("it answers");
    assert_eq!(&first, b"HTTP/1.1 200");
    assert_eq!(ask("DELETE", "/v1/tokens/ci?dry_run=true", "").status, 200);
    assert_eq!(guarded.get("/v1/status", Some(&token)).status, 200, "a dry run revokes none");
    assert_eq!(ask("DELETE", "/v1/tokens/ci", "").json()["name"], json!("ci"));
    assert_eq!(guarded.get("/v1/status", Some(&token)).status, 401, "it counts no more at once");
    let mut rest = Vec::new();
    events.read_to_end(&mut rest).expect("the stream ends");
    let gone = ask("DELETE", "/v1/tokens/ci", "");
    assert_eq!((gone.status, gone.problem().as_str()), (404, "unknown-token"));
}

#[test]
fn what_a_token_can_t_be_is_named_by_its_pointer() {
    let folder = Folder::new();
    let admin = folder.make("admin", "root", &[]);
    let guarded = Guarded::start(folder);
    let long = format!("{{\"role\": \"viewer\", \"name\": \"{}\"}}", "x".repeat(10_240));
    for (body, pointer) in [
        ("{\"role\": \"root\"}", "/role"),
        ("{}", "/role"),
        ("{\"role\": 1}", "/role"),
        ("{\"role\": \"viewer\", \"name\": \"../../etc/passwd\"}", "/name"),
        ("{\"role\": \"viewer\", \"name\": \"größe\"}", "/name"),
        ("{\"role\": \"viewer\", \"name\": 7}", "/name"),
        (&long, "/name"),
        ("{\"role\": \"viewer\", \"expires\": \"0s\"}", "/expires"),
        ("{\"role\": \"viewer\", \"expires\": \"100years\"}", "/expires"),
        ("{\"role\": \"viewer\", \"expires\": 90}", "/expires"),
        ("{\"role\": \"viewer\", \"sha256\": \"00\"}", "/sha256"),
    ] {
        let answer = guarded.ask("POST", "/v1/tokens", Ask { token: Some(&admin), body, ..Ask::default() });
        assert_eq!((answer.status, &answer.json()["pointer"]), (422, &json!(pointer)), "{body:.80}");
        assert!(answer.body.len() < 2_000, "a megabyte is not repeated back");
    }
    let none = fs::read_to_string(guarded.folder.tokens()).expect("a file");
    assert_eq!(none.matches("[[token]]").count(), 1, "nothing of it was kept");
}
