//! The commands that move traffic and look at it, and what is told of wrong usage.

use std::{net::TcpListener, process::Command};

use serde_json::{Value, json};
use switchback::{config::AdminAddress, control::lifecycle::Phase};

use super::{
    admin_support::Instance,
    port::Reserved,
    run::{code, command, complained, on, parsed, said, switchback},
};

#[test]
fn a_release_is_made_and_taken_back() {
    let instance = Instance::start();
    let weights = on(&instance, &["weights", "shop", "blue=90", "green=10"]);
    assert_eq!((code(&weights), complained(&weights)), (0, String::new()));
    assert_eq!(said(&weights), "shop: blue=90 green=10 old=0 (was blue=95 green=5 old=0), revision 1\n");
    let tried = on(&instance, &["switch", "shop", "green", "--dry-run"]);
    assert_eq!(said(&tried), "shop would be blue=0 green=100 old=0 (is blue=90 green=10 old=0)\n");
    let switched = on(&instance, &["switch", "shop", "green", "--wait"]);
    assert_eq!(code(&switched), 0, "{switched:?}");
    assert!(said(&switched).contains("nothing is in flight on the other pools"));
    let back = on(&instance, &["rollback", "shop", "--json"]);
    assert_eq!((code(&back), &parsed(&back)["weights"]), (0, &json!({"blue": 95, "green": 5, "old": 0})));
    let again = on(&instance, &["rollback", "shop"]);
    assert_eq!(
        (code(&again), said(&again)),
        (0, "shop: nothing to change, it is at blue=95 green=5 old=0\n".into())
    );
    let third = on(&instance, &["rollback", "shop", "--to-revision", "1"]);
    assert_eq!(code(&third), 0);
    assert_eq!(instance.plane.control.snapshot().state.revision(), 4);
}

#[test]
fn a_refusal_is_1_and_says_what_is_allowed() {
    let instance = Instance::start();
    let refused = on(&instance, &["switch", "shop", "gren"]);
    assert_eq!(code(&refused), 1);
    assert!(complained(&refused).contains("did you mean \"green\"?"), "{refused:?}");
    assert!(complained(&refused).contains("allowed: blue, green, old"), "{refused:?}");
    let refused = on(&instance, &["weights", "shop", "purple=1", "pink=1"]);
    assert_eq!(complained(&refused).matches("allowed:").count(), 1, "{refused:?}");
    for arguments in [
        &["weights", "shop", "blue=0"][..],
        &["weights", "../status", "blue=1"],
        &["weights", "shop", "purple=1"],
        &["rollback", "nothing"],
        &["rollback", "shop", "--to-revision", "9"],
        &["explain", "http://shop.example.com/x", "-H", "a: b\nc: d"],
    ] {
        let refused = on(&instance, arguments);
        assert_eq!((code(&refused), said(&refused)), (1, String::new()), "{arguments:?}");
        assert!(!complained(&refused).is_empty());
    }
    let refused = on(&instance, &["switch", "shop", "gren", "--json"]);
    let problem: Value = serde_json::from_slice(&refused.stderr).expect("a problem document");
    assert_eq!((&problem["pointer"], &problem["status"]), (&json!("/to"), &json!(422)));
    assert_eq!(instance.plane.control.snapshot().state.revision(), 0);
}

#[test]
fn a_switch_that_does_not_drain_in_time_is_1_and_in_force() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let left = on(&instance, &["switch", "shop", "green", "--wait", "--timeout", "30ms"]);
    assert_eq!(code(&left), 1);
    assert!(complained(&left).contains("blue=1"), "{left:?}");
    assert_eq!(instance.plane.control.snapshot().state.revision(), 1);
    instance.occupy("blue", false);
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &[][..],
        &["swich", "shop", "green"],
        &["weights", "shop"],
        &["weights", "shop", "green"],
        &["weights", "shop", "green=-1"],
        &["weights", "shop", "green=1", "green=2"],
        &["switch", "shop", "green", "--timeout", "1s"],
        &["switch", "shop", "green", "--wait", "--timeout", "30m"],
        &["schema", "--json"],
        &["run", "-c", "x.toml", "--admin", "http://127.0.0.1:9900"],
        &["rollback", "shop", "--to-revision", "x"],
        &["explain", "/no/host"],
        &["explain", "http://x/", "-H", "nocolon"],
        &["status", "--admin", "127.0.0.1:9900"],
        &["status", "--admin", "ftp://127.0.0.1:9900"],
        &["status", "--token", "a\nb"],
        &["status", "--interval", "1s"],
        &["status", "--watch", "--interval", "10ms"],
        &["history", "--limit", "0"],
        &["history", "--limit", "10001"],
        &["revision"],
        &["revision", "-1"],
        &["restore", "x"],
        &["events", "--since", "x"],
        &["events", "--watch"],
        &["switch", "shop", "green", "--reason", ""],
        &["switch", "shop", "green", "--reason", "two\nlines"],
        &["switch", "shop", "green", "--if-match", "a b"],
        &["switch", "shop", "green", "--if-match", "r1", "--if-revision", "1"],
        &["status", "--reason", "none"],
        &["completions"],
        &["completions", "tcsh"],
        &["man", "--json"],
        &["--admin", "http://127.0.0.1:1", "status", "--admin", "http://127.0.0.1:2"],
        &["status", "--admin", "http://127.0.0.1:1", "--instance", "shop"],
        &["status", "--instance", "shop"],
        &["token", "list", "--file", "tokens.toml", "--admin", "http://127.0.0.1:1"],
    ] {
        let wrong = switchback(arguments);
        assert_eq!(code(&wrong), 2, "{arguments:?}: {wrong:?}");
        assert!(!complained(&wrong).is_empty(), "{arguments:?}");
    }
}

