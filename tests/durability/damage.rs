//! Databases that are damaged, of a later version, or in use: a clear error, never a silent empty start.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::{Command, Output},
};

use crate::{
    Home, in_force,
    support::{Switchback, Upstream, seeded, wait_until},
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
        copied(&home, weight - 1);
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
    // In the place of the damaged file alone it is older than what was answered, and that is said again.
    fs::copy(&copy, &database).expect("it is there");
    fs::remove_file(home.0.join("switchback.db-wal")).ok();
    let said = refused(&home, &home.file(&blue, &green));
    assert!(said.contains("tells of revision 3, but the newest in it is 2"), "{said}");
    let away = move_away(&home);
    fs::copy(away.join("switchback.db.copy"), &database).expect("it is there");
    assert_eq!(in_force(&home.start(&blue, &green)), (2, 2));
}

/// What an operator does who goes back, or begins anew: everything of the database goes to another folder.
fn move_away(home: &Home) -> PathBuf {
    let away = home.0.join("away");
    fs::create_dir_all(&away).expect("a writable folder");
    for (name, path) in files(home) {
        fs::rename(path, away.join(name)).expect("one disk");
    }
    away
}

/// All files of the database.
fn files(home: &Home) -> Vec<(String, PathBuf)> {
    let found = fs::read_dir(&home.0).expect("a folder").map(|file| file.expect("a file").path());
    let named = found.map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path));
    named.filter(|(name, _)| name.starts_with("switchback.db")).collect()
}

/// The newest revision in the copy, if there is one.
fn newest_copied(home: &Home) -> Option<i64> {
    let copy = rusqlite::Connection::open(home.0.join("switchback.db.copy")).ok()?;
    copy.query_row("SELECT max(number) FROM revisions", [], |row| row.get(0)).ok()?
}

/// Waits for the copy that a start makes of a database which has come up to a revision.
fn copied(home: &Home, revision: u64) {
    // The first start may make its copy before it has kept anything.
    let revision = i64::try_from(revision).expect("it is small");
    wait_until("the copy is made", || revision == 0 || newest_copied(home) == Some(revision));
}

/// A database that was killed after five changes, and ran once before, so that there is a copy of it.
fn killed_after_five(blue: &Upstream, green: &Upstream) -> Home {
    let home = Home::new();
    for run in [1..=2, 3..=5] {
        let mut switchback = home.start(blue, green);
        copied(&home, run.start() - 1);
        for weight in run {
            assert_eq!(weigh(&switchback, weight), Some(200));
        }
        switchback.signal("KILL");
        wait_until("it has ended", || !switchback.is_running());
    }
    home
}

/// Damages a database.
type Harm = Box<dyn Fn(&Home)>;

/// Truncates a file of a database.
fn cut(suffix: &'static str, length: u64) -> Harm {
    Box::new(move |home| {
        let path = home.0.join(format!("switchback.db{suffix}"));
        let file = fs::OpenOptions::new().write(true).open(path).expect("it is there");
        file.set_len(length).expect("a writable file");
    })
}

/// Removes a file of a database.
fn remove(suffix: &'static str) -> Harm {
    Box::new(move |home| fs::remove_file(home.0.join(format!("switchback.db{suffix}"))).expect("it is there"))
}

/// Turns bits of one byte of the log.
fn turn(place: impl Fn(usize) -> usize + 'static) -> Harm {
    Box::new(move |home| {
        let log = home.0.join("switchback.db-wal");
        let mut bytes = fs::read(&log).expect("it is there");
        let place = place(bytes.len());
        bytes[place] ^= 0x10;
        fs::write(log, bytes).expect("a writable file");
    })
}

#[test]
fn what_was_answered_is_never_lost_in_silence() {
    let mut rng = seeded("what_was_answered_is_never_lost_in_silence");
    let (blue, green) = (Upstream::ok(), Upstream::ok());
    let mut harms: Vec<(String, Vec<Harm>)> = vec![
        ("the log is lost".into(), vec![remove("-wal")]),
        ("the log is empty".into(), vec![cut("-wal", 0)]),
        ("the log has lost its end".into(), vec![cut("-wal", 8_000)]),
        ("the log's header is damaged".into(), vec![turn(|_| 9)]),
        ("the log's last byte is damaged".into(), vec![turn(|length| length - 1)]),
        ("the file is empty".into(), vec![cut("", 0)]),
        ("the file and its log are empty".into(), vec![cut("", 0), cut("-wal", 0)]),
        ("the file is gone".into(), vec![remove("")]),
        ("the file and its log are gone".into(), vec![remove(""), remove("-wal")]),
        // What the mark would tell, the copy does.
        ("the file and its mark are gone".into(), vec![remove(""), remove("-wal"), remove(".lock")]),
    ];
    for _ in 0..4 {
        let place = rng.usize(..);
        harms.push((format!("byte {place} of the log"), vec![turn(move |length| place % length)]));
    }
    for (what, harms) in harms {
        let home = killed_after_five(&blue, &green);
        harms.iter().for_each(|harm| harm(&home));
        let kept = |home: &Home| {
            let all = files(home).into_iter().filter(|(name, _)| !name.ends_with("-shm"));
            let mut all: Vec<_> =
                all.map(|(name, path)| (name, fs::read(path).expect("it is there"))).collect();
            all.retain(|(_, bytes)| !bytes.is_empty());
            all.sort();
            all
        };
        let before = kept(&home);
        let said = refused(&home, &home.file(&blue, &green));
        let revision = if harms.len() == 3 { "revision 2" } else { "revision 5" };
        let copy = home.0.join("switchback.db.copy");
        let database = home.database();
        for part in
            [database.to_str().unwrap(), copy.to_str().unwrap(), "damaged", "up to revision 2", revision]
        {
            assert!(said.contains(part), "{what}: {part} is missing in: {said}");
        }
        assert!(kept(&home) == before, "{what}: a refused start changes nothing");
        move_away(&home);
        assert_eq!(in_force(&home.start(&blue, &green)), (0, 0), "{what}: begun anew");
    }
}

