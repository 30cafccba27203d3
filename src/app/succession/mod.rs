//! Replacing this process by a successor that serves on the very same sockets.
//!
//! The order: the successor is started and reads its file; this process refuses changes and gives the store up; the
//! successor gets the sockets and what is known, loads the state, and is ready; told to go, it serves; only then this
//! process accepts no more, and drains. A step that fails before ends the successor, and this process goes on as if nothing
//! had been.
//!
//! Invariant: at each moment there is a process that accepts, and at most one that takes changes.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use self::{
    channel::Channel,
    heritage::{Memory, offered},
    message::{FromPredecessor, FromSuccessor, Handover, Hello, PROTOCOL},
    program::Program,
};
use rustix::process::PidfdFlags;
use tokio::sync::mpsc;

use super::{Instance, service};
use crate::control::{
    file::File,
    succession::{Standing, SuccessionError, Successor, Told},
};

mod channel;
pub mod heritage;
mod message;
pub(super) mod past;
mod program;
pub(super) mod successor;

/// In the environment of a successor: the number of the process that it replaces.
const PREDECESSOR: &str = "SWITCHBACK_PREDECESSOR";
/// How many descriptors the channel begins with: the standard error of the predecessor, and one of its process.
const BEGINNING: usize = 2;
/// How long they may take into the channel: they are there before the successor is started.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// How long a successor that is ready may take to serve.
const SERVE_WITHIN: Duration = Duration::from_secs(10);
/// A successor may be silent for as long as this process lives.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How much of what a failed successor has said is told.
const TAIL: usize = 4 << 10;
/// How long the last words of a successor that has ended may take.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);

/// A successor that serves, as its predecessor knows it.
#[derive(Debug)]
pub(super) struct Relieved {
    pub(super) successor: Successor,
    channel: Channel,
}

impl Relieved {
    /// Where the successor is told how far this process has come. It is waited for on a thread of its own, as it may hang for a
    /// while and must not hear half a message then; it may have ended, too, which changes nothing here.
    pub(super) fn telling(&self) -> io::Result<SyncSender<Standing>> {
        let (telling, standings) = sync_channel(1);
        let mut twin = self.channel.twin()?;
        let tell = move || {
            let say = |left| twin.send(&FromPredecessor::Left(left), Instant::now() + FOREVER).is_ok();
            standings.into_iter().all(say)
        };
        std::thread::Builder::new().name("telling".into()).spawn(tell)?;
        Ok(telling)
    }

