//! What is made from the definition of the command line: completions and manual pages.

use std::{fs, path::Path};

use clap_complete::Shell;
use clap_mangen::Man;

use super::{Failure, command, output};

/// Prints the completions of a shell.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "switchback", &mut script);
    output::write_raw(&String::from_utf8_lossy(&script))
}

/// Prints the manual page, or writes those of all commands into a folder.
pub fn manual(folder: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        // What is written to memory is always written.
        Man::new(command()).render(&mut page).map_err(|error| Failure::Failed(error.to_string()))?;
        return output::write_raw(&String::from_utf8_lossy(&page));
    };
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command(), folder))
        .map_err(|error| Failure::Failed(format!("{} can't be written: {error}", folder.display())))
}
