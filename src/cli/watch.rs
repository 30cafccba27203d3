//! Shows something again and again, until interrupted.

use std::{
    io::{IsTerminal, stdout},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{Failure, ending, output};

/// To the upper left corner, and erase what is below. The screen is not erased first, or it would flicker.
const HOME: &str = "\x1b[H";
const ERASE_LINE: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";

/// Shows what is read again and again: on a terminal in the same place, elsewhere block after block, and as JSON an object
/// a line. The first reading has to succeed; after that an instance that is away, or is just being replaced, is waited for.
pub fn watch(
    json: bool,
    every: Duration,
    read: impl Fn() -> Result<Value, Failure>,
    human: impl Fn(&Value) -> String,
) -> Result<(), Failure> {
    ending::end_well()?;
    let is_terminal = stdout().is_terminal();
    let mut shown = read()?;
    let mut trouble: Option<String> = None;
    if is_terminal && !json {
        output::write_raw("\x1b[2J")?;
    }
    loop {
        match &trouble {
            None if json => output::print_line(&shown)?,
            Some(failure) if json || !is_terminal => output::note(failure),
            _ => {
                let trouble = trouble.as_ref().map_or_else(String::new, |failure| format!("{failure}\n\n"));
                let text = output::harmless(&trouble) + &output::worded(&shown, &human);
                output::write(&if is_terminal { in_place(&text) } else { text + "\n" })?;
            }
        }
        thread::sleep(every);
        match read() {
            Ok(now) => (shown, trouble) = (now, None),
            Err(Failure::NotReachable(why)) => trouble = Some(why),
            Err(other) => return Err(other),
        }
    }
}

fn in_place(text: &str) -> String {
    format!("{HOME}{}{ERASE_BELOW}", text.replace('\n', &format!("{ERASE_LINE}\n")))
}
