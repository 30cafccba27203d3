//! Databases that are damaged, of a later version, or in use: a clear error, never a silent empty start.

use std::{
    fs,
    process::{Command, Output},
};

use crate::{
    Home, in_force,
    support::{Upstream, wait_until},
    weigh,
};

/// Runs it on a file; it is to end by itself.
fn refused(home: &Home, file: &str) -> String {
    let path = home.0.join("again.toml");
    fs::write(&path, file).expect("a writable folder");
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_switchback"))
        .args(["run", "-c"])
        .arg(&path)
        .output()
        .expect("the binary starts");
    let said = String::from_utf8(stderr).expect("it prints UTF-8");
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

#[test]
fn a_damaged_database_is_named_with_its_last_good_copy() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    for weight in 1..=3 {
        let mut switchback = home.start(&blue, &green);
        assert_eq!(weigh(&switchback, weight), Some(200));
        switchback.signal("TERM");
        switchback.wait();
    }
    // A copy is made at each start: the third holds what the first two have done.
    let database = home.database();
    let copy = home.0.join("switchback.db.copy");
    fs::remove_file(home.0.join("switchback.db-wal")).ok();
    let mut bytes = fs::read(&database).expect("it is there");
    for byte in &mut bytes[100..] {
        *byte ^= 0x5a;
    }
    fs::write(&database, bytes).expect("a writable file");
    let said = refused(&home, &home.file(&blue, &green));
    for part in [database.to_str().unwrap(), copy.to_str().unwrap(), "damaged", "revision 2"] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
    fs::rename(copy, &database).expect("one folder");
    assert_eq!(in_force(&home.start(&blue, &green)), (2, 2));
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let text = "not a database, but a text that somebody may need\n".repeat(100);
    fs::write(home.database(), &text).expect("a writable folder");
    let said = refused(&home, &home.file(&blue, &green));
    assert!(said.contains(home.database().to_str().unwrap()), "{said}");
    assert_eq!(fs::read_to_string(home.database()).expect("it is there"), text);
}

#[test]
fn two_processes_never_serve_from_one_database() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let mut switchback = home.start(&blue, &green);
    let said = refused(&home, &home.file(&blue, &green));
    assert!(said.contains("in use by another process"), "{said}");
    assert_eq!(weigh(&switchback, 1), Some(200));
    switchback.signal("KILL");
    wait_until("it has ended", || !switchback.is_running());
    assert_eq!(in_force(&home.start(&blue, &green)), (1, 1));
}
