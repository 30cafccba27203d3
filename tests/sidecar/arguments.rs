//! What may be said to a sidecar, by options and by the environment, and how it says what is wrong.

use std::process::{Command, Output};

fn switchback(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
    command.arg("sidecar").args(arguments).envs(environment.iter().copied());
    command.output().expect("the binary that cargo built")
}

fn printed(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = switchback(&[arguments, &["--print-config"]].concat(), environment);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("the file is text")
}

#[test]
fn what_is_wrong_is_said_by_its_option() {
    let app = ["--app", "127.0.0.1:3000"];
    for (arguments, said) in [
        (vec![], "--app <ADDRESS>"),
        (vec!["--app", "nowhere"], "--app: \"nowhere\""),
        (vec!["--app", "127.0.0.1:8080"], "--app: the app can't be at an address of the sidecar itself"),
        ([&app[..], &["--listen", ":80"]].concat(), "\"0.0.0.0:80\""),
        ([&app[..], &["--health-path", "healthz"]].concat(), "--health-path: "),
        ([&app[..], &["--app-wait", "10"]].concat(), "--app-wait: \"10\" is no duration"),
        ([&app[..], &["--drain-deadline", "2d"]].concat(), "--drain-deadline: "),
        ([&app[..], &["--admin-listen", "0.0.0.0:9900"]].concat(), "--admin-listen: "),
        ([&app[..], &["--health-listen", "0.0.0.0:8080"]].concat(), "--health-listen: "),
        ([&app[..], &["--trusted-proxy", "10.0.0.1/8"]].concat(), "--trusted-proxy: "),
        ([&app[..], &["--workers", "0"]].concat(), "--workers: "),
        ([&app[..], &["--wrokers", "1"]].concat(), "--workers"),
    ] {
        let output = switchback(&arguments, &[]);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(complaint.contains(said), "{arguments:?}: {said:?} in {complaint}");
        assert!(!complaint.contains("[[listener]]") && output.stdout.is_empty(), "{output:?}");
    }
    let output = switchback(&[], &[("SWITCHBACK_APP", "127.0.0.1:3000"), ("SWITCHBACK_TIMEOUT", "soon")]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && complaint.contains("--timeout: "), "{complaint}");
}

#[test]
fn every_option_can_be_a_variable_and_the_option_is_stronger() {
    let pairs = [
        ("--app", "app:3000"),
        ("--listen", "127.0.0.1:8081"),
        ("--health-path", "/healthz"),
        ("--health-interval", "2s"),
        ("--health-timeout", "3s"),
        ("--app-wait", "4s"),
        ("--timeout", "off"),
        ("--pre-stop-delay", "6s"),
        ("--drain-deadline", "7s"),
        ("--health-listen", "127.0.0.1:9902"),
        ("--admin-listen", "unix:/run/switchback/admin.sock"),
        ("--access-log", "-"),
        ("--trusted-proxy", "10.0.0.0/8,192.168.0.1"),
        ("--workers", "3"),
    ];
    let variables = pairs.map(|(option, value)| {
        (format!("SWITCHBACK{}", option[1..].replace('-', "_").to_uppercase()), value.to_owned())
    });
    let arguments: Vec<_> = pairs.iter().flat_map(|(option, value)| [*option, *value]).collect();
    let by_option = printed(&arguments, &[]);
    let environment: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(printed(&[], &environment), by_option);
    for (_, value) in pairs {
        let last = value.split(',').next_back().expect("one at least");
        assert!(by_option.contains(last), "{value} in {by_option}");
    }
    assert!(printed(&["--app", "127.0.0.1:1"], &environment).contains("\"127.0.0.1:1\""));
    let help = String::from_utf8(switchback(&["--help"], &[]).stdout).expect("help is text");
    let known = help.matches("[env: SWITCHBACK_").count();
    assert_eq!(known, pairs.len(), "an option that this test does not know: {help}");
}

#[test]
fn the_printed_file_is_one_that_run_takes() {
    let file = std::env::temp_dir().join(format!("switchback-sidecar-{}.toml", std::process::id()));
    std::fs::write(&file, printed(&["--app", "127.0.0.1:3000"], &[])).expect("a writable folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
    let output = command.args(["check", "-c"]).arg(&file).output().expect("the binary that cargo built");
    std::fs::remove_file(&file).ok();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "no warning: {output:?}");
}
