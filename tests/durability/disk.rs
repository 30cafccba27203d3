//! Disks that are full or fail: 507, nothing changes, and what was refused never comes back.

use crate::{
    Fault, Home, in_force, json,
    support::{Switchback, Upstream, wait_until},
    weigh,
};

/// Faults of the calls by which a commit reaches the disk, and the word of the answer for them.
const FAULTS: [(&str, &str); 5] = [
    ("fdatasync,fsync", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("fdatasync,fsync,ftruncate", "EIO"),
    ("pwrite64,fdatasync,fsync,ftruncate", "ENOSPC"),
];

#[test]
fn a_disk_that_fails_changes_nothing_and_the_next_change_is_kept() {
    for (calls, error) in FAULTS {
        let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
        let switchback = home.start(&blue, &green);
        assert_eq!(weigh(&switchback, 1), Some(200));
        let fault = Fault::inject(&switchback, calls, error);
        for _ in 0..3 {
            let refused = switchback.admin("PUT", "/v1/splits/main/weights", r#"{"blue": 1, "green": 77}"#);
            assert_eq!(refused.status, 507, "{calls} {error}: {}", refused.text());
            let problem = json(&refused);
            assert_eq!(problem["type"], "urn:switchback:problem:not-durable");
            let detail = problem["detail"].as_str().expect("a text");
            assert!(detail.contains(home.database().to_str().unwrap()), "{detail}");
        }
        assert_eq!(in_force(&switchback), (1, 1), "{calls} {error}");
        let answer = switchback.client().exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(answer.status, 200, "traffic goes on");
        drop(fault);
        assert_eq!(weigh(&switchback, 2), Some(200), "{calls} {error}: {}", switchback.stderr());
        switchback.signal("KILL");
        drop(switchback);
        assert_eq!(in_force(&home.start(&blue, &green)), (2, 2), "{calls} {error}");
    }
}

#[test]
fn what_a_failing_disk_refused_does_not_come_back_after_a_kill() {
    for (calls, error) in FAULTS {
        let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
        let mut switchback = home.start(&blue, &green);
        assert_eq!(weigh(&switchback, 1), Some(200));
        let fault = Fault::inject(&switchback, calls, error);
        assert_eq!(weigh(&switchback, 77), Some(507), "{calls} {error}");
        switchback.signal("KILL");
        wait_until("it has ended", || !switchback.is_running());
        drop(fault);
        drop(switchback);
        assert_eq!(in_force(&home.start(&blue, &green)), (1, 1), "{calls} {error}");
    }
}

#[test]
fn an_edit_that_can_t_be_kept_is_in_force_as_soon_as_the_disk_takes_it() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let switchback = home.start(&blue, &green);
    let fault = Fault::inject(&switchback, "pwrite64", "ENOSPC");
    switchback.write(&home.file(&blue, &green).replace("green = 0", "green = 7"));
    let error = || json(&switchback.admin("GET", "/v1/status", ""))["file"]["error"].clone();
    wait_until("it is told that the edit was not kept", || !error().is_null());
    let said = error().to_string();
    assert!(said.contains(home.database().to_str().unwrap()), "{said}");
    assert_eq!(in_force(&switchback), (0, 0));
    assert_eq!(switchback.client().exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").status, 200);
    drop(fault);
    wait_until("the edit is in force", || in_force(&switchback) == (1, 7));
    wait_until("nothing is wrong any more", || error().is_null());
}

#[test]
fn a_start_on_a_full_disk_serves_what_was_kept_and_takes_changes_when_there_is_room() {
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let mut switchback = home.start(&blue, &green);
    assert_eq!(weigh(&switchback, 1), Some(200));
    switchback.signal("KILL");
    wait_until("it has ended", || !switchback.is_running());
    drop(switchback);
    let log = home.0.join("switchback.db-wal");
    let line = format!(
        "exec strace -I 1 -D -f -o /dev/null -P {} -e trace=pwrite64 -e inject=pwrite64:error=ENOSPC \"$0\" run -c \"$1\"",
        log.display()
    );
    let switchback = Switchback::run(&home.file(&blue, &green), &line);
    assert_eq!(in_force(&switchback), (1, 1), "what was kept is in force");
    assert_eq!(switchback.client().exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").status, 200);
    assert_eq!(weigh(&switchback, 2), Some(507));
    assert_eq!(in_force(&switchback), (1, 1));
    let status = std::fs::read_to_string(format!("/proc/{}/status", switchback.pid())).expect("it runs");
    let tracer =
        status.lines().find_map(|line| line.strip_prefix("TracerPid:")).expect("a line").trim().to_owned();
    assert_ne!(tracer, "0", "the disk is full by a tracer");
    let mut kill = std::process::Command::new("sh");
    assert!(kill.args(["-c", "kill -s INT \"$0\"", &tracer]).status().expect("a shell").success());
    wait_until("there is room", || weigh(&switchback, 3) == Some(200));
    switchback.signal("KILL");
    drop(switchback);
    let (revision, weight) = in_force(&home.start(&blue, &green));
    assert!(revision >= 2 && weight == 3, "{revision}: {weight}");
}
