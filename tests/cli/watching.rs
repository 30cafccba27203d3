//! What is shown again and again, and what is shown while a command waits; colours, and terminals that want none.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::Value;

use super::{
    admin_support::Instance,
    run::{command, said},
    terminal::{read_until, rest, terminal},
};

fn interrupt(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our own child");
}

#[test]
fn the_status_is_shown_in_the_same_place_of_a_terminal() {
    let instance = Instance::start();
    let (mut shown, stdout) = terminal();
    let mut child = command()
        .args(["status", "--watch", "--interval", "200ms", "--admin", &instance.url()])
        .env("TERM", "xterm")
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let first = read_until(&mut shown, "\x1b[J");
    assert!(first.starts_with("\x1b[2J\x1b[H\x1b[?7lSwitchback "), "{first:?}");
    assert!(first.contains("\x1b[32mavailable\x1b[0m"), "{first:?}");
    assert!(first.contains("revision 0"), "{first:?}");
    assert_eq!(instance.call("PUT", "/v1/splits/shop/weights", Some("{\"blue\": 1}")).status, 200);
    let mut next = read_until(&mut shown, "\x1b[J");
    while !next.contains("revision 1") {
        assert!(next.starts_with("\x1b[H\x1b[?7lSwitchback ") && !next.contains("\x1b[2J"), "{next:?}");
        next = read_until(&mut shown, "\x1b[J");
    }
    interrupt(&child);
    assert_eq!(child.wait().expect("our own child").code(), Some(0));
}

#[test]
fn elsewhere_it_is_block_after_block_and_for_scripts_an_object_a_line() {
    let instance = Instance::start();
    let start = |arguments: &[&str]| {
        let mut child = command()
            .args(["status", "--watch", "--interval", "200ms", "--admin", &instance.url()])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        (child, lines.map(|line| line.expect("it writes UTF-8")))
    };
    let (mut child, mut lines) = start(&[]);
    for _ in 0..2 {
        assert!(lines.by_ref().any(|line| line.starts_with("Switchback ") && !line.contains('\x1b')));
    }
    // A reader that goes away ends it.
    drop(lines);
    assert_eq!(child.wait().expect("our own child").code(), Some(0));
    let (mut child, mut lines) = start(&["--json"]);
    for _ in 0..2 {
        let status: Value = serde_json::from_str(&lines.next().expect("it goes on")).expect("JSON");
        assert!(status["generation"].is_u64());
    }
    interrupt(&child);
    assert_eq!(child.wait().expect("our own child").code(), Some(0));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let instance = Instance::start();
    let on_a_terminal = |variables: &[(&str, &str)]| {
        let (mut shown, stdout) = terminal();
        let mut command = command();
        command
            .args(["status", "--admin", &instance.url()])
            .env("TERM", "xterm")
            .envs(variables.iter().copied());
        let mut child = command.stdout(stdout).spawn().expect("the binary starts");
        // It holds our copy of the terminal's other side open.
        drop(command);
        let text = rest(&mut shown);
        assert!(child.wait().expect("our own child").success());
        text
    };
    assert!(on_a_terminal(&[]).contains("\x1b[32mavailable\x1b[0m"));
    for unwanted in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_a_terminal(&[unwanted]);
        assert!(text.contains("available") && !text.contains('\x1b'), "{unwanted:?}: {text:?}");
    }
    let piped = command().args(["status", "--admin", &instance.url()]).env("TERM", "xterm").output();
    assert!(!said(&piped.expect("the binary starts")).contains('\x1b'));
}

#[test]
fn who_looks_on_sees_what_is_left_after_a_switch() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let (mut shown, stderr) = terminal();
    let mut command = command();
    command.args(["switch", "shop", "green", "--wait", "--timeout", "5m", "--admin", &instance.url()]);
    let child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary starts");
    drop(command);
    let line = read_until(&mut shown, " s");
    assert!(line.starts_with("\r\x1b[Kstill in flight: blue=1, after "), "{line:?}");
    instance.occupy("blue", false);
    let erased = rest(&mut shown);
    assert!(erased.ends_with("\r\x1b[K") && !erased.contains('\n'), "nothing stays of it: {erased:?}");
    let output = child.wait_with_output().expect("our own child");
    assert!(output.status.success() && said(&output).ends_with("nothing is in flight on the other pools\n"));
}

#[test]
fn a_log_gets_a_line_now_and_then() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let mut child = command()
        .args(["switch", "shop", "green", "--wait", "--timeout", "5m", "--admin", &instance.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let line = BufReader::new(child.stderr.take().expect("piped")).lines().next().expect("a line");
    let line = line.expect("it writes UTF-8");
    assert!(line.starts_with("still in flight: blue=1, after ") && !line.contains('\x1b'), "{line:?}");
    instance.occupy("blue", false);
    assert!(child.wait().expect("our own child").success());
}
