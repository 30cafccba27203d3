//! `SIGKILL` at random moments of a replacement, of either process: one serves, with all that was acknowledged.

use std::{
    fs,
    io::{BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    Line, green, kill,
    support::{Client, PATIENCE, Upstream, config::blue_green, is_long, port::Reserved, seeded, wait_until},
};

/// What may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Old,
    Successor,
}

/// The processes that a process has started.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().map_while(Result::ok);
    let text = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    text.collect::<String>().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Asks for a weight of `green`; `None` if no whole answer came, as the process was killed.
fn weigh(admin: SocketAddr, green: u64) -> Option<u16> {
    let body = format!("{{\"blue\": 1000000, \"green\": {green}}}");
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!(
        "PUT /v1/splits/main/weights HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut answer = String::new();
    let ended = stream.read_to_string(&mut answer).is_ok();
    let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    (ended && answer.ends_with('}')).then_some(status)
}

/// Changes weights until told to stop; keeps the newest that was acknowledged, and the newest that was asked for.
fn keep_changing(admin: SocketAddr, stop: &AtomicBool, acknowledged: &AtomicU64) -> u64 {
    let mut next = 0;
    while !stop.load(SeqCst) {
        next += 1;
        match weigh(admin, next) {
            Some(200) => acknowledged.store(next, SeqCst),
            Some(503) | None => {}
            Some(other) => panic!("a change was answered {other}"),
        }
        thread::sleep(Duration::from_millis(3));
    }
    next
}

/// A configuration whose ports every process of a line has to bind anew if it is given none.
fn listening_at(upstream: &Upstream, web: SocketAddr, admin: SocketAddr) -> String {
    blue_green(2, (1_000_000, 0), "", upstream, upstream)
        .replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{admin}\""))
        .replace("name = \"web\"\nlisten = \"127.0.0.1:0\"", &format!("name = \"web\"\nlisten = \"{web}\""))
}

/// One replacement in which somebody is killed. Answers how long it took, and whether the old process had been relieved.
fn round(victim: Option<Victim>, after: Duration) -> (Duration, bool) {
    let upstream = Upstream::ok();
    let ports = [Reserved::any(), Reserved::any()];
    let [web, admin] = [0, 1].map(|place| ports[place].address);
    let line = Line::keeping(&listening_at(&upstream, web, admin));
    let old = line.first.pid();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let (took, relieved, asked) = thread::scope(|scope| {
        let changing = scope.spawn(|| keep_changing(admin, &stop, &acknowledged));
        wait_until("changes are made", || acknowledged.load(SeqCst) > 2);
        let began = Instant::now();
        let mut upgrading =
            line.upgrading(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary");
        if let Some(victim) = victim {
            wait_until("the successor is started", || !children(old).is_empty());
            let successor = children(old)[0];
            // The moment is the seed's choice.
            thread::sleep(after);
            kill(if victim == Victim::Old { old } else { successor });
        }
        let relieved = upgrading.wait().expect("our own child").success();
        let took = began.elapsed();
        // Who is killed when it serves alone leaves nobody: that is another story.
        let is_over = victim == Some(Victim::Successor) && relieved;
        if !is_over {
            let before = acknowledged.load(SeqCst);
            let stands = || format!("{victim:?}, {:?}\n{}", line.processes(), line.first.stderr());
            let deadline = Instant::now() + PATIENCE;
            while acknowledged.load(SeqCst) <= before {
                assert!(Instant::now() < deadline, "no change is taken: {}", stands());
                thread::sleep(Duration::from_millis(2));
            }
        }
        stop.store(true, SeqCst);
        (took, relieved, changing.join().expect("no change was answered otherwise"))
    });
    if victim != Some(Victim::Successor) || !relieved {
        let in_force = green(&line.status());
        assert!(
            (acknowledged.load(SeqCst)..=asked).contains(&in_force),
            "{in_force} is in force: {victim:?}"
        );
        Client::connect(web).expect_alive("whoever serves");
        wait_until("one is left", || line.processes().len() == 1);
        // Whoever it is, its log goes where that of the first went.
        let heard = || line.first.stderr().matches("SIGHUP").count();
        let (before, pid) = (heard(), line.serving().to_string());
        let hang_up = Command::new("sh").args(["-c", "kill -s HUP \"$0\"", &pid]).status();
        assert!(hang_up.expect("a shell").success());
        wait_until("its log is heard", || heard() > before);
    }
    (took, relieved)
}

/// Begins a channel as a process does that is killed before it has said a word: two descriptors with a byte.
fn begun_and_left(descriptors: &[BorrowedFd<'_>]) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    sendmsg(&ours, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())
        .expect("there is space for a byte");
    theirs
}

/// A killed process is adopted from, and leaves its channel, while its ports and locks are not free yet: tens of
/// milliseconds before, if it has memory to give back. Here it stays that way until the test has seen who waits for it.
#[test]
fn a_successor_waits_until_all_that_was_its_predecessors_is_free() {
    let upstream = Upstream::ok();
    let ports = [Reserved::any(), Reserved::any()];
    let [web, admin] = [0, 1].map(|place| ports[place].address);
    let line = Line::keeping(&listening_at(&upstream, web, admin));
    let old = line.first.pid();
    let pid = Pid::from_raw(i32::try_from(old).expect("the number of a process")).expect("not 0");
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    let (log, of_successor) = UnixStream::pair().expect("a pair of sockets");
    let channel = begun_and_left(&[of_successor.as_fd(), process.as_fd()]);
    let mut successor = Command::new(env!("CARGO_BIN_EXE_switchback"))
        .args(["run", "--config"])
        .arg(line.first.file())
        .env("SWITCHBACK_PREDECESSOR", old.to_string())
        .stdin(OwnedFd::from(channel))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut word = String::new();
    BufReader::new(log).read_line(&mut word).expect("its log goes where it was given");
    assert!(word.contains("has ended before its time"), "{word:?}");
    for green in 1..=50 {
        assert_eq!(crate::weigh(&line.first, green).status, 200);
    }
    kill(old);
    let mut first = String::new();
    let said = successor.stdout.take().expect("it is piped");
    BufReader::new(said).read_line(&mut first).expect("it says where it listens");
    assert!(first.contains(&web.to_string()), "{first:?}");
    assert_eq!(line.serving(), successor.id());
    assert_eq!(green(&line.status()), 50);
    successor.kill().expect("our own child");
    successor.wait().expect("our own child");
}

#[test]
fn a_kill_at_any_moment_leaves_one_that_serves_with_what_was_acknowledged() {
    let mut rng = seeded("a_kill_at_any_moment_leaves_one_that_serves_with_what_was_acknowledged");
    let (whole, relieved) = round(None, Duration::ZERO);
    assert!(relieved, "nobody was killed");
    let rounds = if is_long() { 60 } else { 6 };
    let mut cut_short = 0;
    for number in 0..rounds {
        let victim = if number % 2 == 0 { Victim::Old } else { Victim::Successor };
        let (_, relieved) = round(Some(victim), whole.mul_f64(rng.f64()));
        cut_short += u32::from(!relieved);
    }
    assert!(cut_short > 0, "every kill came too late to prove anything; a replacement took {whole:?}");
    println!("{rounds} kills, {cut_short} of them within the replacement");
}
