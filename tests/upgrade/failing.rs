//! A successor that does not come to serve, in each way: the old process goes on, takes changes, and says why.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Command,
};

use crate::{
    Line, green,
    killed::children,
    support::{Upstream, config::blue_green, wait_until},
    weigh,
};

/// A program of the test's own, beside its file.
fn program(line: &Line, script: &str) -> PathBuf {
    let path = line.first.file().with_file_name("successor");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a writable folder");
    for (part, mode) in [(path.as_path(), 0o755), (path.parent().expect("a folder"), 0o755)] {
        fs::set_permissions(part, fs::Permissions::from_mode(mode)).expect("our own");
    }
    path
}

/// Tries to replace the process, fails, and finds it as it was; answers what was said.
fn refused(line: &Line, arguments: &[&str]) -> String {
    let mut open = line.first.client();
    open.expect_alive("before");
    let pid = line.serving();
    let output = line.upgrade(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    open.expect_alive("a connection of before");
    line.first.client().expect_alive("a new one");
    assert_eq!(line.serving(), pid);
    let next = green(&line.status()) + 1;
    let answer = weigh(&line.first, next);
    assert_eq!(answer.status, 200, "changes are taken again: {}", answer.text());
    assert_eq!(green(&line.status()), next);
    wait_until("nobody else is left", || line.processes() == [pid]);
    String::from_utf8(output.stderr).expect("text")
}

fn start() -> (Line, Upstream) {
    let upstream = Upstream::ok();
    let config = blue_green(1, (1_000_000, 0), "", &upstream, &upstream);
    (Line::keeping(&config), upstream)
}

#[test]
fn a_program_that_fails_hangs_or_is_no_switchback_leaves_the_old_process() {
    let (line, _upstream) = start();
    for (script, timeout, said) in [
        ("echo out of order >&2; exit 3", "60s", "out of order"),
        ("exec sleep 600", "500ms", "longer than 500ms"),
        ("printf 'SSH-2.0-OpenSSH' >&0; exec sleep 600", "20s", "the message is too large"),
        ("printf '\\002\\000\\000\\000no' >&0; exec sleep 600", "20s", "does not speak as a Switchback"),
    ] {
        let program = program(&line, script);
        let words = refused(&line, &["--binary", program.to_str().expect("UTF-8"), "--timeout", timeout]);
        assert!(words.contains(said), "{script}: {words}");
    }
    for (path, said) in
        [("switchback", "absolute path"), ("/no/such", "No such file"), ("/etc/passwd", "executable")]
    {
        let words = refused(&line, &["--binary", path]);
        assert!(words.contains(said), "{path}: {words}");
    }
}

#[test]
fn a_stop_waits_for_nothing_that_a_program_has_left_behind() {
    let (line, _upstream) = start();
    let old = line.first.pid();
    let program = program(&line, "sleep 25 <&0 & exec sleep 600");
    let binary = program.to_str().expect("UTF-8");
    let mut upgrading = line
        .upgrading(&["--binary", binary, "--timeout", "10m"])
        .spawn()
        .expect("the binary that cargo built");
    wait_until("the program is started", || !children(old).is_empty());
    let term = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &old.to_string()]).status();
    assert!(term.expect("a shell").success());
    wait_until("the old process has ended", || !line.processes().contains(&old));
    assert!(!upgrading.wait().expect("our own child").success());
}

#[test]
fn a_link_is_run_as_what_it_leads_to_and_only_where_nobody_else_could_have_it_lead_elsewhere() {
    let (line, _upstream) = start();
    let program = program(&line, "echo \"run as $0\" >&2; exit 3");
    let folder = line.first.file().with_file_name("links");
    let link = folder.join("switchback");
    fs::create_dir(&folder).expect("a writable folder");
    symlink("../successor", &link).expect("a new link");
    for (mode, said) in [(0o755, format!("run as {}", program.display())), (0o777, "may write".to_owned())] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("our own");
        let words = refused(&line, &["--binary", link.to_str().expect("UTF-8")]);
        assert!(words.contains(&said), "{mode:o}: {words}");
    }
}

#[test]
fn a_file_that_is_wrong_by_now_leaves_the_old_process_and_a_mended_one_is_served() {
    let (line, _upstream) = start();
    let file = line.first.file();
    let good = fs::read_to_string(&file).expect("the test's file");
    fs::write(&file, format!("nonsense = 1\n{good}")).expect("a writable folder");
    let words = refused(&line, &[]);
    assert!(words.contains("nonsense"), "{words}");
    // This one is found out only when the old process has given the state up.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    fs::write(&file, format!("{good}\n[[listener]]\nname = \"other\"\nlisten = \"{address}\"\n"))
        .expect("a writable folder");
    let words = refused(&line, &[]);
    assert!(words.contains("listener other"), "{words}");
    drop(taken);
    let before = green(&line.status());
    let pid = line.replace();
    assert_eq!((line.serving(), green(&line.status())), (pid, before));
    crate::support::Client::connect(address).expect_alive("the listener that is new");
}
