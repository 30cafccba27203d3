//! Keys that change while instances share them.

use std::{fs, path::PathBuf};

use crate::{
    browser::{Jar, config, named},
    support::{Switchback, wait_until},
};

/// A folder of a test's own with a file of keys in it.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("switchback-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("pins.keys")
    }

    fn declared(&self) -> String {
        format!("[pins]\nkey_file = {:?}\n", self.path())
    }

    fn write(&self, keys: &[u8]) {
        let lines: Vec<String> = keys.iter().map(|key| format!("{key:02x}").repeat(32)).collect();
        let whole = self.0.join("new");
        fs::write(&whole, lines.join("\n")).expect("a writable folder");
        fs::rename(whole, self.path()).expect("the same folder");
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Where an instance whose split has all weight on blue sends a session.
fn where_to(jar: &Jar, switchback: &Switchback) -> String {
    jar.clone().visit(&mut switchback.client()).pool
}

#[test]
fn instances_that_share_a_file_honour_each_others_pins_through_every_change_of_keys() {
    let (blue, green) = (named("blue"), named("green"));
    let file = KeyFile::new("rotation");
    let start = |weights| {
        Switchback::start(&(config(1, weights, "cookie = \"sb\"", &blue, &green) + &file.declared()))
    };
    // The first makes the file; the second finds it.
    let (one, other) = (start((0, 1)), start((1, 0)));
    let session = |switchback: &Switchback| {
        let mut jar = Jar::default();
        assert_eq!(jar.visit(&mut switchback.client()).pool, "green");
        jar
    };
    assert_eq!(where_to(&session(&one), &other), "green");

    // Each change is in force on both before the next one comes.
    let changed = |times| {
        wait_until("both instances have seen the change", || {
            [&one, &other]
                .iter()
                .all(|switchback| switchback.stderr().matches("have changed").count() == times)
        });
    };
    file.write(&[1]);
    changed(1);
    let first = session(&one);
    assert_eq!(where_to(&first, &other), "green");
    file.write(&[2, 1]);
    changed(2);
    let second = session(&one);
    assert_eq!(where_to(&first, &other), "green", "signed by the old key");
    assert_eq!(where_to(&second, &other), "green", "signed by the new key");

    // Half a file, no file: what was in force stays.
    fs::write(file.path(), "02").expect("writable");
    wait_until("the malformed file was seen", || other.stderr().contains("are refused"));
    assert_eq!(where_to(&second, &other), "green");
    fs::remove_file(file.path()).expect("it was there");
    wait_until("the missing file was seen", || other.stderr().contains("can't be read"));
    assert_eq!(where_to(&second, &other), "green");

    // The old key goes: its pins are as if absent, and nothing breaks.
    file.write(&[2]);
    wait_until("the old key is gone", || where_to(&first, &other) == "blue");
    assert_eq!(where_to(&second, &other), "green");
}

#[test]
fn a_malformed_file_is_refused_at_the_start_with_its_line() {
    let (blue, green) = (named("blue"), named("green"));
    let file = KeyFile::new("refused");
    fs::write(file.path(), "# mine\nsecret\n").expect("writable");
    let text = config(1, (1, 1), "cookie = \"sb\"", &blue, &green) + &file.declared();
    let toml = file.0.join("switchback.toml");
    fs::write(&toml, text).expect("writable");
    let ran =
        std::process::Command::new(env!("CARGO_BIN_EXE_switchback")).arg("run").arg("-c").arg(&toml).output();
    let ran = ran.expect("the binary that cargo built");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && said.contains("line 2") && !said.contains("secret"), "{said}");
}

#[test]
fn a_file_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let (blue, green) = (named("blue"), named("green"));
    let file = KeyFile::new("open");
    file.write(&[1]);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).expect("our own file");
    let start =
        || Switchback::start(&(config(1, (1, 1), "cookie = \"sb\"", &blue, &green) + &file.declared()));
    assert!(start().stderr().contains("chmod 600"));
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).expect("our own file");
    assert!(!start().stderr().contains("chmod 600"));
}
