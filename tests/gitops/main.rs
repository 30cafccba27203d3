//! `config/gitops/reconcile`: a real instance follows a real git repository, and nothing that is wrong, half or moved by
//! somebody else gets in its way.

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use support::Switchback;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/gitops/reconcile");

/// A repository with a clone to work in, an instance that follows it, and what the script keeps.
struct Bench {
    folder: PathBuf,
    switchback: Switchback,
}

/// What a run of the script came to.
#[derive(Debug)]
struct Run {
    code: i32,
    said: String,
    complained: String,
}

fn file(blue: u32, timeout: &str) -> String {
    format!(
        "workers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
         [pool.blue]\nendpoints = [\"127.0.0.1:9\"]\n[pool.green]\nendpoints = [\"127.0.0.1:19\"]\n\
         [split.main]\nweights = {{ blue = {blue}, green = 100 }}\n\
         [[route]]\nname = \"all\"\nsplit = \"main\"\ntimeout = \"{timeout}\"\n"
    )
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("it prints UTF-8")
}

impl Bench {
    fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("switchback-gitops-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        let bench = Self { folder, switchback: Switchback::start(&file(1, "30s")) };
        bench.git(&bench.folder, &["init", "--quiet", "--bare", "--initial-branch=main", "remote.git"]);
        bench.git(&bench.folder, &["clone", "--quiet", "remote.git", "work"]);
        bench.push(&file(1, "30s"), "as it is");
        bench
    }

    fn git(&self, within: &Path, arguments: &[&str]) {
        let output = self.plain("git").current_dir(within).args(arguments).output().expect("git");
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
    }

    /// A program with nothing of this environment but its path.
    fn plain(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.folder);
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "A Person")
                .env(format!("GIT_{who}_EMAIL"), "person@example.com");
        }
        command.env("GIT_CONFIG_NOSYSTEM", "1");
        command
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    fn kept(&self) -> PathBuf {
        self.folder.join("kept")
    }

    /// Commits the file and pushes it.
    fn push(&self, text: &str, subject: &str) {
        fs::write(self.work().join("switchback.toml"), text).expect("a writable folder");
        self.commit(subject);
    }

    fn commit(&self, subject: &str) {
        self.git(&self.work(), &["add", "--all"]);
        self.git(&self.work(), &["commit", "--quiet", "--allow-empty", "-m", subject]);
        self.git(&self.work(), &["push", "--quiet", "origin", "HEAD:main"]);
    }

    fn script(&self) -> Command {
        let mut command = self.plain(SCRIPT);
        command
            .arg("--directory")
            .arg(self.kept())
            .env("SWITCHBACK", env!("CARGO_BIN_EXE_switchback"))
            .env("SWITCHBACK_ADMIN", format!("http://{}", self.switchback.admin));
        command
    }

    fn reconcile(&self, arguments: &[&str]) -> Run {
        let mut script = self.script();
        Run::of(script.arg(self.folder.join("remote.git")).args(arguments))
    }

    /// The weight of blue, and the newest revision.
    fn now(&self) -> (u64, u64) {
        let split = self.switchback.json("GET", "/v1/splits/main", "");
        let status = self.switchback.json("GET", "/v1/status", "");
        (split["weights"]["blue"].as_u64().expect("a weight"), status["revision"].as_u64().expect("a number"))
    }

    fn newest(&self) -> Value {
        self.switchback.json("GET", "/v1/revisions?limit=1", "")["revisions"][0].clone()
    }
}

