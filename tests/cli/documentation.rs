//! What is made from the definition of the command line: completions, manual pages, and the reference in
//! docs/command-line.md, which must say what the binary says.
//!
//! `SWITCHBACK_WRITE_DOCS=1` writes the reference anew instead of comparing it.

use std::{fmt::Write as _, fs, process::Command};

use clap::{Arg, ArgAction};

use super::run::{Folder, code, command, complained, said, switchback};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/command-line.md");
const BEGIN: &str =
    "<!-- The reference begins. It is made from the binary: see tests/cli/documentation.rs. -->\n";
const END: &str = "<!-- The reference ends. -->\n";
/// The options of every call and of every change, which the document explains once.
const OF_CALLS: [&str; 7] = ["admin", "instance", "token", "ca", "cert", "key", "json"];
const OF_CHANGES: [&str; 4] = ["dry_run", "reason", "if_revision", "if_match"];

#[test]
fn the_reference_is_what_the_binary_says() {
    let document = fs::read_to_string(DOCUMENT).expect("it is there");
    let (before, rest) = document.split_once(BEGIN).expect("it has a beginning");
    let (_, after) = rest.split_once(END).expect("it has an end");
    let mut whole = switchback::cli::command();
    whole.build();
    let mut reference = String::new();
    describe(&whole, "switchback", &mut reference);
    let written = format!("{before}{BEGIN}\n{reference}{END}{after}");
    if std::env::var_os("SWITCHBACK_WRITE_DOCS").is_some() {
        fs::write(DOCUMENT, written).expect("it can be written");
    } else {
        assert!(
            written == document,
            "run this test with SWITCHBACK_WRITE_DOCS=1; the reference is\n{reference}"
        );
    }
}

/// Writes what each command takes.
fn describe(of: &clap::Command, name: &str, out: &mut String) {
    for command in of.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = format!("{name} {}", command.get_name());
        if command.has_subcommands() {
            describe(command, &name, out);
            continue;
        }
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let positionals: Vec<_> = command.get_positionals().collect();
        let arguments: Vec<_> = positionals.iter().map(|argument| positional(argument)).collect();
        let line = [&[name.clone()][..], &arguments].concat().join(" ");
        let takes = |ids: [&str; 4]| options(command).any(|option| ids.contains(&option.get_id().as_str()));
        let also = match (takes(OF_CHANGES), options(command).any(|option| option.get_id() == "admin")) {
            (true, _) => " It is a [change](#changes).",
            (false, true) => " It [calls an instance](#which-instance).",
            (false, false) => "",
        };
        let _ = writeln!(out, "### `{line}`\n\n{about}.{also}\n");
        let options = options(command);
        let told = options.filter(|option| {
            let id = option.get_id().as_str();
            let is_elsewhere = OF_CALLS.contains(&id) || OF_CHANGES.contains(&id);
            !["help", "version"].contains(&id) && (name == "switchback check" || !is_elsewhere)
        });
        let rows: Vec<_> = positionals.into_iter().chain(told).map(row).collect();
        if !rows.is_empty() {
            let _ = writeln!(out, "| argument | what |\n|---|---|\n{}", rows.concat());
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples =
            help.lines().skip(1).map(|line| line.trim_start().to_owned() + "\n").collect::<String>();
        if help.starts_with("Example") && !help.contains("Dockerfile") && !help.contains("then, in another") {
            let _ = writeln!(out, "```sh\n{examples}```\n");
        }
    }
}

/// What begins with a dash, with a value or without.
fn options(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| !argument.is_positional() && !argument.is_hide_set())
}

fn positional(argument: &Arg) -> String {
    let name = argument
        .get_value_names()
        .map_or_else(|| argument.get_id().to_string(), |names| names[0].to_string());
    let more = if matches!(argument.get_action(), ArgAction::Append) { "..." } else { "" };
    if argument.is_required_set() { format!("{name}{more}") } else { format!("[{name}{more}]") }
}

fn row(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
    let mut term = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        _ => return format!("| `{}` | {help} |\n", positional(argument).trim_matches(['[', ']'])),
    };
    if argument.get_action().takes_values() {
        let _ = write!(
            term,
            " {}",
            argument.get_value_names().map_or("VALUE", |names| names[0].as_str()).replace('|', "\\|")
        );
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default =
        if defaults.is_empty() { String::new() } else { format!(" [default: {}]", defaults.join(" ")) };
    format!("| `{term}` | {help}{default} |\n")
}

#[test]
fn completions_are_scripts_that_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = switchback(&["completions", shell]);
        assert_eq!((code(&output), complained(&output)), (0, String::new()), "{shell}");
        for command in ["history", "restore", "events", "--reason", "--if-revision"] {
            assert!(said(&output).contains(command.trim_start_matches("--")), "{shell} lacks {command}");
        }
    }
    let folder = Folder::new();
    let script = folder.write("switchback.bash", &said(&switchback(&["completions", "bash"])), 0o600);
    let line = "source \"$0\" && COMP_WORDS=(switchback rest) COMP_CWORD=1 && _switchback switchback rest switchback && echo \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash").args(["-c", line]).arg(&script).output().expect("bash");
    assert_eq!(said(&completed), "restore\n", "{completed:?}");
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let page = said(&switchback(&["man"]));
    assert!(page.contains(".TH switchback 1") && page.contains("EXTRA"), "{page}");
    let folder = Folder::new();
    let out = folder.path().join("new/man1").display().to_string();
    assert_eq!(code(&switchback(&["man", "--out", &out])), 0);
    for name in [
        "switchback",
        "switchback-status",
        "switchback-token-new",
        "switchback-config-export",
        "switchback-revision",
    ] {
        let page =
            fs::read_to_string(format!("{out}/{name}.1")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    let blocked = folder.write("file", "", 0o600).display().to_string();
    let refused = switchback(&["man", "--out", &blocked]);
    assert_eq!(code(&refused), 1, "{refused:?}");
    assert!(complained(&refused).contains("can't be written"), "{refused:?}");
}

#[test]
fn what_is_printed_to_nobody_is_no_failure() {
    for arguments in [&["completions", "bash"][..], &["man"], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let unread = command().args(arguments).stdout(writer).output().expect("the binary starts");
        assert_eq!((code(&unread), complained(&unread)), (0, String::new()), "{arguments:?}");
    }
}
