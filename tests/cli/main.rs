//! The command line against a running instance: what it prints, and the exit codes that scripts rely on.

#[path = "../admin_support/mod.rs"]
mod admin_support;
#[path = "../support/port.rs"]
mod port;

mod calls;
mod client_file;
mod documentation;
mod events;
mod history;
mod pools;
mod run;
mod terminal;
mod terms;
mod tokens;
mod watching;
