//! The commands that drain, add and remove endpoints, and drain pools: what they print, and their exit codes.

use std::{
    fs::File,
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use super::{
    admin_support::Instance,
    run::{command, switchback},
    terminal::{read_until, rest, terminal},
};

const BLUE: &str = "127.0.0.1:9001";

/// Exit code, standard output, standard error.
fn on(instance: &Instance, arguments: &[&str]) -> (i32, String, String) {
    let output = switchback(&[arguments, &["--admin", &instance.url()]].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (output.status.code().expect("it ends by itself"), text(output.stdout), text(output.stderr))
}

#[test]
fn an_endpoint_is_drained_and_takes_traffic_again() {
    let instance = Instance::start();
    let (code, said, _) = on(&instance, &["drain", "blue", BLUE, "--deadline", "1m", "--wait"]);
    assert_eq!(
        (code, said.as_str()),
        (
            0,
            "127.0.0.1:9001 of pool blue drains (weight 1): deadline 1m, streams 1m, pins move, revision 1\n\
             nothing is in flight there\n"
        )
    );
    let (code, said, _) = on(&instance, &["drain", "blue", BLUE]);
    assert_eq!(code, 0);
    assert!(said.contains("nothing to change, it drains"), "{said}");
    let (code, said, _) = on(&instance, &["undrain", "blue", BLUE]);
    assert_eq!(
        (code, said.as_str()),
        (0, "127.0.0.1:9001 of pool blue takes traffic (weight 1), revision 2\n")
    );
}

#[test]
fn a_pool_is_drained_and_takes_traffic_again() {
    let instance = Instance::start();
    let drain =
        ["drain", "blue", "--deadline", "10m", "--stream-deadline", "off", "--pins", "move", "--json"];
    let (code, said, _) = on(&instance, &drain);
    let drained: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &drained["kind"]), (0, &json!("drain")));
    let drain = &drained["drain"];
    assert_eq!(
        (&drain["deadline"], &drain["stream_deadline"], &drain["pins"]),
        (&json!("10m"), &json!("off"), &json!("move"))
    );
    let (code, said, _) = on(&instance, &["undrain", "blue", "--dry-run"]);
    assert_eq!((code, said.as_str()), (0, "pool blue then takes traffic\n"));
    let (code, said, _) = on(&instance, &["undrain", "blue"]);
    assert_eq!((code, said.as_str()), (0, "pool blue takes traffic, revision 2\n"));
}

#[test]
fn endpoints_are_added_weighed_and_removed() {
    let instance = Instance::start();
    let (code, said, _) = on(&instance, &["endpoint", "set", "blue", "[::1]:9002", "--weight", "3"]);
    assert_eq!((code, said.as_str()), (0, "[::1]:9002 of pool blue takes traffic (weight 3), revision 1\n"));
    let (code, said, _) = on(&instance, &["endpoint", "remove", "blue", "[::1]:9002", "--wait"]);
    assert_eq!(code, 0);
    assert!(said.contains("drains and is then removed") && said.contains("nothing is in flight"), "{said}");
    let (code, _, complaint) = on(&instance, &["endpoint", "remove", "blue", "[::1]:9002"]);
    assert_eq!(code, 1);
    assert!(complaint.contains("has no endpoint"), "{complaint}");
}

#[test]
fn a_drain_that_does_not_end_in_time_is_1_and_in_force() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let (code, said, complaint) = on(&instance, &["drain", "blue", BLUE, "--wait", "--timeout", "50ms"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("drains") && complaint.contains("1 requests are still in flight"),
        "{said}{complaint}"
    );
    assert_eq!(instance.get("/v1/pools/blue").json()["endpoints"][0]["state"], json!("draining"));
    instance.occupy("blue", false);
}

/// Starts a drain of blue that waits, on a terminal.
fn draining_on_a_terminal(instance: &Instance, arguments: &[&str]) -> (Child, File) {
    let (shown, stderr) = terminal();
    let child = command()
        .args(["drain", "blue", BLUE, "--wait", "--admin", &instance.url()])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the binary starts");
    (child, shown)
}

#[test]
fn who_looks_on_sees_what_is_left_of_a_drain() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    let (child, mut shown) = draining_on_a_terminal(&instance, &["--deadline", "10m"]);
    let left = " s left at most";
    let line = read_until(&mut shown, left);
    let line = line.strip_prefix("\r\x1b[K1 in flight, 0 of them streams, ").expect(&line);
    let seconds = line.strip_suffix(left).and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| (500..=600).contains(&seconds)), "{line}");
    let next = read_until(&mut shown, left);
    assert!(next.starts_with("\r\x1b[K1 in flight"), "the next takes its line: {next:?}");
    instance.occupy("blue", false);
    let erased = rest(&mut shown);
    assert!(erased.ends_with("\r\x1b[K") && !erased.contains('\n'), "nothing stays of it: {erased:?}");
    let output = child.wait_with_output().expect("our own child");
    let said = String::from_utf8(output.stdout).expect("it prints UTF-8");
    assert!(output.status.success() && said.ends_with("\nnothing is in flight there\n"), "{said}");
}

#[test]
fn a_script_is_shown_no_progress_on_a_terminal_either() {
    let instance = Instance::start();
    instance.occupy("blue", true);
    // Longer than what is left is first shown after.
    let (child, mut shown) = draining_on_a_terminal(&instance, &["--json", "--timeout", "700ms"]);
    let told = rest(&mut shown);
    assert!(told.contains("still in flight") && !told.contains('\x1b'), "{told:?}");
    let output = child.wait_with_output().expect("our own child");
    let change: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &change["drained"]), (Some(1), &json!(false)));
    instance.occupy("blue", false);
}

#[test]
fn wrong_usage_is_2_and_a_refusal_is_1() {
    let instance = Instance::start();
    for wrong in [
        &["drain"][..],
        &["drain", "blue", "--deadline", "30"],
        &["drain", "blue", "--deadline", "8days"],
        &["drain", "blue", "--pins", "hold"],
        &["drain", "blue", "--timeout", "3s"],
        &["undrain"],
        &["endpoint", "set", "blue"],
        &["endpoint", "set", "blue", BLUE, "--weight", "1000001"],
        &["endpoint"],
    ] {
        assert_eq!(on(&instance, wrong).0, 2, "{wrong:?}");
    }
    for (refused, word) in [
        (&["drain", "bleu"][..], "did you mean \"blue\""),
        (&["drain", "blue", "127.0.0.1:9002"], "did you mean \"127.0.0.1:9001\""),
        (&["endpoint", "set", "blue", "169.254.169.254:80"], "link-local"),
        (&["undrain", "../status"], "no pool"),
    ] {
        let (code, said, complaint) = on(&instance, refused);
        assert_eq!((code, said.as_str()), (1, ""), "{refused:?}");
        assert!(complaint.contains(word), "{complaint}");
    }
    for help in [&["drain", "--help"][..], &["undrain", "--help"], &["endpoint", "remove", "--help"]] {
        let said = String::from_utf8(switchback(help).stdout).expect("it prints UTF-8");
        assert!(said.contains("Example"), "{said}");
    }
}