#[test]
fn what_a_killed_process_had_not_answered_is_no_damage() {
    let (blue, green) = (Upstream::ok(), Upstream::ok());
    type Tear = fn(&mut Vec<u8>);
    let torn: [(&str, Tear); 3] = [
        ("a frame of a commit without its end", |log| log.extend_from_within(log.len() - 4_120..)),
        ("half a frame", |log| log.extend_from_within(log.len() - 2_000..)),
        ("zeros, as after a crash of the machine", |log| log.resize(log.len() + 8_240, 0)),
    ];
    for (what, tear) in torn {
        let home = killed_after_five(&blue, &green);
        let log = home.0.join("switchback.db-wal");
        let mut bytes = fs::read(&log).expect("it is there");
        tear(&mut bytes);
        fs::write(log, bytes).expect("a writable file");
        assert_eq!(in_force(&home.start(&blue, &green)), (5, 5), "{what}");
    }
}

#[test]
fn a_stop_leaves_everything_in_the_file_itself() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let mut switchback = home.start(&blue, &green);
    assert_eq!(weigh(&switchback, 1), Some(200));
    switchback.signal("TERM");
    switchback.wait();
    let left = fs::metadata(home.0.join("switchback.db-wal")).map_or(0, |log| log.len());
    assert_eq!(left, 0, "the log is folded in");
    remove("-wal")(&home);
    assert_eq!(in_force(&home.start(&blue, &green)), (1, 1));
}

#[test]
fn nobody_else_may_read_what_is_kept() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let mut switchback = home.start(&blue, &green);
    assert_eq!(weigh(&switchback, 1), Some(200));
    let private = |home: &Home| {
        let all = files(home);
        assert!(all.len() >= 4, "{all:?}");
        for (name, path) in all {
            // A copy that has been made takes its place meanwhile, under another name.
            let Ok(found) = fs::metadata(path) else { continue };
            assert_eq!(found.permissions().mode() & 0o777, 0o600, "{name}");
        }
    };
    private(&home);
    switchback.signal("KILL");
    wait_until("it has ended", || !switchback.is_running());
    // As a version that did not care has left them, and was killed while it made a copy.
    fs::write(home.0.join("switchback.db.copy-new"), "half of it").expect("a writable folder");
    for (_, path) in files(&home) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    }
    let switchback = home.start(&blue, &green);
    assert_eq!(weigh(&switchback, 2), Some(200));
    private(&home);
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
fn the_first_changes_of_all_are_in_a_copy_before_any_other_start() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let switchback = home.start(&blue, &green);
    let mut changes = 0;
    wait_until("a change is in the copy", || {
        changes += 1;
        assert!(changes < 400, "a copy is made every 500 changes in any case");
        assert_eq!(weigh(&switchback, changes), Some(200));
        newest_copied(&home) > Some(0)
    });
}

#[test]
fn another_name_of_the_database_is_no_way_to_serve_from_it_twice() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let file = home.file(&blue, &green);
    let by = |name: &str| {
        let other = home.0.join(name);
        file.replace(home.database().to_str().unwrap(), other.to_str().unwrap())
    };
    // The first is started by a link that leads nowhere yet.
    symlink("switchback.db", home.0.join("early.db")).expect("a new link");
    let mut switchback = Switchback::start(&by("early.db"));
    assert_eq!(weigh(&switchback, 1), Some(200));
    symlink(home.database(), home.0.join("late.db")).expect("a new link");
    symlink(".", home.0.join("folder")).expect("a new link");
    for name in ["switchback.db", "early.db", "late.db", "folder/switchback.db"] {
        let said = refused(&home, &by(name));
        assert!(said.contains("in use by another process"), "{name}: {said}");
    }
    let hard = home.0.join("hard.db");
    fs::hard_link(home.database(), &hard).expect("a new link");
    for name in ["hard.db", "switchback.db"] {
        let said = refused(&home, &by(name));
        assert!(said.contains("several names (hard links)"), "{name}: {said}");
    }
    fs::remove_file(hard).expect("our own");
    let made = Command::new("mkfifo").arg(home.0.join("pipe.db")).status().expect("mkfifo is installed");
    assert!(made.success() && refused(&home, &by("pipe.db")).contains("not a regular file"));
    switchback.signal("TERM");
    switchback.wait();
    drop(switchback);
    assert_eq!(in_force(&Switchback::start(&by("late.db"))).1, 1, "it is one database by all of them");
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
