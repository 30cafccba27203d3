//! The side of the new process: what it is given, and when it may serve.
//!
//! Invariant: a successor serves only when its predecessor has said so, or has ended. One that the predecessor has given up
//! is killed by it, so the end of the channel means the end of the predecessor and nothing else.

use std::{
    env, fs, io,
    os::fd::{AsFd, OwnedFd},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, getppid},
};

use super::{
    BEGINNING, FOREVER, PREDECESSOR,
    channel::Channel,
    has_ended,
    heritage::Heritage,
    message::{FromPredecessor, FromSuccessor, Handover, Hello, PROTOCOL},
};
use crate::control::succession::{Predecessor, Standing, Succession, Told};

/// How long the predecessor may take for any step. It has a limit of its own, and ends what takes longer; this one is for
/// a predecessor that hangs.
const PATIENCE: Duration = Duration::from_secs(700);
/// How long the end of a killed process may take. The kernel frees its memory first, on a machine that may be busy.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How long it takes to read what is there already.
const AT_ONCE: Duration = Duration::from_millis(50);

/// The process that is to be replaced by this one.
#[derive(Debug)]
pub(in crate::app) struct Forerunner {
    /// `None` once it has ended.
    channel: Option<Channel>,
    pid: u32,
    /// Is readable once that process has ended: once all that was its is free, which its other traces don't tell
    /// (`pidfd_open(2)`). The end of its channel comes before that of its sockets and locks, and whoever adopts its children
    /// does so while threads of it are still being ended.
    process: OwnedFd,
    stderr: Option<OwnedFd>,
    /// It goes on hearing what is in force.
    hears: bool,
    /// What it is to hear.
    told: Option<Receiver<Told>>,
}

impl Forerunner {
    /// Looks whether this process was started to replace another.
    pub(in crate::app) fn find() -> anyhow::Result<Option<Self>> {
        let Some(pid) = env::var(PREDECESSOR).ok().and_then(|text| text.parse().ok()) else {
            return Ok(None);
        };
        let channel = io::stdin().as_fd().try_clone_to_owned().context("the channel of the predecessor")?;
        let mut channel = Channel::from_descriptor(channel);
        let given = match channel.receive_descriptors(BEGINNING, Instant::now() + AT_ONCE) {
            Ok(given) => given,
            Err(error) if own_parent() == Some(pid) => {
                return Err(error).context("the channel of the predecessor");
            }
            // The variable alone may have come down from anywhere; with the channel it is meant for this process.
            Err(_) => return Ok(None),
        };
        rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
        let Ok([stderr, process]) = <[OwnedFd; BEGINNING]>::try_from(given) else {
            anyhow::bail!("the predecessor has given something else than what was its turn");
        };
        let stderr = Some(stderr);
        Ok(Some(Self { channel: Some(channel), pid, process, stderr, hears: false, told: None }))
    }

