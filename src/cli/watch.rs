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
/// Long lines are cut by the terminal, not wrapped, while it is drawn.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

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
    let (mut trouble, mut is_said) = (None::<String>, false);
    if is_terminal && !json {
        output::write_raw("\x1b[2J")?;
    }
    loop {
        match &trouble {
            None if json => output::print_line(&shown)?,
            // Said once, not with every try.
            Some(failure) if json || !is_terminal => {
                if !is_said {
                    output::note(failure);
                }
                is_said = true;
            }
            _ => {
                let trouble = trouble.as_ref().map_or_else(String::new, |failure| format!("{failure}\n\n"));
                let text = output::harmless(&trouble) + &output::worded(&shown, &human);
                output::write(&if is_terminal { in_place(&text, rows()) } else { text + "\n" })?;
            }
        }
        thread::sleep(every);
        match read() {
            Ok(now) => (shown, trouble, is_said) = (now, None, false),
            Err(Failure::NotReachable(why)) => trouble = Some(why),
            Err(other) => return Err(other),
        }
    }
}

/// A text for the upper left corner. What does not fit is left out: a terminal that scrolls shows nothing in its place.
fn in_place(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (shown, left_out) = match lines.len() {
        all if all < rows => (&lines[..], String::new()),
        all => {
            // The last row is the cursor's, and the one above it says how much is missing.
            let shown = rows.saturating_sub(2);
            (&lines[..shown], format!("({} more lines){ERASE_LINE}\n", all - shown))
        }
    };
    let shown: String = shown.iter().map(|line| format!("{line}{ERASE_LINE}\n")).collect();
    format!("{HOME}{NO_WRAP}{shown}{left_out}{WRAP}{ERASE_BELOW}")
}

/// How many rows the terminal has; all that there could be, if it does not say.
fn rows() -> usize {
    let rows = rustix::termios::tcgetwinsize(stdout()).map_or(0, |size| size.ws_row);
    if rows == 0 { usize::MAX } else { rows.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let shown = |text: &str, rows| in_place(text, rows).replace(ERASE_LINE, "");
        let framed = |text: &str| format!("{HOME}{NO_WRAP}{text}{WRAP}{ERASE_BELOW}");
        assert_eq!(shown("a\nb\n", usize::MAX), framed("a\nb\n"));
        assert_eq!(shown("a\nb\n", 3), framed("a\nb\n"));
        assert_eq!(shown("a\nb\nc\n", 3), framed("a\n(2 more lines)\n"));
        assert_eq!(shown("a\nb\n", 1), framed("(2 more lines)\n"));
    }
}
