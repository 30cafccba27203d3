//! Processes that are killed: at random moments, and at each write, sync and rename.

use std::{process::Command, thread, time::Duration};

use crate::{
    Home, in_force,
    support::{Switchback, Upstream, is_long, seeded},
    weigh,
};

/// Sends changes, one after the other, until no answer comes. Answers the last that was acknowledged.
fn change_until_killed(switchback: &Switchback, first: u64) -> u64 {
    (first..).find(|green| weigh(switchback, *green) != Some(200)).expect("it is killed") - 1
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let mut rng = seeded("what_was_acknowledged_survives_a_kill_at_any_moment");
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let loops = if is_long() { 1_000 } else { 12 };
    let (mut acknowledged, mut lost_unanswered) = (0, 0);
    for round in 0..loops {
        let switchback = home.start(&blue, &green);
        let (revision, weight) = in_force(&switchback);
        // Each change is one revision, so neither half a change nor one twice can hide.
        assert_eq!(revision, weight, "round {round}");
        assert!(
            weight == acknowledged || weight == acknowledged + 1,
            "round {round}: {acknowledged} was acknowledged, {weight} is in force"
        );
        lost_unanswered += u64::from(round > 0 && weight == acknowledged);
        let pid = switchback.pid();
        let pause = Duration::from_micros(rng.u64(0..40_000));
        let killer = thread::spawn(move || {
            thread::sleep(pause);
            let mut kill = Command::new("sh");
            let killed = kill.args(["-c", "kill -s KILL \"$0\"", &pid.to_string()]).status();
            assert!(killed.expect("a shell").success());
        });
        acknowledged = change_until_killed(&switchback, weight + 1);
        killer.join().expect("it was sent");
    }
    println!(
        "{loops} kills, {acknowledged} changes acknowledged, {lost_unanswered} kills left no unanswered change"
    );
}

#[test]
fn a_kill_at_any_write_sync_or_rename_leaves_a_sound_state() {
    const CALLS: &str = "pwrite64,fdatasync,fsync,ftruncate,rename,unlink";
    let mut rng = seeded("a_kill_at_any_write_sync_or_rename_leaves_a_sound_state");
    let (home, blue, green) = (Home::new(), Upstream::ok(), Upstream::ok());
    let rounds = if is_long() { 300 } else { 10 };
    let mut acknowledged = 0;
    for round in 0..rounds {
        let at = if is_long() { round % 60 + 1 } else { rng.u32(1..60) };
        let line = format!(
            "exec strace -D -f -o /dev/null -e trace={CALLS} -e inject={CALLS}:signal=KILL:when={at} \"$0\" run -c \"$1\""
        );
        let file = home.file(&blue, &green);
        // Killed while it starts, it never gets ready: that is told by a panic of the support, which is no failure here.
        let started = std::panic::catch_unwind(|| Switchback::run(&file, &line));
        if let Ok(switchback) = started {
            acknowledged = change_until_killed(&switchback, acknowledged + 1);
        }
        let switchback = home.start(&blue, &green);
        let (revision, weight) = in_force(&switchback);
        assert_eq!(revision, weight, "killed at call {at}");
        assert!(
            weight == acknowledged || weight == acknowledged + 1,
            "killed at call {at}: {acknowledged} was acknowledged, {weight} is in force"
        );
        acknowledged = weight;
    }
}