impl Run {
    fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the script starts");
        let code = output.status.code().expect("it ends by itself");
        Self { code, said: text(output.stdout), complained: text(output.stderr) }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

#[test]
fn the_instance_follows_the_branch_and_a_commit_that_changes_nothing_makes_no_revision() {
    let bench = Bench::start();
    let run = bench.reconcile(&["--exit-code"]);
    assert_eq!((run.code, bench.now()), (0, (1, 0)), "{run:?}");
    assert!(run.said.contains("nothing to change\nno change: commit "), "{run:?}");

    bench.push(&file(20, "30s"), "blue gets more \u{7} ✓");
    let tried = bench.reconcile(&["--dry-run", "--exit-code"]);
    assert_eq!((tried.code, bench.now()), (4, (1, 0)), "{tried:?}");
    assert!(tried.said.contains("blue 1 -> 20") && tried.said.contains("would change: commit "), "{tried:?}");
    let run = bench.reconcile(&[]);
    assert_eq!((run.code, bench.now()), (0, (20, 1)), "{run:?}");
    assert!(
        run.said.contains("split main: blue 1 -> 20\n") && run.said.contains("\nchanged: commit "),
        "{run:?}"
    );
    let revision = bench.newest();
    assert_eq!((&revision["origin"], &revision["kind"]), (&json!("cli"), &json!("load")), "{revision}");
    let reason = revision["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("commit ") && reason.ends_with(": blue gets more"), "{reason:?}");

    for _ in 0..2 {
        assert_eq!((bench.reconcile(&["--exit-code"]).code, bench.now()), (0, (20, 1)), "it is in force");
    }
    bench.commit("nothing in the file");
    assert_eq!((bench.reconcile(&["--exit-code"]).code, bench.now()), (0, (20, 1)));
    bench.push(&file(21, "30s"), "more");
    assert_eq!((bench.reconcile(&["--exit-code"]).code, bench.now()), (4, (21, 2)));
    assert_eq!(
        bench.reconcile(&["--validate", "--", "--admin", &format!("http://{}", bench.switchback.admin)]).code,
        0
    );
}

#[test]
fn a_wrong_commit_is_refused_and_the_next_good_one_follows() {
    let bench = Bench::start();
    let wrong = file(30, "30s").replace("weights = { blue", "weights = { bleu");
    bench.push(&wrong, "a slip");
    for check in [&[][..], &["--validate"]] {
        let run = bench.reconcile(check);
        assert_eq!((run.code, bench.now()), (1, (1, 0)), "{run:?}");
        assert!(run.complained.contains("bleu") && run.complained.contains("is refused"), "{run:?}");
    }
    // Right by itself, and nothing that may come through the admin API.
    bench.push(&file(30, "30s").replace("workers = 1", "workers = 2"), "another slip");
    let run = bench.reconcile(&[]);
    assert_eq!((run.code, bench.now()), (1, (1, 0)), "{run:?}");
    assert!(run.complained.contains("workers"), "{run:?}");
    bench.push(&file(31, "30s"), "mended");
    assert_eq!((bench.reconcile(&[]).code, bench.now().0), (0, 31));
}

#[test]
fn a_live_switch_stays_until_the_file_is_about_it() {
    let bench = Bench::start();
    assert_eq!(bench.reconcile(&[]).code, 0);
    bench.switchback.weigh(77, 23);
    assert_eq!((bench.reconcile(&["--exit-code"]).code, bench.now().0), (0, 77), "nothing was declared anew");
    bench.push(&file(1, "60s"), "a longer timeout");
    let run = bench.reconcile(&["--exit-code"]);
    assert_eq!((run.code, bench.now().0), (4, 77), "{run:?}");
    assert!(run.said.contains("route.all.timeout") && !run.said.contains("split main"), "{run:?}");
    bench.push(&file(5, "60s"), "and now the weights");
    assert_eq!((bench.reconcile(&[]).code, bench.now().0), (0, 5));
}

#[test]
fn an_instance_that_demands_if_match_is_followed_too() {
    let mut bench = Bench::start();
    let demanding = |text: String| text.replace("[admin]\n", "[admin]\nrequire_if_match = true\n");
    bench.switchback = Switchback::start(&demanding(file(1, "30s")));
    let refused = bench.switchback.put_file(&demanding(file(2, "30s")));
    assert_eq!(refused.status, 428, "{}", refused.text());
    bench.push(&demanding(file(70, "30s")), "more");
    for code in [4, 0] {
        let run = bench.reconcile(&["--exit-code"]);
        assert_eq!((run.code, bench.now()), (code, (70, 1)), "{run:?}");
    }
}

#[test]
fn two_runs_are_not_at_it_at_once_and_a_killed_one_does_not_stop_the_next() {
    let bench = Bench::start();
    assert_eq!(bench.reconcile(&[]).code, 0);
    bench.push(&file(40, "30s"), "more");
    let lock = File::options().write(true).open(bench.kept().join("lock")).expect("it was made");
    flock(&lock, FlockOperation::LockExclusive).expect("nobody holds it");
    let run = bench.reconcile(&[]);
    assert_eq!((run.code, bench.now()), (5, (1, 0)), "{run:?}");
    drop(lock);
    // What git leaves where it is killed.
    for left in ["shallow.lock", "refs/reconcile/newest.lock", "config.lock"] {
        fs::write(bench.kept().join("repository.git").join(left), "").expect("a writable folder");
    }
    let run = bench.reconcile(&[]);
    assert_eq!((run.code, bench.now().0), (0, 40), "{run:?}");
}

#[test]
fn nothing_that_is_half_is_applied() {
    let bench = Bench::start();
    bench.push(&file(50, "30s"), "more");
    // A git that fails in the middle of each of its steps, after it has written something.
    for step in ["init", "fetch", "rev-parse", "ls-tree", "cat-file"] {
        let git = bench.folder.join("bin/git");
        fs::create_dir_all(bench.folder.join("bin")).expect("a folder of our own");
        let path = std::env::var("PATH").expect("a path");
        let half = file(51, "30s").replace("\"30s\"\n", "\"3");
        let text = format!(
            "#!/usr/bin/env bash\nfor word in \"$@\"; do\n  if [[ $word == {step} ]]; then printf %s '{half}'; exit 1; fi\ndone\nPATH='{path}' exec git \"$@\"\n"
        );
        fs::write(&git, text).expect("a writable folder");
        fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).expect("our own file");
        let mut script = bench.script();
        script
            .arg(bench.folder.join("remote.git"))
            .env("PATH", format!("{}/bin:{path}", bench.folder.display()));
        let run = Run::of(&mut script);
        assert!([1, 3].contains(&run.code), "{step}: {run:?}");
        assert_eq!(bench.now(), (1, 0), "{step}: {run:?}");
    }
    assert_eq!((bench.reconcile(&[]).code, bench.now().0), (0, 50));
}

#[test]
fn what_is_not_there_is_said() {
    let mut bench = Bench::start();
    symlink("/etc/hostname", bench.work().join("link.toml")).expect("a writable folder");
    fs::create_dir(bench.work().join("folder.toml")).expect("a writable folder");
    fs::write(bench.work().join("folder.toml/a"), file(60, "30s")).expect("a writable folder");
    fs::write(bench.work().join("folder.toml/b"), file(60, "30s")).expect("a writable folder");
    bench.commit("links and folders");
    for (arguments, code, words) in [
        (&["-f", "link.toml"][..], 1, "has no regular file link.toml"),
        (&["-f", "folder.toml"], 1, "has no regular file"),
        (&["-f", "folder.toml/"], 1, "has no regular file"),
        (&["-f", "none.toml"], 1, "has no regular file none.toml"),
        (&["-f", "*.toml"], 1, "has no regular file"),
        (&["-b", "none"], 3, "branch none of"),
        (&["-b", "a..b"], 2, "can't be the name of a branch"),
        (&["-b"], 2, "-b needs a value"),
        (&["--dry"], 2, "there is no option --dry"),
        (&["another.git"], 2, "one repository"),
        (&["--", "--admin", "nonsense"], 2, "does not take these options"),
    ] {
        let run = bench.reconcile(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        assert!(run.complained.contains(words), "{arguments:?}: {run:?}");
    }
    assert_eq!(Run::of(&mut bench.script()).code, 2, "no repository");
    let nowhere = bench.folder.join("nowhere.git");
    assert_eq!(Run::of(bench.script().arg(nowhere)).code, 3);
    assert_eq!(Run::of(bench.script().arg("--upload-pack=touch /tmp/x")).code, 2, "no option of git's");
    assert_eq!(bench.reconcile(&["-f", "folder.toml/a"]).code, 0, "a file in a folder");
    assert_eq!(bench.now().0, 60);
    bench.switchback.signal("KILL");
    bench.switchback.wait();
    let run = bench.reconcile(&[]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.complained.contains("the instance is not reachable"), "{run:?}");
}
