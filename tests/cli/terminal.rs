//! Terminals, as programs see them: what is shown there, line by line.

use std::{fs::File, io::Read, process::Stdio};

use rustix::pty::{self, OpenptFlags};

/// A terminal, and the side of it that a program writes to.
pub fn terminal() -> (File, Stdio) {
    let ours = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    pty::grantpt(&ours).expect("our own terminal");
    pty::unlockpt(&ours).expect("our own terminal");
    let name = pty::ptsname(&ours, Vec::new()).expect("it has a name");
    let name = name.into_string().expect("a path of the system's");
    let theirs = File::options().read(true).write(true).open(name).expect("the terminal's other side");
    (ours.into(), theirs.into())
}

/// Reads what is shown until it ends in a text; answers all of it.
pub fn read_until(shown: &mut impl Read, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.ends_with(end) {
        let read = shown.read(&mut buffer).expect("the command writes on");
        assert_ne!(read, 0, "it ended: {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).expect("it writes UTF-8"));
    }
    text
}

/// What a terminal shows until nobody writes to it any more.
pub fn rest(shown: &mut File) -> String {
    let mut bytes = Vec::new();
    // Its end is an error to whoever reads: the other side is closed.
    shown.read_to_end(&mut bytes).ok();
    String::from_utf8(bytes).expect("it writes UTF-8")
}