#[test]
fn nobody_there_is_3() {
    let nobody = Reserved::any();
    for admin in [format!("http://{}", nobody.address), "unix:/nonexistent/switchback.sock".to_owned()] {
        for arguments in [
            &["status"][..],
            &["status", "--watch"],
            &["health"],
            &["switch", "shop", "green"],
            &["switch", "shop", "green", "--if-revision", "0"],
            &["drain", "blue"],
            &["endpoint", "set", "blue", "127.0.0.1:1"],
            &["history"],
            &["revision", "1"],
            &["restore", "1"],
            &["events"],
            &["drift"],
            &["config", "export"],
            &["config", "reload"],
            &["upgrade"],
            &["token", "list"],
            &["token", "revoke", "ci"],
        ] {
            let alone = switchback(&[arguments, &["--admin", &admin]].concat());
            assert_eq!(code(&alone), 3, "{alone:?}");
            assert!(complained(&alone).contains(&admin), "{alone:?}");
        }
    }
}

#[test]
fn what_is_not_an_admin_api_is_3() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().expect("the client comes");
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").expect("it reads");
    });
    let other = switchback(&["status", "--admin", &format!("http://{address}")]);
    assert_eq!(code(&other), 3, "{other:?}");
    server.join().expect("the server ends");
}

#[test]
fn what_answers_json_of_another_shape_is_1() {
    use std::io::{Read, Write};
    for arguments in [
        &["status"][..],
        &["health"],
        &["health", "--live"],
        &["weights", "shop", "blue=1"],
        &["switch", "shop", "green"],
        &["explain", "http://x/"],
        &["history"],
        &["revision", "1"],
        &["restore", "1"],
        &["events"],
        &["drift"],
        &["drain", "blue"],
        &["config", "export"],
        &["config", "reload"],
        &["token", "list"],
        &["token", "new", "--role", "viewer"],
        &["token", "revoke", "ci"],
        &["upgrade"],
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client comes");
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("it reads");
        });
        let other = switchback(&[arguments, &["--admin", &url]].concat());
        assert_eq!((code(&other), said(&other)), (1, String::new()), "{arguments:?}: {other:?}");
        assert!(complained(&other).contains("not the admin API"), "{other:?}");
        server.join().expect("the server ends");
    }
}

#[test]
fn an_exported_file_is_what_the_instance_wrote() {
    use std::io::{Read, Write};
    let text = "# é\r\n[pool.blue]\r\n\tendpoints = []\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("the client comes");
            let _ = stream.read(&mut [0; 4096]);
            let length = text.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/toml\r\nContent-Length: {length}\r\n\r\n"
            );
            stream.write_all((head + text).as_bytes()).expect("it reads");
        }
    });
    let exported = switchback(&["config", "export", "--admin", &url]);
    assert_eq!((code(&exported), said(&exported).as_str()), (0, text));
    let exported = switchback(&["config", "export", "--json", "--admin", &url]);
    assert_eq!(parsed(&exported), json!({ "text": text }));
    server.join().expect("the server ends");
}

#[test]
fn an_answer_that_can_t_be_written_is_1_and_one_that_nobody_reads_is_not() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut schema = Command::new(env!("CARGO_BIN_EXE_switchback"));
    let unwritten = schema.arg("schema").stdout(full).output().expect("the binary starts");
    assert_eq!(code(&unwritten), 1, "{unwritten:?}");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let unread = schema.stdout(writer).output().expect("the binary starts");
    assert_eq!((code(&unread), complained(&unread)), (0, String::new()));
}

#[test]
fn what_nobody_reads_is_printed_to_nobody() {
    let instance = Instance::start();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["status", "--watch"],
        &["status", "--watch", "--json"],
        &["weights", "shop", "blue=1"],
        &["history"],
        &["revision", "1"],
        &["restore", "0"],
        &["events", "--since", "0"],
        &["events", "--since", "0", "--json"],
        &["explain", "http://shop.example.com/"],
        &["drift"],
        &["config", "export"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let unread = command().args(arguments).args(["--admin", &instance.url()]).stdout(writer).output();
        let unread = unread.expect("the binary starts");
        assert_eq!((code(&unread), complained(&unread)), (0, String::new()), "{arguments:?}");
    }
}