    /// Where what the successor says to be in force comes out, until it has ended.
    pub(super) fn told(&self) -> io::Result<mpsc::Receiver<Told>> {
        let (sender, told) = mpsc::channel(1);
        let mut twin = self.channel.twin()?;
        let hear = move || {
            while let Ok(FromSuccessor::Told(told)) = twin.receive(Instant::now() + FOREVER) {
                if sender.blocking_send(told).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("told".into()).spawn(hear)?;
        Ok(told)
    }
}

impl Instance {
    /// Starts a successor and hands over to it. If that fails, this process serves and takes changes as before.
    pub(super) async fn replace(
        &self,
        binary: Option<PathBuf>,
        timeout: Duration,
    ) -> Result<Relieved, SuccessionError> {
        if std::process::id() == 1 {
            return Err(SuccessionError::First);
        }
        let program = program::chosen(binary)?;
        tracing::info!(program = %program.path.display(), "a successor is started");
        service::reloading();
        let outcome = self.hand_over(program, timeout).await;
        match &outcome {
            Ok(relieved) => service::replaced_by(relieved.successor.pid),
            Err(error) => {
                tracing::error!(%error, "there is no successor; this process goes on");
                service::ready();
            }
        }
        outcome
    }

    async fn hand_over(&self, program: Program, timeout: Duration) -> Result<Relieved, SuccessionError> {
        let failed = |why: String| SuccessionError::Failed { why, said: String::new() };
        let (started, channel) = Started::new(&program).map_err(|error| failed(error.to_string()))?;
        let mut is_handed_over = false;
        match self.converse(channel, timeout, &mut is_handed_over).await {
            Ok((channel, hello)) => {
                let pid = started.release();
                let successor = Successor { pid, version: hello.version, binary: program.path };
                Ok(Relieved { successor, channel })
            }
            Err(error) => {
                let why = words(&error, timeout);
                let is_ending = has_ended(&error);
                let ended = blocking(move || Ok(started.end(is_ending))).await;
                if is_handed_over {
                    if let Err(error) = self.control.control.take_back().await {
                        tracing::error!(%error, "changes can't be taken yet: the state can't be had again");
                    }
                    // An edit of the hand-over was left to the successor.
                    self.file.iter().for_each(File::ask);
                }
                let said = ended.unwrap_or_default();
                Err(SuccessionError::Failed { why, said })
            }
        }
    }

    /// Goes through the steps; whatever fails, the successor is to be ended.
    async fn converse(
        &self,
        mut channel: Channel,
        timeout: Duration,
        is_handed_over: &mut bool,
    ) -> io::Result<(Channel, Hello)> {
        let deadline = Instant::now() + timeout;
        let (channel, hello) = blocking(move || match channel.receive(deadline)? {
            FromSuccessor::Hello(hello) if hello.protocol == PROTOCOL => Ok((channel, hello)),
            FromSuccessor::Hello(Hello { version, .. }) => {
                Err(io::Error::other(format!("its version, {version}, can't take over from this one")))
            }
            _ => Err(out_of_turn()),
        })
        .await?;
        // From here on changes are refused, and this comes before the store is given up: both are for the caller to undo.
        *is_handed_over = true;
        self.control.control.refuse_changes().await.map_err(io::Error::other)?;
        let memory = self.memory().await.to_value();
        self.control.control.hand_over().await.map_err(io::Error::other)?;
        let (sockets, descriptors) = offered(self.proxy.listeners.offer()?, self.control.offer()?);
        let handover = FromPredecessor::Handover(Handover { sockets, memory, hears: true });
        let channel = blocking(move || take_turns(channel, &handover, &descriptors, deadline)).await?;
        Ok((channel, hello))
    }

    /// What is known here, and what the store holds.
    async fn memory(&self) -> Memory {
        let control = &self.control.control;
        Memory {
            health: self.control.health.memory(Instant::now()),
            pin_key: Some(self.control.own_key.clone()),
            ticket_secret: Some(self.control.certificates.secret()),
            taken: control.snapshot().passed_taken(control.series()),
            past: self.control.past().await,
        }
    }
}

/// Hands over, and waits until the successor serves.
fn take_turns(
    mut channel: Channel,
    handover: &FromPredecessor,
    descriptors: &[OwnedFd],
    deadline: Instant,
) -> io::Result<Channel> {
    channel.send(handover, deadline)?;
    channel.send_descriptors(descriptors, deadline)?;
    let FromSuccessor::Ready = channel.receive(deadline)? else { return Err(out_of_turn()) };
    let soon = Instant::now() + SERVE_WITHIN;
    channel.send(&FromPredecessor::Go, soon)?;
    let FromSuccessor::Serving = channel.receive(soon)? else { return Err(out_of_turn()) };
    Ok(channel)
}

fn out_of_turn() -> io::Error {
    io::Error::other("it has said something else than what was its turn")
}

/// Why a step failed, for people.
fn words(error: &io::Error, timeout: Duration) -> String {
    match error.kind() {
        _ if has_ended(error) => "it ended before it served".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            format!("it took longer than {}", humantime::format_duration(timeout))
        }
        ErrorKind::InvalidData => "it does not speak as a Switchback does".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether the other end of a channel is gone.
fn has_ended(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Does something that waits for the successor, while signals are heard.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A successor that does not serve yet. It is killed if this is dropped.
#[derive(Debug)]
struct Started {
    child: Option<Child>,
    channel: Channel,
    said: Arc<Mutex<String>>,
    listening: Option<JoinHandle<()>>,
}

impl Started {
    /// Starts it with the arguments of this process, and the channel as its standard input.
    fn new(program: &Program) -> io::Result<(Self, Channel)> {
        let (mut channel, theirs) = Channel::pair()?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let process = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        // Before it is started: it knows where to write to and whom to wait for even if this process is killed in the next
        // moment.
        let beginning: [OwnedFd; BEGINNING] = [stderr, process];
        channel.send_descriptors(&beginning, Instant::now() + BEGIN_WITHIN)?;
        let mut child = Command::new(&program.file)
            .arg0(&program.path)
            .args(std::env::args_os().skip(1))
            .env(PREDECESSOR, std::process::id().to_string())
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .stdin(Stdio::from(theirs))
            .stderr(Stdio::piped())
            .spawn()?;
        let said = Arc::default();
        let stderr = child.stderr.take();
        let twin = channel.twin()?;
        let mut started =
            Self { child: Some(child), channel: twin, said: Arc::clone(&said), listening: None };
        if let Some(stderr) = stderr {
            let listen = move || pass_on(stderr, &said);
            started.listening = Some(std::thread::Builder::new().name("successor".into()).spawn(listen)?);
        }
        Ok((started, channel))
    }

    /// Lets it live; answers the number of its process.
    #[expect(clippy::zombie_processes, reason = "it outlives this process")]
    fn release(mut self) -> u32 {
        let child = self.child.take().expect("it is taken by what consumes this alone");
        child.id()
    }

    /// Ends it, and answers the last that it has said. One that `is_ending` has gone from the channel, and may be about to
    /// say why.
    fn end(mut self, is_ending: bool) -> String {
        let deadline = Instant::now() + LAST_WORDS_WITHIN;
        let runs = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        while is_ending && self.child.as_mut().is_some_and(runs) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        let deadline = Instant::now() + LAST_WORDS_WITHIN;
        // What it has started itself may hold the pipe for longer.
        while self.listening.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; it is waited for in any case, so that all that was its is free again.
            let _ = child.kill();
            let _ = child.wait();
            // What it has started itself may hold the other end, and somebody here may wait for it to speak.
            self.channel.close();
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Passes on what a successor says, and remembers the end of it.
fn pass_on(stderr: ChildStderr, said: &Mutex<String>) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    while matches!(io::Read::take(&mut lines, TAIL as u64).read_until(b'\n', &mut line), Ok(1..)) {
        let _ = io::stderr().write_all(&line);
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(&String::from_utf8_lossy(&line));
        let over = said.len().saturating_sub(TAIL);
        let start = (over..said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(said.len());
        said.drain(..start);
        line.clear();
    }
}
