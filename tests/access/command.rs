//! `switchback token`, and what the other commands say where a token is asked for.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Output};

use serde_json::{Value, json};

use super::{Folder, Guarded, switchback};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complained(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_token_is_made_shown_once_listed_and_revoked() {
    let folder = Folder::new();
    let made = folder.token(&["new", "--role", "operator", "--name", "ci", "--expires", "90d"]);
    let token = said(&made).trim().to_owned();
    assert!(token.starts_with("sb_") && token.len() == 67, "{made:?}");
    assert!(!complained(&made).contains(&token), "the token alone is on the standard output, and only there");
    let file = fs::read_to_string(folder.tokens()).expect("it was made");
    assert!(!file.contains(&token[3..]), "{file}");
    assert_eq!(fs::metadata(folder.tokens()).expect("it is there").permissions().mode() & 0o777, 0o600);

    let listed: Value = serde_json::from_slice(&folder.token(&["list", "--json"]).stdout).expect("JSON");
    assert_eq!(
        (&listed["tokens"][0]["name"], &listed["tokens"][0]["role"]),
        (&json!("ci"), &json!("operator"))
    );
    let table = said(&folder.token(&["list"]));
    assert!(table.contains("ci") && !table.contains("sb_"), "{table}");
    let again = folder.token(&["new", "--role", "viewer", "--name", "ci"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(complained(&again).contains("already"), "{again:?}");
    assert_eq!(folder.token(&["revoke", "ci"]).status.code(), Some(0));
    assert_eq!(folder.token(&["revoke", "ci"]).status.code(), Some(1));
    for wrong in [&["new", "--role", "root"][..], &["new", "--role", "viewer", "--name", "a b"], &["new"]] {
        assert_eq!(folder.token(wrong).status.code(), Some(2), "{wrong:?}");
    }
    fs::write(folder.tokens(), "not a file of tokens").expect("a writable file");
    let refused = folder.token(&["new", "--role", "viewer"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).is_empty(), "no token is shown that was not kept: {refused:?}");
}

#[test]
fn the_other_commands_say_that_a_token_or_a_role_is_missing() {
    let folder = Folder::new();
    let viewer = folder.make("viewer", "looks", &[]);
    let guarded = Guarded::start(folder);
    let admin = format!("http://{}", guarded.switchback.admin);
    let run = |token: Option<&str>, arguments: &[&str]| {
        let mut command = switchback();
        command.args(arguments).args(["--admin", &admin]);
        if let Some(token) = token {
            command.env("SWITCHBACK_TOKEN", token);
        }
        command.output().expect("the binary starts")
    };
    let without = run(None, &["status"]);
    assert_eq!(without.status.code(), Some(1), "{without:?}");
    assert!(complained(&without).contains("SWITCHBACK_TOKEN"), "{without:?}");
    let wrong = run(Some("sb_wrong"), &["status"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        complained(&wrong).contains("not known") && !complained(&wrong).contains("sb_wrong"),
        "{wrong:?}"
    );
    let unsendable = run(Some("sb_\u{7}secret"), &["status"]);
    assert_eq!(unsendable.status.code(), Some(2));
    assert!(!complained(&unsendable).contains("secret"), "{unsendable:?}");
    assert_eq!(run(Some(&format!("{viewer}\n")), &["status"]).status.code(), Some(0));
    let refused = run(Some(&viewer), &["switch", "main", "green"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complained(&refused).contains("needs the role operator"), "{refused:?}");
    assert_eq!(run(None, &["health"]).status.code(), Some(0), "probes need no token");
}