#[test]
fn a_demo_that_nobody_looks_at_ends_and_one_whose_address_is_taken_says_what_to_do() {
    let demo = |listen: &str, output: std::process::Stdio| {
        Command::new(env!("CARGO_BIN_EXE_switchback"))
            .args(["demo", "--listen", listen, "--admin-listen", "127.0.0.1:0"])
            .stdout(output)
            .output()
            .expect("the binary starts")
    };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let unseen = demo("127.0.0.1:0", writer.into());
    assert_eq!((code(&unseen), complained(&unseen)), (0, String::new()));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let failed = demo(&address, std::process::Stdio::piped());
    assert_eq!(code(&failed), 1, "{failed:?}");
    assert_eq!(complained(&failed).matches("in use").count(), 1, "{failed:?}");
    assert!(complained(&failed).contains("--admin-listen"), "{failed:?}");
}

#[test]
fn status_and_explain_are_shown_in_tables_and_as_json() {
    let instance = Instance::start();
    instance.count("blue", 19);
    instance.count("green", 1);
    let status = on(&instance, &["status"]);
    let row = |first: &str, second: &str| {
        let text = said(&status);
        let row =
            text.lines().find(|line| line.starts_with(first) && line.contains(second)).map(str::to_owned);
        row.unwrap_or_else(|| panic!("no row {first} {second} in\n{text}"))
    };
    assert!(row("shop", "blue").contains("95.0 %"));
    assert!(row("green", "127.0.0.1:9011").contains("available"));
    assert_eq!(parsed(&on(&instance, &["status", "--json"]))["splits"][0]["share"]["blue"], json!(0.95));
    let url = "http://shop.example.com/cart?x=1";
    let explained = on(&instance, &["explain", url, "-X", "POST", "-H", "Canary: true", "--json"]);
    assert_eq!((code(&explained), &parsed(&explained)["route"]), (0, &json!("shop")));
    assert!(said(&on(&instance, &["explain", url])).contains("  1. "));
}

#[test]
fn health_is_for_probes() {
    let instance = Instance::start();
    assert_eq!(code(&on(&instance, &["health"])), 0);
    instance.plane.lifecycle.advance(Phase::Draining);
    assert_eq!(code(&on(&instance, &["health"])), 1);
    assert_eq!(code(&on(&instance, &["health", "--live"])), 0);
}

#[test]
fn the_environment_says_which_instance_and_a_unix_socket_will_do() {
    let path = std::env::temp_dir().join(format!("switchback-cli-{}.sock", std::process::id()));
    let instance = Instance::at(AdminAddress::Unix(path));
    let status = command()
        .args(["status", "--json"])
        .env("SWITCHBACK_ADMIN", instance.url())
        .env("SWITCHBACK_TOKEN", "not needed")
        .output()
        .expect("the binary starts");
    assert_eq!((code(&status), &parsed(&status)["generation"]), (0, &json!(1)));
}

#[test]
fn a_file_is_checked_with_all_its_errors() {
    let file = std::env::temp_dir().join(format!("switchback-cli-{}.toml", std::process::id()));
    let path = file.to_str().expect("a path in UTF-8");
    std::fs::write(&file, "[pool.blue]\nendpoint = []\n[[route]]\npool = \"bleu\"\n")
        .expect("it can be written");
    let wrong = switchback(&["check", "-c", path]);
    assert_eq!(code(&wrong), 1);
    assert!(complained(&wrong).contains("endpoints"), "{wrong:?}");
    let wrong = switchback(&["check", "-c", path, "--json"]);
    let errors: Value = serde_json::from_slice(&wrong.stderr).expect("the errors as JSON");
    assert!(errors["errors"].as_array().is_some_and(|errors| errors.len() > 1), "{errors}");
    std::fs::remove_file(&file).expect("it is there");
    assert_eq!(code(&switchback(&["check", "-c", path])), 1);
    assert_eq!(code(&switchback(&["run", "-c", path])), 1);
    assert_eq!(
        code(&switchback(&["check", "-c", concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml")])),
        0
    );
    assert!(parsed(&switchback(&["schema"]))["properties"].is_object());
}

#[test]
fn help_teaches_with_examples() {
    let help = switchback(&["--help"]);
    assert_eq!(code(&help), 0);
    assert!(!said(&switchback(&["run", "--help"])).contains("--admin"));
    assert!(said(&switchback(&["status", "--help"])).contains("--admin"));
    for example in ["switchback demo", "switchback switch shop green", "Exit codes"] {
        assert!(said(&help).contains(example), "{example}");
    }
    assert!(said(&switchback(&["weights", "--help"])).contains("switchback weights shop blue=90 green=10"));
}

#[test]
fn the_options_of_a_call_may_stand_before_its_name() {
    let instance = Instance::start();
    let status = switchback(&["--admin", &instance.url(), "--json", "status"]);
    assert_eq!(code(&status), 0, "{status:?}");
    assert!(parsed(&status)["generation"].is_u64(), "{status:?}");
}

#[test]
fn the_demo_s_admin_api_is_for_this_machine_alone() {
    let output = switchback(&["demo", "--admin-listen", "0.0.0.0:9900"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--admin-listen") && said.contains("only a loopback address"), "{said}");
    assert!(!said.contains("configuration"), "it blames a file that nobody has seen: {said}");
}