    /// Introduces this process, whose file is good, and waits for what it is given.
    pub(in crate::app) fn greet(&mut self) -> anyhow::Result<Heritage> {
        let hello = Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() };
        self.say(&FromSuccessor::Hello(hello))?;
        match self.hear()? {
            Some(FromPredecessor::Handover(handover)) => self.take(handover),
            Some(_) => anyhow::bail!("the predecessor has said something else than what was its turn"),
            None => Ok(Heritage::default()),
        }
    }

    fn take(&mut self, handover: Handover) -> anyhow::Result<Heritage> {
        let Handover { sockets: entries, memory, hears } = handover;
        self.hears = hears;
        let count = entries.iter().map(|entry| entry.count()).sum::<usize>();
        let Some(channel) = &mut self.channel else { return Ok(Heritage::default()) };
        match channel.receive_descriptors(count, Instant::now() + PATIENCE) {
            Ok(descriptors) => {
                Heritage::read(entries, descriptors, memory).context("what the predecessor gave")
            }
            Err(error) if has_ended(&error) => {
                self.ended()?;
                Ok(Heritage::default())
            }
            Err(error) => Err(error).context("the sockets of the predecessor"),
        }
    }

    /// Says that this process could serve, and waits until it is to.
    pub(in crate::app) fn await_go(&mut self) -> anyhow::Result<()> {
        self.say(&FromSuccessor::Ready)?;
        match self.hear()? {
            Some(FromPredecessor::Go) | None => {}
            Some(_) => anyhow::bail!("the predecessor has said something else than what was its turn"),
        }
        self.speak_for_itself()
    }

    /// Until now the predecessor has passed on what was written, to know why if this process had failed.
    fn speak_for_itself(&mut self) -> anyhow::Result<()> {
        if let Some(stderr) = self.stderr.take() {
            rustix::stdio::dup2_stderr(stderr)?;
        }
        Ok(())
    }

    /// Has the predecessor told of every change from now on; it hears them when this process serves.
    pub(in crate::app) fn lead(&mut self, succession: &Succession) {
        if self.hears && self.channel.is_some() {
            self.told = Some(succession.lead(self.pid));
        }
    }

    /// Says that this process serves, follows how its predecessor drains, and tells it what is in force.
    pub(in crate::app) fn serving(mut self, succession: Succession) -> anyhow::Result<()> {
        self.say(&FromSuccessor::Serving)?;
        let Some(mut channel) = self.channel else {
            succession.set_predecessor(None);
            return Ok(());
        };
        if let Some(told) = self.told.take() {
            let mut twin = channel.twin()?;
            // It ends with the line, or with the predecessor.
            let tell = move || {
                let say = |told| twin.send(&FromSuccessor::Told(told), Instant::now() + FOREVER).is_ok();
                told.into_iter().all(say)
            };
            std::thread::Builder::new().name("telling".into()).spawn(tell)?;
        }
        let (pid, process, since) = (self.pid, self.process, Instant::now());
        let follow = move || {
            let ended = loop {
                match channel.receive(Instant::now() + FOREVER) {
                    Ok(FromPredecessor::Left(standing)) => {
                        succession.set_predecessor(Some(Predecessor { pid, since, standing }));
                    }
                    Ok(_) => break false,
                    Err(error) => break has_ended(&error),
                }
            };
            if !ended {
                tracing::error!(
                    "the process that was replaced is not understood; what it still serves is not known"
                );
                let standing = Standing { connections: 1, ..Standing::default() };
                succession.set_predecessor(Some(Predecessor { pid, since, standing }));
            }
            await_end(&process, FOREVER);
            succession.set_predecessor(None);
        };
        std::thread::Builder::new().name("predecessor".into()).spawn(follow)?;
        Ok(())
    }

    fn say(&mut self, message: &FromSuccessor) -> anyhow::Result<()> {
        let Some(channel) = &mut self.channel else { return Ok(()) };
        match channel.send(message, Instant::now() + PATIENCE) {
            Err(error) if has_ended(&error) => self.ended(),
            sent => sent.context("the channel of the predecessor"),
        }
    }

    /// What the predecessor says; `None` if it has ended.
    fn hear(&mut self) -> anyhow::Result<Option<FromPredecessor>> {
        let Some(channel) = &mut self.channel else { return Ok(None) };
        match channel.receive(Instant::now() + PATIENCE) {
            Err(error) if has_ended(&error) => self.ended().map(|()| None),
            heard => heard.map(Some).context("the channel of the predecessor"),
        }
    }

    /// The predecessor was killed, and this process serves in its place. Waits until the kernel has taken all that was its.
    fn ended(&mut self) -> anyhow::Result<()> {
        self.channel = None;
        self.speak_for_itself()?;
        tracing::warn!(
            predecessor = self.pid,
            "the predecessor has ended before its time; this process goes on alone"
        );
        anyhow::ensure!(
            await_end(&self.process, END_WITHIN),
            "the predecessor has left its channel, and has not ended"
        );
        Ok(())
    }
}

/// Waits until a process has ended; says whether it has.
fn await_end(process: &OwnedFd, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a few years are within its range");
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            // There is no telling any more, and whoever waits would do so for nothing.
            Err(_) => return true,
        }
    }
}

fn own_parent() -> Option<u32> {
    getppid().map(Pid::as_raw_nonzero).and_then(|pid| u32::try_from(pid.get()).ok())
}
