//! `switchback token` with a running instance, beside its file.

use serde_json::{Value, json};

use super::{
    admin_support::Instance,
    run::{Folder, code, command, complained, parsed, said},
};

#[test]
fn tokens_are_made_listed_and_revoked_live() {
    let folder = Folder::new();
    let file = folder.path().join("tokens.toml").display().to_string();
    let admin =
        command().args(["token", "new", "--role", "admin", "--name", "keeper", "--file", &file]).output();
    let admin = said(&admin.expect("the binary starts")).trim().to_owned();
    let instance = Instance::with(|config| config.tokens = Some(file.clone().into()));
    let run = |arguments: &[&str], token: &str| {
        let output = command()
            .args(arguments)
            .args(["--admin", &instance.url()])
            .env("SWITCHBACK_TOKEN", token)
            .output();
        output.expect("the binary starts")
    };
    let made = run(&["token", "new", "--role", "viewer", "--name", "board", "--expires", "90d"], &admin);
    assert_eq!(code(&made), 0, "{made:?}");
    let token = said(&made).trim().to_owned();
    assert!(token.starts_with("sb_") && !complained(&made).contains(&token), "{made:?}");
    assert_eq!(code(&run(&["status"], &token)), 0, "it counts at once");
    let unnamed = parsed(&run(&["token", "new", "--role", "operator", "--json"], &admin));
    assert!(unnamed["token"].is_string() && unnamed["role"] == "operator", "{unnamed}");

    let live = parsed(&run(&["token", "list", "--json"], &admin));
    let filed =
        command().args(["token", "list", "--json", "--file", &file]).output().expect("the binary starts");
    let names = |listed: &Value| -> Vec<_> {
        let tokens = listed["tokens"].as_array().expect("a list").iter();
        tokens.map(|token| (token["name"].clone(), token["role"].clone(), token["expired"].clone())).collect()
    };
    assert_eq!(names(&live), names(&parsed(&filed)), "both have one shape");
    assert_eq!(names(&live).len(), 3);
    assert!(said(&run(&["token", "list"], &admin)).contains("board"));

    let refused = run(&["token", "revoke", "board"], &token);
    assert_eq!(code(&refused), 1, "{refused:?}");
    assert!(complained(&refused).contains("needs the role admin"), "{refused:?}");
    let revoked = run(&["token", "revoke", "board", "--json"], &admin);
    assert_eq!((code(&revoked), &parsed(&revoked)["name"]), (0, &json!("board")));
    assert_eq!(code(&run(&["status"], &token)), 1, "it counts no more");
    let again = run(&["token", "revoke", "bord"], &admin);
    assert_eq!(code(&again), 1, "{again:?}");
    assert_eq!(code(&run(&["token", "new", "--role", "viewer", "--name", "keeper"], &admin)), 1);
}

#[test]
fn the_environment_does_not_make_the_commands_about_tokens_live() {
    let folder = Folder::new();
    let output = command()
        .args(["token", "new", "--role", "admin"])
        .env("SWITCHBACK_ADMIN", "http://127.0.0.1:1")
        .current_dir(folder.path())
        .output()
        .expect("the binary starts");
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(folder.path().join("tokens.toml").exists());
}
